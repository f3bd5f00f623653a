"""A stream, a bucket, and `kinesink run` from one to the other, as the tests of objects need them."""

import os
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest

import boto3
from botocore.config import Config

PATIENCE_SECONDS = 120
CONFIG = Config(connect_timeout=5, read_timeout=60, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})


class Pipeline(unittest.TestCase):
    """Stream, bucket and application have one name."""

    name = None
    # Between two looks whether it is done.
    pause_s = 0.1

    def setUp(self):
        self.kinesis, self.s3 = boto3.client("kinesis", config=CONFIG), boto3.client("s3", config=CONFIG)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.s3.create_bucket(Bucket=self.name)
        self.kinesis.create_stream(StreamName=self.name, ShardCount=1)
        self.kinesis.get_waiter("stream_exists").wait(StreamName=self.name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})

    def put(self, records):
        for start in range(0, len(records), 40):
            batch = [{"Data": data, "PartitionKey": "one"} for data in records[start : start + 40]]
            self.assertEqual(self.kinesis.put_records(StreamName=self.name, Records=batch)["FailedRecordCount"], 0)

    def run_until(self, records, sinks, done, *arguments, end=signal.SIGTERM):
        """Runs a pipeline of windows of so many records, until it is done; then it is drained, or killed."""
        file, log = self.folder / "pipeline.toml", self.folder / "run.log"
        file.write_text(f"""
version = 1
app = "{self.name}"
[source]
stream = "{self.name}"
idle = "200ms"
[lease]
worker_id = "one"
failover = "10s"
[buffer]
records = {records}
bytes = "100MiB"
age = "10m"
{sinks}
""")
        with open(log, "wb") as out:
            command = [os.environ["KINESINK"], "run", file, *arguments]
            process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        self.addCleanup(lambda: process.poll() is None and (process.kill(), process.wait()))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            self.assertIsNone(process.poll(), log.read_text())
            self.assertLess(time.monotonic(), deadline, log.read_text())
            time.sleep(self.pause_s)
        process.send_signal(end)
        code = 0 if end == signal.SIGTERM else -end
        self.assertEqual(process.wait(timeout=PATIENCE_SECONDS), code, log.read_text())

    def listed(self):
        found = self.s3.list_objects_v2(Bucket=self.name).get("Contents", [])
        return [each for each in found if "_kinesink_check_" not in each["Key"]]

    def objects(self):
        """(key, how many records it says it has, body), in the order of keys."""
        replies = [(each["Key"], self.s3.get_object(Bucket=self.name, Key=each["Key"])) for each in self.listed()]
        return [(key, int(reply["Metadata"]["kinesink-count"]), reply["Body"].read()) for key, reply in replies]
