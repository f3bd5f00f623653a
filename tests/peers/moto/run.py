"""`kinesink run` writes as a role, with a KMS key and a storage class, to moto's S3, which asks IAM before each request.

    KINESINK=kinesink kinesink local -- python tests/peers/moto/run.py

Kinesis and the lease table are those of `kinesink local`; S3, STS, IAM and KMS are moto's. A user may do nothing but assume the
role; only the role may write, and neither list nor delete. What the objects say of themselves is read with boto3.
"""

import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ACCOUNT, BUCKET, EXTERNAL_ID, STORAGE_CLASS = "123456789012", "written-as-a-role", "told-to-the-owner", "STANDARD_IA"
# What docs/s3.md asks for: no more than this, and not even to remove the empty object of a start.
NEEDED = ("s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload", "kms:GenerateDataKey", "kms:Decrypt")
# How the program ends where a service refuses it at the start.
REFUSED = 3
# Above 64 MiB an object is sent in parts.
LARGE_BYTES, LARGE_RECORDS = 900_000, 76
TRUST = {
    "Effect": "Allow",
    "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/writer"},
    "Action": "sts:AssumeRole",
    "Condition": {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}},
}
START_SECONDS_MAX, PATIENCE_SECONDS = 30, 90
CONFIG = Config(connect_timeout=5, read_timeout=60, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})


class AsARole(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        self.moto = f"http://127.0.0.1:{port}"
        command = [pathlib.Path(sys.executable).parent / "moto_server", "-H", "127.0.0.1", "-p", str(port)]
        with open(self.folder / "moto.log", "ab") as log:
            self.server = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        self.addCleanup(self.end_server)
        self.wait_for_server(port)
        self.admin = self.user("admin", "*")
        self.writer = self.user("writer", "sts:AssumeRole")
        iam, trusts = self.client("iam"), json.dumps({"Version": "2012-10-17", "Statement": [TRUST]})
        for role, actions in (("writer", NEEDED), ("other-writer", NEEDED), ("reader", ("s3:GetObject",))):
            iam.create_role(RoleName=role, AssumeRolePolicyDocument=trusts)
            iam.put_role_policy(RoleName=role, PolicyName="may", PolicyDocument=allows(*actions))
        self.key = self.client("kms").create_key()["KeyMetadata"]["Arn"]
        self.client("s3").create_bucket(Bucket=BUCKET)
        # From now on each request is checked, its signature too.
        request = urllib.request.Request(f"{self.moto}/moto-api/reset-auth", b"0", {"content-type": "text/plain"})
        urllib.request.urlopen(request, timeout=10).close()
        self.kinesis = boto3.client("kinesis", config=CONFIG)
        self.stream = self.id().rsplit(".", 1)[-1][:60]
        self.kinesis.create_stream(StreamName=self.stream, ShardCount=1)
        self.kinesis.get_waiter("stream_exists").wait(StreamName=self.stream, WaiterConfig={"Delay": 1, "MaxAttempts": 30})

    def end_server(self):
        self.server.terminate()
        self.server.wait(timeout=20)

    def wait_for_server(self, port):
        for _ in range(START_SECONDS_MAX * 10):
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                self.assertIsNone(self.server.poll(), "moto_server ended")
                time.sleep(0.1)
        self.fail("moto_server does not answer")

    def client(self, service, keys=None):
        key, secret = keys or ("any", "any")
        return boto3.client(
            service, endpoint_url=self.moto, aws_access_key_id=key, aws_secret_access_key=secret, config=CONFIG
        )

    def user(self, name, *actions):
        iam = self.client("iam")
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="may", PolicyDocument=allows(*actions))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def put(self, records):
        for start in range(0, len(records), 4):
            batch = [{"Data": data, "PartitionKey": "one"} for data in records[start : start + 4]]
            self.assertEqual(self.kinesis.put_records(StreamName=self.stream, Records=batch)["FailedRecordCount"], 0)

    def pipeline(self, records, role=None, external_id=None):
        role = f'role = "arn:aws:iam::{ACCOUNT}:role/{role}"' if role else ""
        external_id = f'external_id = "{external_id}"' if external_id else ""
        file = self.folder / "pipeline.toml"
        file.write_text(f"""
version = 1
app = "{self.stream}"
memory = "512MiB"
[source]
stream = "{self.stream}"
idle = "200ms"
[lease]
worker_id = "one"
failover = "10s"
[buffer]
records = {records}
bytes = "256MiB"
age = "10m"
[[sink]]
type = "s3"
url = "s3://{BUCKET}/objects"
format = "raw"
compression = "none"
path_style = true
endpoint = "{self.moto}"
kms_key = "{self.key}"
storage_class = "{STORAGE_CLASS}"
{role}
{external_id}
""")
        return file

    def start(self, file):
        key, secret = self.writer
        environment = os.environ | {
            "AWS_ENDPOINT_URL_STS": self.moto, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret
        }
        with open(self.folder / "run.log", "ab") as log:
            command = [os.environ["KINESINK"], "run", file]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.addCleanup(lambda: process.poll() is None and (process.kill(), process.wait()))
        return process

    def log(self):
        return (self.folder / "run.log").read_text()

    def until(self, process, what, done):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            self.assertLess(time.monotonic(), deadline, f"{what}: {self.log()}")
            self.assertIsNone(process.poll(), f"{what}: it ended: {self.log()}")
            time.sleep(0.1)

    def objects(self):
        s3 = self.client("s3", self.admin)
        found = s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        keys = sorted(each["Key"] for each in found if "_kinesink_check_" not in each["Key"])
        return [s3.get_object(Bucket=BUCKET, Key=key) for key in keys]

    def drained(self, process):
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(timeout=PATIENCE_SECONDS), 0, self.log())

    def is_as_asked(self, found):
        self.assertEqual(found["ServerSideEncryption"], "aws:kms")
        self.assertEqual(found["SSEKMSKeyId"], self.key)
        self.assertEqual(found["StorageClass"], STORAGE_CLASS)

    def test_the_role_may_neither_list_nor_delete(self):
        """The other tests say something of that only if moto denies it."""
        key, secret = self.writer
        sts = boto3.client("sts", endpoint_url=self.moto, aws_access_key_id=key, aws_secret_access_key=secret, config=CONFIG)
        role = f"arn:aws:iam::{ACCOUNT}:role/writer"
        lent = sts.assume_role(RoleArn=role, RoleSessionName="writer", ExternalId=EXTERNAL_ID)["Credentials"]
        s3 = boto3.client(
            "s3", endpoint_url=self.moto, config=CONFIG, aws_access_key_id=lent["AccessKeyId"],
            aws_secret_access_key=lent["SecretAccessKey"], aws_session_token=lent["SessionToken"],
        )
        s3.put_object(Bucket=BUCKET, Key="any", Body=b"")
        for denied in (
            lambda: s3.list_objects_v2(Bucket=BUCKET),
            lambda: s3.list_multipart_uploads(Bucket=BUCKET),
            lambda: s3.delete_object(Bucket=BUCKET, Key="any"),
        ):
            with self.assertRaises(ClientError) as refused:
                denied()
            self.assertEqual(refused.exception.response["Error"]["Code"], "AccessDenied")

    def test_objects_small_and_large_are_encrypted_with_the_key_and_written_by_the_role(self):
        chance = random.Random(7)
        records = [chance.randbytes(LARGE_BYTES) for _ in range(LARGE_RECORDS)]
        self.put(records)
        process = self.start(self.pipeline(LARGE_RECORDS, "writer", EXTERNAL_ID))
        self.until(process, "the large object is there", lambda: len(self.objects()) == 1)
        self.put([b"small"] * LARGE_RECORDS)
        self.until(process, "the small object is there", lambda: len(self.objects()) == 2)
        self.drained(process)
        large, small = self.objects()
        self.is_as_asked(large)
        self.is_as_asked(small)
        self.assertRegex(large["ETag"], r'-[0-9]+"$', "it was not sent in parts")
        self.assertEqual(large["Body"].read(), b"".join(records))
        self.assertEqual(small["Body"].read(), b"small" * LARGE_RECORDS)

    def test_a_wrong_role_writes_nothing_and_says_so_and_once_it_is_mended_all_is_there_once(self):
        records = [b"%d " % number for number in range(40)]
        self.put(records)
        # Who tells no external id is not asked for one here, as the service would.
        for wrong in ((), ("reader", EXTERNAL_ID), ("writer", "another")):
            process = self.start(self.pipeline(10, *wrong))
            self.assertEqual(process.wait(timeout=PATIENCE_SECONDS), REFUSED, self.log())
            self.assertIn(f"cannot write to s3://{BUCKET}/objects: ", self.log())
            self.assertEqual(self.objects(), [])
            (self.folder / "run.log").unlink()
        process = self.start(self.pipeline(10, "writer", EXTERNAL_ID))
        self.until(process, "all windows are there", lambda: len(self.objects()) == 4)
        self.drained(process)
        self.assertEqual(b"".join(found["Body"].read() for found in self.objects()), b"".join(records))


    def test_a_role_that_is_lost_while_a_window_is_announced_is_mended_in_the_file_and_the_window_is_finished(self):
        records = [b"%d " % number for number in range(30)]
        self.put(records[:10])
        process = self.start(self.pipeline(10, "writer", EXTERNAL_ID))
        self.until(process, "the first window is there", lambda: len(self.objects()) == 1)
        self.client("iam", self.admin).delete_role_policy(RoleName="writer", PolicyName="may")
        self.put(records[10:20])
        said = f"cannot write s3://{BUCKET}/objects/"
        self.until(process, "it says what is denied", lambda: said in self.log() and "allow s3:PutObject" in self.log())
        rows = boto3.client("dynamodb", config=CONFIG).scan(TableName=self.stream, ConsistentRead=True)["Items"]
        self.assertTrue(any("pendingCheckpoint" in row for row in rows), rows)
        process.kill()
        process.wait()

        # The window was announced with the role of then.
        self.put(records[20:])
        process = self.start(self.pipeline(10, "other-writer", EXTERNAL_ID))
        self.until(process, "all windows are there", lambda: len(self.objects()) == 3)
        self.drained(process)
        self.assertIn("finishing the window that was announced", self.log())
        self.assertEqual(b"".join(found["Body"].read() for found in self.objects()), b"".join(records))


def allows(*actions):
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


if __name__ == "__main__":
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(AsARole)
    outcome = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    failed = len(outcome.failures) + len(outcome.errors)
    print(f"{outcome.testsRun - failed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)
