"""Drives the local services with the clients that people have: boto3 and the `aws` command.

    KINESINK=kinesink kinesink local -- python tests/peers/boto3/run.py

Everything comes from the environment that `kinesink local` sets; nothing here names an address. Shares no code with
what it tests: the expected shard of a key, for one, is worked out here from MD5. Ends with `N passed, N failed`.
"""

import collections
import gzip
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import unittest

import boto3
from botocore.config import Config

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
FLIGHTS = REPOSITORY / "crates" / "cli" / "data" / "flights.ndjson.gz"
AWS = pathlib.Path(sys.executable).parent / "aws"

# A service that hangs is a failure within seconds, and one that fails is not asked again.
CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 1})
READS_MAX = 200


def flights(count):
    """The first lines of the demo's records, as bytes."""
    with gzip.open(FLIGHTS) as lines:
        return [line.rstrip(b"\n") for line, _ in zip(lines, range(count))]


def hash_key(partition_key):
    return int.from_bytes(hashlib.md5(partition_key.encode()).digest(), "big")


def hash_range(shard):
    keys = shard["HashKeyRange"]
    return int(keys["StartingHashKey"]), int(keys["EndingHashKey"])


class Kinesis(unittest.TestCase):
    def setUp(self):
        self.client = boto3.client("kinesis", config=CONFIG)
        self.stream = self.id().rsplit(".", 1)[1]

    def create(self, shards):
        self.client.create_stream(StreamName=self.stream, ShardCount=shards)
        self.wait()

    def wait(self):
        self.client.get_waiter("stream_exists").wait(
            StreamName=self.stream, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
        )

    def shards(self):
        return self.client.list_shards(StreamName=self.stream)["Shards"]

    def put(self, lines, key=lambda line: json.loads(line)["tailnum"] or "none"):
        results = []
        for start in range(0, len(lines), 500):
            batch = [{"Data": line, "PartitionKey": key(line)} for line in lines[start : start + 500]]
            reply = self.client.put_records(StreamName=self.stream, Records=batch)
            self.assertEqual(reply["FailedRecordCount"], 0)
            results += reply["Records"]
        return results

    def iterator(self, shard, kind="TRIM_HORIZON", **arguments):
        return self.client.get_shard_iterator(
            StreamName=self.stream, ShardId=shard, ShardIteratorType=kind, **arguments
        )["ShardIterator"]

    def read(self, iterator):
        """Records up to the tip or the end of the shard, and the last reply."""
        records = []
        for _ in range(READS_MAX):
            reply = self.client.get_records(ShardIterator=iterator, Limit=1000)
            records += reply["Records"]
            iterator = reply.get("NextShardIterator")
            if iterator is None or (not reply["Records"] and reply["MillisBehindLatest"] == 0):
                return records, reply
        raise AssertionError(f"{READS_MAX} reads did not reach the tip")

    def read_all(self):
        return [record for shard in self.shards() for record in self.read(self.iterator(shard["ShardId"]))[0]]

    def test_what_is_put_is_read(self):
        self.create(4)
        lines = flights(2000)
        self.put(lines)
        self.assertEqual(collections.Counter(record["Data"] for record in self.read_all()), collections.Counter(lines))

    def test_a_key_goes_to_the_shard_of_its_md5(self):
        self.create(3)
        ranges = {shard["ShardId"]: hash_range(shard) for shard in self.shards()}
        self.assertEqual(sum(end - start + 1 for start, end in ranges.values()), 2**128)
        lines = flights(300)
        for line, result in zip(lines, self.put(lines)):
            start, end = ranges[result["ShardId"]]
            self.assertTrue(start <= hash_key(json.loads(line)["tailnum"] or "none") <= end)

    def test_an_explicit_hash_key_overrides_the_key(self):
        self.create(2)
        last = self.shards()[-1]
        _, end = hash_range(last)
        reply = self.client.put_record(
            StreamName=self.stream, Data=b"x", PartitionKey="any", ExplicitHashKey=str(end)
        )
        self.assertEqual(reply["ShardId"], last["ShardId"])

    def test_sequence_numbers_grow_within_a_shard(self):
        self.create(2)
        self.put(flights(200))
        for shard in self.shards():
            numbers = [int(record["SequenceNumber"]) for record in self.read(self.iterator(shard["ShardId"]))[0]]
            self.assertGreater(len(numbers), 0)
            self.assertEqual(numbers, sorted(set(numbers)))

    def test_each_kind_of_iterator_starts_where_it_says(self):
        self.create(1)
        shard = self.shards()[0]["ShardId"]
        results = self.put([b"a", b"b", b"c"], key=str)
        at_the_tip = self.iterator(shard, "LATEST")
        self.put([b"d"], key=str)
        second = results[1]["SequenceNumber"]
        records, _ = self.read(self.iterator(shard))

        def data(iterator):
            return b"".join(record["Data"] for record in self.read(iterator)[0])

        self.assertEqual(data(self.iterator(shard, "TRIM_HORIZON")), b"abcd")
        self.assertEqual(data(self.iterator(shard, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=second)), b"bcd")
        self.assertEqual(data(self.iterator(shard, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=second)), b"cd")
        self.assertEqual(data(at_the_tip), b"d")
        arrival = records[0]["ApproximateArrivalTimestamp"]
        self.assertEqual(data(self.iterator(shard, "AT_TIMESTAMP", Timestamp=arrival)), b"abcd")

    def test_bytes_of_any_kind_survive(self):
        self.create(1)
        every_byte, large = bytes(range(256)), os.urandom(1024 * 1024 - 8)
        self.put([every_byte, large], key=lambda data: "k")
        self.assertEqual([record["Data"] for record in self.read_all()], [every_byte, large])

    def test_a_split_shard_ends_and_names_its_children(self):
        self.create(1)
        parent = self.shards()[0]
        before = flights(100)
        self.put(before)
        start, end = hash_range(parent)
        self.client.split_shard(
            StreamName=self.stream, ShardToSplit=parent["ShardId"], NewStartingHashKey=str((start + end) // 2 + 1)
        )
        self.wait()
        children = [shard for shard in self.shards() if shard.get("ParentShardId") == parent["ShardId"]]
        self.assertEqual(len(children), 2)
        self.assertEqual(sum(end - start for start, end in map(hash_range, children)), end - start - 1)
        after = flights(300)[100:]
        where = {result["ShardId"] for result in self.put(after)}
        self.assertEqual(where, {child["ShardId"] for child in children})

        old, last_reply = self.read(self.iterator(parent["ShardId"]))
        self.assertEqual([record["Data"] for record in old], before)
        self.assertNotIn("NextShardIterator", last_reply)
        named = {child["ShardId"] for child in last_reply["ChildShards"]}
        self.assertEqual(named, {child["ShardId"] for child in children})
        everything = collections.Counter(record["Data"] for record in self.read_all())
        self.assertEqual(everything, collections.Counter(before + after))

    def test_merged_shards_have_one_child_with_two_parents(self):
        self.create(2)
        first, second = self.shards()
        self.client.merge_shards(
            StreamName=self.stream, ShardToMerge=first["ShardId"], AdjacentShardToMerge=second["ShardId"]
        )
        self.wait()
        [child] = [shard for shard in self.shards() if shard.get("ParentShardId")]
        parents = {child["ParentShardId"], child["AdjacentParentShardId"]}
        self.assertEqual(parents, {first["ShardId"], second["ShardId"]})
        self.assertEqual(hash_range(child), (0, 2**128 - 1))

    def test_shards_are_listed_in_pages(self):
        self.create(5)
        # Not boto3's paginator: it sends the stream's name beside the token, which the service refuses.
        page = self.client.list_shards(StreamName=self.stream, MaxResults=2)
        pages = [page["Shards"]]
        while "NextToken" in page and len(pages) < 5:
            page = self.client.list_shards(NextToken=page["NextToken"], MaxResults=2)
            pages.append(page["Shards"])
        self.assertEqual([len(shards) for shards in pages], [2, 2, 1])
        self.assertEqual(len({shard["ShardId"] for shards in pages for shard in shards}), 5)

    def test_mistakes_are_the_service_s_own_errors(self):
        errors = self.client.exceptions
        with self.assertRaises(errors.ResourceNotFoundException):
            self.client.describe_stream_summary(StreamName="no-such-stream")
        self.create(1)
        with self.assertRaises(errors.ResourceInUseException):
            self.client.create_stream(StreamName=self.stream, ShardCount=1)
        with self.assertRaises(errors.InvalidArgumentException):
            self.iterator(self.shards()[0]["ShardId"], "AT_SEQUENCE_NUMBER", StartingSequenceNumber="1")

    def test_a_deleted_stream_is_gone(self):
        self.create(1)
        self.client.delete_stream(StreamName=self.stream)
        self.client.get_waiter("stream_not_exists").wait(
            StreamName=self.stream, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
        )
        self.assertNotIn(self.stream, self.client.list_streams()["StreamNames"])


class DynamoDB(unittest.TestCase):
    """What a lease table needs: conditions that hold, and items that come back whole."""

    def test_a_conditional_write_fences(self):
        client = boto3.client("dynamodb", config=CONFIG)
        client.create_table(
            TableName="leases",
            KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        client.get_waiter("table_exists").wait(TableName="leases", WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        row = {"leaseKey": {"S": "shardId-000000000000"}, "leaseCounter": {"N": "7"}, "parents": {"SS": ["a", "b"]}}
        client.put_item(TableName="leases", Item=row)

        def renew(expected):
            client.update_item(
                TableName="leases",
                Key={"leaseKey": row["leaseKey"]},
                UpdateExpression="SET leaseCounter = :new",
                ConditionExpression="leaseCounter = :old",
                ExpressionAttributeValues={":old": {"N": expected}, ":new": {"N": "8"}},
            )

        renew("7")
        with self.assertRaises(client.exceptions.ConditionalCheckFailedException):
            renew("7")
        [item] = client.scan(TableName="leases", ConsistentRead=True)["Items"]
        self.assertEqual(item["leaseCounter"], {"N": "8"})
        self.assertEqual(sorted(item["parents"]["SS"]), ["a", "b"])


class CommandLine(unittest.TestCase):
    """The `aws` command, for the same services."""

    def aws(self, *arguments):
        command = [AWS, *arguments, "--output", "json", "--cli-connect-timeout", "5", "--cli-read-timeout", "20"]
        done = subprocess.run(command, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return json.loads(done.stdout) if done.stdout.strip() else None

    def test_a_record_goes_in_and_comes_out(self):
        stream = ["--stream-name", "from-the-shell"]
        self.aws("kinesis", "create-stream", *stream, "--shard-count", "1")
        self.aws("kinesis", "wait", "stream-exists", *stream)
        put = self.aws("kinesis", "put-record", *stream, "--partition-key", "k", "--data", "hello")
        start = ["--shard-id", put["ShardId"], "--shard-iterator-type", "TRIM_HORIZON"]
        iterator = self.aws("kinesis", "get-shard-iterator", *stream, *start)["ShardIterator"]
        [record] = self.aws("kinesis", "get-records", "--shard-iterator", iterator)["Records"]
        self.assertEqual(record["Data"], "aGVsbG8=")
        self.assertEqual(record["SequenceNumber"], put["SequenceNumber"])
        summary = self.aws("kinesis", "describe-stream-summary", *stream)["StreamDescriptionSummary"]
        self.assertEqual((summary["StreamStatus"], summary["OpenShardCount"]), ("ACTIVE", 1))
        self.assertIn("TableNames", self.aws("dynamodb", "list-tables"))


def run(*modules):
    """Runs the tests of the modules, and says how many have passed."""
    suite = unittest.defaultTestLoader.loadTestsFromNames(modules)
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run(__name__, "s3_objects", "s3_race", "s3_sink", "s3_cuts", "s3_places"))
