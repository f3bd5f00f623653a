"""Drives the local Kinesis with the `aws` command, as scripts do, over several pages where there is more than one.

    kinesink local --transitions 0s -- python tests/peers/awscli/run.py

Everything comes from the environment that `kinesink local` sets. A change is complete when it is answered, because each
command takes half a second of its own. Ends with `N passed, N failed`.
"""

import base64
import json
import os
import pathlib
import subprocess
import sys
import unittest
import urllib.request

AWS = pathlib.Path(sys.executable).parent / "aws"
SECONDS_MAX = 60


class CommandLine(unittest.TestCase):
    def setUp(self):
        self.stream = self.id().rsplit(".", 1)[1].replace("_", "-")

    def run_aws(self, *arguments):
        command = [AWS, "kinesis", *arguments, "--output", "json", "--cli-connect-timeout", "5"]
        return subprocess.run(command, capture_output=True, timeout=SECONDS_MAX, stdin=subprocess.DEVNULL)

    def aws(self, *arguments):
        done = self.run_aws(*arguments)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return json.loads(done.stdout) if done.stdout.strip() else None

    def refused(self, *arguments):
        done = self.run_aws(*arguments)
        self.assertNotEqual(done.returncode, 0)
        return done.stderr.decode()

    def create(self, shards, name=None):
        name = name or self.stream
        self.aws("create-stream", "--stream-name", name, "--shard-count", str(shards))

    def summary(self):
        reply = self.aws("describe-stream-summary", "--stream-name", self.stream)
        return reply["StreamDescriptionSummary"]

    def test_records_go_in_and_come_out(self):
        self.create(1)
        put = self.aws("put-record", "--stream-name", self.stream, "--partition-key", "k", "--data", "one")
        records = [{"Data": data, "PartitionKey": "k"} for data in ("two", "three")]
        reply = self.aws("put-records", "--stream-name", self.stream, "--records", json.dumps(records))
        self.assertEqual(reply["FailedRecordCount"], 0)
        start = ["--shard-id", put["ShardId"], "--shard-iterator-type", "TRIM_HORIZON"]
        iterator = self.aws("get-shard-iterator", "--stream-name", self.stream, *start)["ShardIterator"]
        found = self.aws("get-records", "--shard-iterator", iterator)["Records"]
        self.assertEqual([base64.b64decode(record["Data"]) for record in found], [b"one", b"two", b"three"])

    def test_streams_are_listed_over_several_pages(self):
        names = [f"{self.stream}-{number}" for number in range(3)]
        for name in names:
            self.create(1, name)
        listed = self.aws("list-streams", "--page-size", "2")["StreamNames"]
        self.assertEqual([name for name in listed if name in names], names)
        self.assertEqual(len(listed), len(set(listed)))
        first = self.aws("list-streams", "--max-items", "1")
        self.assertEqual(len(first["StreamNames"]), 1)
        rest = self.aws("list-streams", "--starting-token", first["NextToken"])["StreamNames"]
        self.assertEqual(first["StreamNames"] + rest, listed)

    def test_shards_are_described_over_several_pages(self):
        self.create(5)
        pages = self.aws("describe-stream", "--stream-name", self.stream, "--page-size", "2")
        shards = [shard["ShardId"] for shard in pages["StreamDescription"]["Shards"]]
        self.assertEqual(shards, [f"shardId-{number:012}" for number in range(5)])

    def test_consumers_are_listed_over_several_pages(self):
        self.create(1)
        arn = self.summary()["StreamARN"]
        names = [f"reader{number}" for number in range(3)]
        for name in names:
            self.aws("register-stream-consumer", "--stream-arn", arn, "--consumer-name", name)
        listed = self.aws("list-stream-consumers", "--stream-arn", arn, "--page-size", "2")["Consumers"]
        self.assertEqual([consumer["ConsumerName"] for consumer in listed], names)

    def test_a_stream_is_resharded(self):
        self.create(1)
        split = ["--shard-to-split", "shardId-000000000000", "--new-starting-hash-key", str(2**127)]
        self.aws("split-shard", "--stream-name", self.stream, *split)
        self.aws("wait", "stream-exists", "--stream-name", self.stream)
        count = ["--target-shard-count", "4", "--scaling-type", "UNIFORM_SCALING"]
        reply = self.aws("update-shard-count", "--stream-name", self.stream, *count)
        self.assertEqual((reply["CurrentShardCount"], reply["TargetShardCount"]), (2, 4))
        self.assertEqual(self.summary()["OpenShardCount"], 4)

    def test_tags_and_retention_are_kept(self):
        self.create(1)
        self.aws("add-tags-to-stream", "--stream-name", self.stream, "--tags", "team=a,stage=test")
        tags = self.aws("list-tags-for-stream", "--stream-name", self.stream)["Tags"]
        self.assertEqual({tag["Key"]: tag["Value"] for tag in tags}, {"team": "a", "stage": "test"})
        longer = ["--retention-period-hours", "48"]
        self.aws("increase-stream-retention-period", "--stream-name", self.stream, *longer)
        self.assertEqual(self.summary()["RetentionPeriodHours"], 48)

    def test_errors_are_the_service_s_own(self):
        missing = self.refused("describe-stream", "--stream-name", "never-was")
        self.assertIn("(ResourceNotFoundException)", missing)
        self.create(1)
        twice = self.refused("create-stream", "--stream-name", self.stream, "--shard-count", "1")
        self.assertIn("(ResourceInUseException)", twice)
        self.assertIn("(ExpiredIteratorException)", self.expired())

    def expired(self):
        start = ["--shard-id", "shardId-000000000000", "--shard-iterator-type", "TRIM_HORIZON"]
        iterator = self.aws("get-shard-iterator", "--stream-name", self.stream, *start)["ShardIterator"]
        self.fault({"operation": "GetRecords", "kind": {"error": {"code": "ExpiredIteratorException"}}})
        return self.refused("get-records", "--shard-iterator", iterator)

    def fault(self, fault):
        url = os.environ["AWS_ENDPOINT_URL_KINESIS"] + "/_kinesink/faults"
        request = urllib.request.Request(url, json.dumps([fault]).encode(), {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=5).close()


def main():
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
