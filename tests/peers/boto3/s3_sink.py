"""Objects of more than 64 MiB that `kinesink run` writes in parts, killed in the midst of them.

Run on the local S3, and on a server that no one here wrote. The records are read back as the object's bytes, and what is
not theirs fails; no upload of a killed writer is left once its object is there.
"""

import os
import pathlib
import random
import signal
import subprocess
import tempfile
import time
import unittest

import boto3
from botocore.config import Config

BUCKET = "sink"
STREAM = "large"
SEED = 64
RECORD_BYTES, RECORDS = 900_000, 76
OBJECT_BYTES = RECORD_BYTES * RECORDS
PATIENCE_SECONDS = 120
CONFIG = Config(connect_timeout=5, read_timeout=60, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})


class LargeObjects(unittest.TestCase):
    def setUp(self):
        self.kinesis, self.s3 = boto3.client("kinesis", config=CONFIG), boto3.client("s3", config=CONFIG)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.s3.create_bucket(Bucket=BUCKET)
        self.kinesis.create_stream(StreamName=STREAM, ShardCount=1)
        self.kinesis.get_waiter("stream_exists").wait(StreamName=STREAM, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        chance = random.Random(SEED)
        self.records = [chance.randbytes(RECORD_BYTES) for _ in range(RECORDS)]
        for start in range(0, RECORDS, 4):
            batch = [{"Data": data, "PartitionKey": "one"} for data in self.records[start : start + 4]]
            self.assertEqual(self.kinesis.put_records(StreamName=STREAM, Records=batch)["FailedRecordCount"], 0)

    def pipeline(self):
        file = self.folder / "pipeline.toml"
        file.write_text(f"""
version = 1
app = "{STREAM}"
memory = "512MiB"
[source]
stream = "{STREAM}"
idle = "200ms"
[lease]
worker_id = "one"
failover = "10s"
[buffer]
records = {RECORDS}
bytes = "256MiB"
age = "10m"
[[sink]]
type = "s3"
url = "s3://{BUCKET}/large"
format = "raw"
compression = "none"
path_style = true
""")
        return file

    def uploads(self):
        return self.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])

    def objects(self):
        found = self.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        # A start that was killed leaves the empty object by which it sees that it may write.
        return [each for each in found if "/_kinesink_check_" not in each["Key"]]

    def log(self):
        return (self.folder / "run.log").read_text()

    def run_until(self, done, end):
        with open(self.folder / "run.log", "ab") as log:
            command = [os.environ["KINESINK"], "run", self.pipeline()]
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not done():
                self.assertIsNone(process.poll(), self.log())
                self.assertLess(time.monotonic(), deadline, self.log())
                time.sleep(0.005)
            process.send_signal(end)
            return process.wait(timeout=PATIENCE_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def test_one_that_is_killed_amid_its_parts_is_there_once_and_leaves_no_upload(self):
        hit = 0
        for _ in range(4):
            self.run_until(lambda: self.uploads() or self.objects(), signal.SIGKILL)
            hit += bool(self.uploads()) and not self.objects()
        self.assertGreater(hit, 0, "no kill came amid an upload")
        self.assertEqual(self.run_until(self.objects, signal.SIGTERM), 0, self.log())

        [found] = self.objects()
        self.assertEqual(found["Size"], OBJECT_BYTES)
        self.assertRegex(found["ETag"], r'^"[0-9a-f]{32}-[0-9]+"$', "it was not sent in parts")
        reply = self.s3.get_object(Bucket=BUCKET, Key=found["Key"])
        self.assertEqual(reply["Metadata"]["kinesink-count"], str(RECORDS))
        # A raw object is the records' bytes, one after the other, in stream order.
        self.assertEqual(reply["Body"].read(), b"".join(self.records))
        self.assertEqual(self.uploads(), [])
