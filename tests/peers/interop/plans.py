"""A Java KCL holds a lease in whose row a window of ours is announced, which was killed amid its objects.

    kinesink local -- python tests/peers/interop/plans.py BUILD_DIR KINESINK

BUILD_DIR is the built Maven project tests/peers/kcl, KINESINK a binary with the feature `planted-faults`. One that does not
checkpoint changes nothing: the window is finished, and each record is there once. One that checkpoints inside the window
makes it stale: nothing behind that checkpoint is missing, and what is twice is of that window alone. Ends with
`N passed, N failed`.
"""

import collections
import concurrent.futures
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

import boto3

from dynamodb_local import free_port
from golden import java

WINDOW, RECORDS, PARTS = 500, 1_200, 24
# The fault is amid the objects of the second window.
FAULT = f"--fault=put:{PARTS + 5}=crash"
FAILOVER_MS = 4_000
# A new worker of KCL 3.x needs up to a minute for its first lease.
PATIENCE_SECONDS = 150
# So few, that a checkpoint a second later is inside the window.
RECORDS_PER_REQUEST = 40
STALE = "a prepared checkpoint does not count"
FINISHED = "finished the window that was announced"
MODULES = ("kcl1", "kcl2", "kcl3")


class Story:
    """One stream, one shard: ours, then Java, then ours again."""

    def __init__(self, name, build, kinesink, directory):
        self.name, self.build, self.kinesink = name, build, kinesink
        self.directory = directory / name
        self.directory.mkdir()
        self.objects, self.journal = self.directory / "objects", self.directory / "java.tsv"
        session = boto3.session.Session()
        self.kinesis, self.dynamodb = session.client("kinesis"), session.client("dynamodb")
        self.environment = os.environ | {"AWS_EC2_METADATA_DISABLED": "true"}

    def until(self, what, is_true):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_true():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: it did not come true that {what}")
            time.sleep(0.02)

    def put(self):
        self.kinesis.create_stream(StreamName=self.name, ShardCount=1)
        summary = lambda: self.kinesis.describe_stream_summary(StreamName=self.name)["StreamDescriptionSummary"]
        self.until("the stream is active", lambda: summary()["StreamStatus"] == "ACTIVE")
        self.sequences = []
        for start in range(0, RECORDS, 400):
            records = [self.record(number) for number in range(start, start + 400)]
            reply = self.kinesis.put_records(StreamName=self.name, Records=records)
            self.sequences += [int(record["SequenceNumber"]) for record in reply["Records"]]

    def record(self, number):
        return {"Data": json.dumps({"n": number, "part": number % PARTS}).encode(), "PartitionKey": str(number)}

    def row(self):
        rows = self.dynamodb.scan(TableName=self.name, ConsistentRead=True)["Items"]
        return next(row for row in rows if "checkpoint" in row)

    def checkpoint(self):
        return int(self.row()["checkpoint"]["S"])

    def start_ours(self, *more):
        self.port = free_port()
        file = self.directory / "ours.toml"
        file.write_text(f"""version = 1
app = "{self.name}"
[source]
stream = "{self.name}"
start = "trim-horizon"
idle = "200ms"
[lease]
worker_id = "ours"
failover = "{FAILOVER_MS}ms"
[buffer]
records = {WINDOW}
age = "500ms"
[metrics]
listen = "127.0.0.1:{self.port}"
[[sink]]
type = "s3"
url = "file://{self.objects}"
format = "ndjson"
key = "{{.part}}/{{shard}}-{{first}}-{{last}}"
""")
        with (self.directory / "ours.log").open("a") as log:
            command = [self.kinesink, "run", file, *more]
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment)

    def is_killed_amid_a_window(self):
        self.put()
        code = self.start_ours(FAULT).wait(PATIENCE_SECONDS)
        assert code == -signal.SIGABRT, f"ours ended with {code}"
        row = self.row()
        self.after, self.last = (int(row[name]["S"]) for name in ("checkpoint", "pendingCheckpoint"))
        assert (self.after, self.last) == (self.sequences[WINDOW - 1], self.sequences[2 * WINDOW - 1])
        assert 0 < len(self.landed()) - WINDOW < WINDOW, "some of the window is there"

    def start_java(self, module, *properties):
        command = java(self.build, module, "Worker", self.name, self.name, "java", self.journal, FAILOVER_MS)
        command[1:1] = properties
        with (self.directory / "java.log").open("w") as log:
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=self.environment)

    def events(self, event):
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        return [line for line in lines if f"\t{event}\t" in line]

    def ours_goes_on(self):
        """Its log from here on, and its metrics."""
        log = self.directory / "ours.log"
        before = len(log.read_text())
        process = self.start_ours()
        self.until("everything is checkpointed", lambda: self.checkpoint() == self.sequences[-1])
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as reply:
            metrics = reply.read().decode()
        process.terminate()
        code = process.wait(PATIENCE_SECONDS)
        assert code == 0, f"ours ended with {code}"
        return log.read_text()[before:], metrics

    def landed(self):
        """How often each record is there."""
        paths = [path for path in self.objects.rglob("*.ndjson") if not path.name.startswith(".")]
        lines = [line for path in paths for line in path.read_text().splitlines()]
        return collections.Counter(json.loads(line)["n"] for line in lines)

    def does_not_checkpoint(self, module):
        self.is_killed_amid_a_window()
        worker = self.start_java(module, "-Dkinesink.neverCheckpoints=true")
        try:
            self.until("Java has read everything", lambda: len(self.events("record")) >= RECORDS - WINDOW)
            row = self.row()
            assert row["leaseOwner"]["S"] == "java", "Java holds the lease"
            worker.stdin.close()
            worker.wait(PATIENCE_SECONDS)
        finally:
            worker.kill()
        assert self.checkpoint() == self.after, "Java has not moved the checkpoint"
        log, _ = self.ours_goes_on()
        assert FINISHED in log, "the window is finished as it was announced"
        landed = self.landed()
        assert landed == collections.Counter(range(RECORDS)), f"{landed.total()} rows of {len(landed)} records"

    def checkpoints_inside(self, module):
        self.is_killed_amid_a_window()
        worker = self.start_java(module, f"-Dkinesink.records={RECORDS_PER_REQUEST}")
        try:
            self.until("Java has a checkpoint", lambda: self.events("checkpoint"))
        finally:
            # As it would write more of them when it stops.
            worker.kill()
            worker.wait()
        java_is_at = self.checkpoint()
        assert self.after < java_is_at < self.last, "Java's checkpoint is inside the window"
        left = {name for name in self.row() if name.startswith("pendingCheckpoint")}
        log, metrics = self.ours_goes_on()
        assert FINISHED not in log, "the window is not what was announced"
        assert STALE in log, "that is said"
        assert 'kinesink_plans_total{outcome="dropped"} 1' in metrics, "and counted"
        assert not any("announced" in name or name.startswith("pending") for name in self.row()), "and then forgotten"
        landed = self.landed()
        for number, sequence in enumerate(self.sequences):
            times = landed.pop(number, 0)
            if sequence <= self.after or sequence > self.last:
                assert times == 1, f"record {number} is there {times} times, beside the window"
            elif sequence <= java_is_at:
                assert times <= 1, f"record {number} is there {times} times, before Java's checkpoint"
            else:
                assert 1 <= times <= 2, f"record {number} is there {times} times, behind Java's checkpoint"
        assert not landed, f"{len(landed)} records are from nowhere"
        return left


class Plans(unittest.TestCase):
    stories = {}

    def does_not(self, module):
        self.stories[f"silent-{module}"].result()

    def inside(self, module):
        """What this KCL's checkpoint leaves of what was announced."""
        return self.stories[f"inside-{module}"].result()

    def test_kcl_1_15_3_that_does_not_checkpoint(self):
        self.does_not("kcl1")

    def test_kcl_2_7_2_that_does_not_checkpoint(self):
        self.does_not("kcl2")

    def test_kcl_3_5_1_that_does_not_checkpoint(self):
        self.does_not("kcl3")

    def test_kcl_1_15_3_that_checkpoints_inside(self):
        self.assertEqual(self.inside("kcl1"), {"pendingCheckpointState"})

    def test_kcl_2_7_2_that_checkpoints_inside(self):
        self.assertEqual(self.inside("kcl2"), set())

    def test_kcl_3_5_1_that_checkpoints_inside(self):
        self.assertEqual(self.inside("kcl3"), set())


def main():
    build, kinesink = sys.argv[1:]
    with tempfile.TemporaryDirectory() as directory, concurrent.futures.ThreadPoolExecutor(6) as threads:
        for module in MODULES:
            for name, tell in (("silent", Story.does_not_checkpoint), ("inside", Story.checkpoints_inside)):
                story = Story(f"{name}-{module}", build, os.path.abspath(kinesink), pathlib.Path(directory))
                Plans.stories[story.name] = threads.submit(tell, story, module)
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(Plans)
        result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
