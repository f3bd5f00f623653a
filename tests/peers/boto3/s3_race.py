"""Sixteen writers that create one object of an S3: one wins, by put and by upload in parts, and the object is that one's.

Run on the local S3, and on a server that no one here wrote: whatever the exactly-once delivery rests on has to hold on
both. A server that ignores the condition looks fine until two race, so each case also reads who won.
"""

import unittest
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

BUCKET = "race"
ROUNDS = 20
WRITERS = 16
# A retry would hide the first answer behind a second one.
CONFIG = Config(
    connect_timeout=5, read_timeout=60, retries={"total_max_attempts": 1}, max_pool_connections=WRITERS,
    s3={"addressing_style": "path"},
)


class Race(unittest.TestCase):
    def setUp(self):
        self.s3 = boto3.client("s3", config=CONFIG)
        try:
            self.s3.create_bucket(Bucket=BUCKET)
        except ClientError as error:
            self.assertEqual(status(error), 409)

    def test_of_sixteen_that_put_one_wins(self):
        self.race("put", lambda target, body: lambda: self.s3.put_object(**target, Body=body, IfNoneMatch="*"))

    def test_of_sixteen_that_complete_an_upload_one_wins(self):
        self.race("complete", self.prepared)

    def test_of_puts_and_completions_one_wins(self):
        def prepare(target, body):
            if body[1:2] in b"02468":
                return self.prepared(target, body)
            return lambda: self.s3.put_object(**target, Body=body, IfNoneMatch="*")

        self.race("both", prepare)

    def prepared(self, target, body):
        """Uploads the part, and answers what completes it."""
        upload = self.s3.create_multipart_upload(**target)["UploadId"]
        sent = self.s3.upload_part(**target, UploadId=upload, PartNumber=1, Body=body)
        parts = {"Parts": [{"PartNumber": 1, "ETag": sent["ETag"]}]}
        return lambda: self.s3.complete_multipart_upload(
            **target, UploadId=upload, MultipartUpload=parts, IfNoneMatch="*"
        )

    def race(self, name, prepare):
        bodies = [b"%02d" % writer * 50_000 for writer in range(WRITERS)]
        with ThreadPoolExecutor(WRITERS) as pool:
            for turn in range(ROUNDS):
                target = {"Bucket": BUCKET, "Key": f"{name}/{turn:02}"}
                # All are prepared before the first of them goes.
                calls = list(pool.map(prepare, [target] * WRITERS, bodies))
                answers = list(pool.map(answer, calls))
                self.assertEqual(answers.count(200), 1, f"round {turn}: {answers}")
                # 409 is S3's word for another conditional write that is under way; such a writer may try again.
                self.assertLessEqual(set(answers), {200, 409, 412}, f"round {turn}")
                stored = self.s3.get_object(**target)["Body"].read()
                self.assertEqual(stored, bodies[answers.index(200)], f"round {turn}: not the winner's")


def answer(call):
    try:
        return call()["ResponseMetadata"]["HTTPStatusCode"]
    except ClientError as error:
        return status(error)


def status(error):
    return error.response["ResponseMetadata"]["HTTPStatusCode"]
