"""Objects of the local S3 by boto3 and the `aws` command: what people do with a bucket."""

import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import urllib.error
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

AWS = pathlib.Path(sys.executable).parent / "aws"
CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 1}, signature_version="s3v4")
MIB = 1 << 20


def code(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
    return 200, None


class Objects(unittest.TestCase):
    def setUp(self):
        self.s3 = boto3.client("s3", config=CONFIG)
        self.bucket = self.id().rsplit(".", 1)[1].replace("_", "-")[:60].strip("-")
        self.s3.create_bucket(Bucket=self.bucket)
        self.of = {"Bucket": self.bucket}

    def read(self, key, **arguments):
        return self.s3.get_object(**self.of, Key=key, **arguments)["Body"].read()

    def test_metadata_comes_back(self):
        put = self.s3.put_object(
            **self.of,
            Key="2026/a b/ü.json",
            Body=b"{}",
            ContentType="application/json",
            Metadata={"shard": "shardId-000000000000", "count": "7"},
            ServerSideEncryption="aws:kms",
            StorageClass="STANDARD_IA",
            ExpectedBucketOwner="000000000000",
        )
        self.assertEqual(put["ETag"], f'"{hashlib.md5(b"{}").hexdigest()}"')
        head = self.s3.head_object(**self.of, Key="2026/a b/ü.json")
        self.assertEqual(head["Metadata"], {"shard": "shardId-000000000000", "count": "7"})
        told = (head["ContentType"], head["ContentLength"], head["ServerSideEncryption"], head["StorageClass"])
        self.assertEqual(told, ("application/json", 2, "aws:kms", "STANDARD_IA"))

    def test_a_second_creator_is_refused(self):
        only = {**self.of, "Key": "a", "IfNoneMatch": "*"}
        self.s3.put_object(**only, Body=b"first")
        self.assertEqual(code(self.s3.put_object, **only, Body=b"second"), (412, "PreconditionFailed"))
        self.assertEqual(self.read("a"), b"first")

    def test_an_upload_in_parts_is_created_once(self):
        only = {**self.of, "Key": "a"}
        for turn, expected in enumerate([(200, None), (412, "PreconditionFailed")]):
            upload = self.s3.create_multipart_upload(**only, Metadata={"turn": str(turn)})["UploadId"]
            parts = []
            for number, body in enumerate([b"x" * (5 * MIB), b"tail%d" % turn], 1):
                sent = self.s3.upload_part(**only, UploadId=upload, PartNumber=number, Body=body)
                parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            listed = self.s3.list_parts(**only, UploadId=upload)["Parts"]
            self.assertEqual([part["Size"] for part in listed], [5 * MIB, 5])
            completion = {"UploadId": upload, "MultipartUpload": {"Parts": parts}, "IfNoneMatch": "*"}
            self.assertEqual(code(self.s3.complete_multipart_upload, **only, **completion), expected)
        [left] = self.s3.list_multipart_uploads(**self.of)["Uploads"]
        self.s3.abort_multipart_upload(**only, UploadId=left["UploadId"])
        self.assertNotIn("Uploads", self.s3.list_multipart_uploads(**self.of))
        head = self.s3.head_object(**only)
        self.assertEqual((head["ContentLength"], head["Metadata"]), (5 * MIB + 5, {"turn": "0"}))
        self.assertTrue(head["ETag"].endswith('-2"'))
        self.assertEqual(self.read("a", Range=f"bytes={5 * MIB - 1}-"), b"xtail0")

    def test_a_large_file_goes_there_and_back(self):
        body = b"".join(hashlib.sha256(b"%d" % block).digest() for block in range(13 * MIB // 32)) + b"end"
        with tempfile.TemporaryDirectory() as folder:
            there, back = pathlib.Path(folder, "there"), pathlib.Path(folder, "back")
            there.write_bytes(body)
            several = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
            self.s3.upload_file(str(there), self.bucket, "large", Config=several)
            self.s3.download_file(self.bucket, "large", str(back), Config=several)
            self.assertEqual(back.read_bytes(), body)
        self.assertTrue(self.s3.head_object(**self.of, Key="large")["ETag"].endswith('-3"'))

    def test_checksums_are_kept(self):
        for algorithm in ["CRC32", "SHA1", "SHA256"]:
            put = self.s3.put_object(**self.of, Key=algorithm, Body=b"text", ChecksumAlgorithm=algorithm)
            head = self.s3.head_object(**self.of, Key=algorithm, ChecksumMode="ENABLED")
            self.assertEqual(head[f"Checksum{algorithm}"], put[f"Checksum{algorithm}"])
            # boto3 compares it with what it reads.
            self.assertEqual(self.read(algorithm, ChecksumMode="ENABLED"), b"text")
        wrong = {**self.of, "Key": "wrong", "Body": b"text", "ChecksumSHA256": "A" * 43 + "="}
        self.assertEqual(code(self.s3.put_object, **wrong), (400, "BadDigest"))

    def test_pages_are_the_whole_list(self):
        keys = sorted(f"{folder}/{number:02}" for folder in ["a", "b", "c&d"] for number in range(7))
        for key in keys:
            self.s3.put_object(**self.of, Key=key, Body=b"")
        for operation in ["list_objects", "list_objects_v2"]:
            paged = self.s3.get_paginator(operation)
            pages = list(paged.paginate(**self.of, PaginationConfig={"PageSize": 4}))
            self.assertEqual([line["Key"] for page in pages for line in page["Contents"]], keys)
            self.assertEqual(len(pages), 6)
            pages = list(paged.paginate(**self.of, Delimiter="/", PaginationConfig={"PageSize": 2}))
            prefixes = [line["Prefix"] for page in pages for line in page["CommonPrefixes"]]
            self.assertEqual(prefixes, ["a/", "b/", "c&d/"])
        after = self.s3.list_objects_v2(**self.of, Prefix="b/", StartAfter="b/04")
        self.assertEqual([line["Key"] for line in after["Contents"]], ["b/05", "b/06"])
        named = [{"Key": key} for key in keys] + [{"Key": "none"}]
        self.assertEqual(len(self.s3.delete_objects(**self.of, Delete={"Objects": named})["Deleted"]), 22)
        self.s3.delete_bucket(**self.of)

    def test_a_presigned_address_needs_no_key(self):
        sign = self.s3.generate_presigned_url
        put = sign("put_object", Params={**self.of, "Key": "a"}, ExpiresIn=60)
        request = urllib.request.Request(put, data=b"text", method="PUT")
        with urllib.request.urlopen(request, timeout=20) as answer:
            self.assertEqual(answer.status, 200)
        get = sign("get_object", Params={**self.of, "Key": "a", "ResponseContentType": "text/x"}, ExpiresIn=60)
        with urllib.request.urlopen(get, timeout=20) as answer:
            self.assertEqual((answer.read(), answer.headers["Content-Type"]), (b"text", "text/x"))
        with self.assertRaises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(get.split("?")[0], timeout=20)
        self.assertEqual(refused.exception.code, 403)

    def test_what_is_not_there_or_not_emulated_is_said(self):
        self.assertEqual(code(self.s3.get_object, **self.of, Key="none"), (404, "NoSuchKey"))
        self.assertEqual(code(self.s3.head_object, **self.of, Key="none"), (404, "404"))
        self.assertEqual(code(self.s3.list_objects_v2, Bucket="none-such"), (404, "NoSuchBucket"))
        put = {**self.of, "Key": "a", "Body": b"", "ExpectedBucketOwner": "111122223333"}
        self.assertEqual(code(self.s3.put_object, **put), (403, "AccessDenied"))
        on = {"VersioningConfiguration": {"Status": "Enabled"}}
        self.assertEqual(code(self.s3.put_bucket_versioning, **self.of, **on), (501, "NotImplemented"))
        self.assertEqual(self.s3.get_bucket_location(**self.of)["LocationConstraint"], None)

    def test_the_shell_copies_and_synchronizes(self):
        with tempfile.TemporaryDirectory() as folder:
            there, back = pathlib.Path(folder, "there"), pathlib.Path(folder, "back")
            (there / "x").mkdir(parents=True)
            (there / "x" / "small").write_text("small")
            (there / "large").write_bytes(os.urandom(9 * MIB))
            self.aws("s3", "sync", str(there), f"s3://{self.bucket}/tree")
            self.aws("s3", "cp", f"s3://{self.bucket}/tree/large", f"s3://{self.bucket}/tree/x/copy")
            self.aws("s3", "sync", f"s3://{self.bucket}/tree", str(back))
            self.assertEqual((back / "x" / "small").read_text(), "small")
            for copy in ["large", "x/copy"]:
                self.assertEqual((back / copy).read_bytes(), (there / "large").read_bytes())
        self.assertIn("tree/x/copy", self.aws("s3", "ls", "--recursive", f"s3://{self.bucket}"))
        self.aws("s3", "rb", "--force", f"s3://{self.bucket}")

    def aws(self, *arguments):
        command = [AWS, *arguments, "--cli-connect-timeout", "5", "--cli-read-timeout", "20"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout
