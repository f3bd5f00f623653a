"""Workers of the Java Kinesis Client Library read a stream that is resharded under them.

    kinesink local -- python tests/peers/java/run_kcl.py BUILD_DIR [polling] [fan-out]

One JVM has two workers, one that polls and one with fan-out (KclWorker.java), each with a journal. This program puts
100,000 records, splits the stream twice, merges once and updates it to 8 shards meanwhile, and writes down what the
service answered to each record. Then each journal must have each record once, as it was put, in its shard and in order,
no shard's child before the end of its parents, and the lease tables the last checkpoints. Ends with `N passed, N failed`.
"""

import collections
import contextlib
import hashlib
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import boto3
from botocore.config import Config

BUILD = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/java-peers")
STREAM = "java-kcl"
RECORDS = 100_000
SHARDS = 4
RECORD_BYTES_MAX = 600
MODES = sys.argv[2:] or ["polling", "fan-out"]
PARENTS = ("ParentShardId", "AdjacentParentShardId")
# The library waits up to 40 s by itself before it reads a new application's first record.
START_SECONDS_MAX = 90
# Without a new record for so long, none will come.
STALL_SECONDS_MAX = 45
RESHARD_SECONDS_MAX = 60
PUTS_PER_BATCH_MAX = 200

CONFIG = Config(connect_timeout=5, read_timeout=30)
KINESIS = boto3.client("kinesis", config=CONFIG)
DYNAMODB = boto3.client("dynamodb", config=CONFIG)

Put = collections.namedtuple("Put", "shard sequence_number partition_key digest")


class Producer:
    """Puts records of random sizes and keys, and remembers where each one went."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.put = []
        self.throttled = 0

    def batch(self):
        """A batch until each of its records is accepted: a throttled one is sent again, as a producer has to."""
        entries = []
        for number in range(len(self.put), len(self.put) + 500):
            data = f"{number}:".encode() + self.random.randbytes(self.random.randrange(RECORD_BYTES_MAX))
            entries.append({"Data": data, "PartitionKey": f"key-{self.random.getrandbits(32)}"})
        for _ in range(PUTS_PER_BATCH_MAX):
            reply = KINESIS.put_records(StreamName=STREAM, Records=entries)
            refused = []
            for entry, result in zip(entries, reply["Records"]):
                if "ErrorCode" in result:
                    refused.append(entry)
                    continue
                digest = hashlib.sha256(entry["Data"]).hexdigest()
                self.put.append(Put(result["ShardId"], result["SequenceNumber"], entry["PartitionKey"], digest))
            entries = refused
            self.throttled += len(refused)
            if not entries:
                return
            time.sleep(0.1)
        raise RuntimeError(f"{len(entries)} records were refused {PUTS_PER_BATCH_MAX} times")

    def until(self, count):
        while len(self.put) < count:
            self.batch()


def shards():
    """Open and closed, by id; they fit one page."""
    return {shard["ShardId"]: shard for shard in KINESIS.list_shards(StreamName=STREAM)["Shards"]}


def open_shards():
    """By hash key, so that neighbours in the list are neighbours."""
    is_open = [shard for shard in shards().values() if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]
    return sorted(is_open, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))


def wait_active():
    deadline = time.monotonic() + RESHARD_SECONDS_MAX
    while time.monotonic() < deadline:
        summary = KINESIS.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]
        if summary["StreamStatus"] == "ACTIVE":
            return
        time.sleep(0.2)
    raise RuntimeError(f"{STREAM} is not active after {RESHARD_SECONDS_MAX} s")


def split(index):
    shard = open_shards()[index]
    start, end = (int(shard["HashKeyRange"][name]) for name in ("StartingHashKey", "EndingHashKey"))
    KINESIS.split_shard(
        StreamName=STREAM, ShardToSplit=shard["ShardId"], NewStartingHashKey=str((start + end) // 2 + 1)
    )


def merge(index):
    first, second = open_shards()[index : index + 2]
    KINESIS.merge_shards(
        StreamName=STREAM, ShardToMerge=first["ShardId"], AdjacentShardToMerge=second["ShardId"]
    )


def update(count):
    KINESIS.update_shard_count(StreamName=STREAM, TargetShardCount=count, ScalingType="UNIFORM_SCALING")


# A child of the first split is split again, and one of that split's children merged: generations in a row.
RESHARDINGS = (lambda: split(0), lambda: split(1), lambda: merge(1), lambda: update(8))


class Journal:
    """What a worker has written so far."""

    def __init__(self, path):
        self.path = path
        self.lines = []
        self.read_bytes = 0
        self.count = 0

    def refresh(self):
        """Reads the lines that are new; how many records there are now."""
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self.read_bytes)
            text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self.read_bytes += len(whole)
            new = [line.split("\t") for line in whole.decode().splitlines()]
            self.count += sum(line[0] == "record" for line in new)
            self.lines += new
        return self.count

    def records(self):
        return [Put(*line[1:]) for line in self.lines if line[0] == "record"]


def say(what, started=time.monotonic()):
    print(f"{time.monotonic() - started:5.1f} s: {what}", flush=True)


def await_first_records(journals):
    deadline = time.monotonic() + START_SECONDS_MAX
    while not all([journal.refresh() for journal in journals.values()]):
        if time.monotonic() > deadline:
            raise RuntimeError(f"no first record of {[m for m in journals if not journals[m].count]}")
        time.sleep(0.2)


def await_all_records(journals, count):
    """Returns when each journal has that many records, or when nothing more comes: the tests then say what lacks."""
    seen, deadline = None, 0
    while True:
        counts = {mode: journal.refresh() for mode, journal in journals.items()}
        if counts != seen:
            seen, deadline = counts, time.monotonic() + STALL_SECONDS_MAX
        if all(has >= count for has in counts.values()) or time.monotonic() > deadline:
            return counts
        time.sleep(0.2)


def run(directory):
    """Puts, reshards and reads; what was put and what each worker saw."""
    KINESIS.create_stream(StreamName=STREAM, ShardCount=SHARDS)
    wait_active()
    command = ["java", *os.environ.get("JAVA_OPTS", "-Xmx1g").split(), "-Dorg.slf4j.simpleLogger.defaultLogLevel=" + os.environ.get("KCL_LOG", "error")]
    command += ["-cp", f"{BUILD}/classes:{BUILD}/lib/*", "kinesink.peers.KclWorker", STREAM, str(directory), *MODES]
    # Or the SDK asks the metadata address of EC2 who it is.
    environment = os.environ | {"AWS_EC2_METADATA_DISABLED": "true"}
    journals = {mode: Journal(directory / f"{mode}.tsv") for mode in MODES}
    producer = Producer(seed=1)
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as workers:
        try:
            producer.until(RECORDS // 5)
            say(f"{len(producer.put)} records put")
            await_first_records(journals)
            say("both workers read")
            for generation, reshard in enumerate(RESHARDINGS, start=2):
                reshard()
                producer.until(RECORDS * generation // 5)
                wait_active()
                say(f"{len(producer.put)} records put, {len(open_shards())} shards open")
            say(f"{producer.throttled} records were throttled and put again")
            say(f"read: {await_all_records(journals, len(producer.put))}")
            workers.communicate(timeout=60)
        finally:
            workers.kill()
    say(f"workers stopped with {workers.returncode}")
    for journal in journals.values():
        journal.refresh()
    return producer.put, journals, workers.returncode


class Kcl(unittest.TestCase):
    put = ()
    journals = {}
    exit_code = None

    def test_each_record_arrives_once_as_it_was_put(self):
        self.assertEqual(len(set(self.put)), RECORDS)
        for mode, journal in self.journals.items():
            with self.subTest(mode):
                wanted, got = collections.Counter(self.put), collections.Counter(journal.records())
                lost, foreign = (wanted - got).total(), (got - wanted).total()
                self.assertEqual((lost, foreign), (0, 0), "records lost, and records twice or not as put")

    def test_sequence_numbers_grow_within_a_shard(self):
        for mode, journal in self.journals.items():
            with self.subTest(mode):
                last = collections.defaultdict(int)
                for record in journal.records():
                    self.assertGreater(int(record.sequence_number), last[record.shard])
                    last[record.shard] = int(record.sequence_number)

    def test_children_are_read_after_the_end_of_their_parents(self):
        lineage = shards()
        # Two splits and a merge make six pairs of parent and child; those of the update come on top.
        pairs = [(shard[name], child) for child, shard in lineage.items() for name in PARENTS if name in shard]
        self.assertGreater(len(pairs), 6)
        for mode, journal in self.journals.items():
            with self.subTest(mode):
                first = {}
                for place, (what, shard, *_) in enumerate(journal.lines):
                    first.setdefault((what, shard), place)
                for parent, child in pairs:
                    self.assertLess(first["ended", parent], first["gained", child], f"{child} of {parent}")

    def test_a_shard_is_ended_if_it_was_resharded(self):
        is_open = {shard["ShardId"] for shard in open_shards()}
        self.assertEqual(len(is_open), 8)
        for mode, journal in self.journals.items():
            with self.subTest(mode):
                ended = [line[1] for line in journal.lines if line[0] == "ended"]
                self.assertEqual(sorted(ended), sorted(set(shards()) - is_open))

    def test_the_workers_stop_in_order_with_a_last_checkpoint(self):
        self.assertEqual(self.exit_code, 0)
        for mode, journal in self.journals.items():
            with self.subTest(mode):
                last = {record.shard: record.sequence_number for record in journal.records()}
                # The table has rows of other kinds too, without a checkpoint.
                rows = DYNAMODB.scan(TableName=f"java-{mode}", ConsistentRead=True)["Items"]
                leases = {row["leaseKey"]["S"]: row["checkpoint"]["S"] for row in rows if "checkpoint" in row}
                for shard in open_shards():
                    self.assertEqual(leases[shard["ShardId"]], last.get(shard["ShardId"], "TRIM_HORIZON"))

    def test_only_fan_out_registers_a_consumer(self):
        arn = KINESIS.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]["StreamARN"]
        consumers = KINESIS.list_stream_consumers(StreamARN=arn)["Consumers"]
        names = [consumer["ConsumerName"] for consumer in consumers]
        self.assertEqual(names, ["java-fan-out"] if "fan-out" in MODES else [])


def main():
    with tempfile.TemporaryDirectory() as directory:
        Kcl.put, Kcl.journals, Kcl.exit_code = run(pathlib.Path(directory))
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(Kcl)
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    # A failure in both modes is one failed test.
    failed = len({getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors})
    print(f"{result.testsRun - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
