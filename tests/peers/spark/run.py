"""Partitioned Parquet of `kinesink run`, as Spark reads it from a folder and through s3a, against what was put.

    kinesink local -- python tests/peers/spark/run.py PACKAGES KINESINK

PACKAGES is a folder for what Spark fetches from Maven.

Ends with `N passed, N failed`.
"""

import collections
import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import boto3
from botocore.config import Config
from pyspark.sql import SparkSession, functions

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "parquet"))

import model  # noqa: E402  it is found by the line above

KINESINK, PACKAGES = sys.argv.pop(), sys.argv.pop()
CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 1})
PATIENCE_SECONDS = 60
RECORDS = 1500
SEED = 2026
BUCKET = "lake"
STREAM = "spark"

# An empty text is no folder: it is unknown, as Hive writes it and Spark reads it.
KEY = 'key = "of={.kind}/on={arrival:%Y-%m-%d}/{shard}-{first}"'

SPARK_TYPES = {
    "id": "bigint",
    "small": "int",
    "amount": "decimal(18,2)",
    "little": "decimal(5,3)",
    "huge": "decimal(38,10)",
    "price": "double",
    "ratio": "float",
    "name": "string",
    "photo": "binary",
    "day": "date",
    "at": "timestamp",
    "seconds": "timestamp",
    "millis": "timestamp",
    "ok": "boolean",
    "tags": "array<string>",
    "lines": "array<struct<sku:string,qty:int,prices:array<decimal(9,2)>>>",
    "who": "struct<name:string,home:struct<city:string,zip:string>>",
    "raw": "string",
    "kind": "string",
    "_rest": "string",
    "of": "string",
    "on": "date",
}


def session():
    """One JVM for both readers. hadoop-aws mixes with no other version of Hadoop than the one among PySpark's jars."""
    import pyspark

    jars = pathlib.Path(pyspark.__file__).parent / "jars"
    [client] = jars.glob("hadoop-client-api-*.jar")
    hadoop = client.stem.rsplit("-", 1)[1]
    # Otherwise Spark looks up the machine's name and listens there.
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    settings = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "1g",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.jars.packages": f"org.apache.hadoop:hadoop-aws:{hadoop}",
        "spark.jars.ivy": PACKAGES,
        "spark.hadoop.fs.s3a.endpoint": os.environ["AWS_ENDPOINT_URL_S3"],
        "spark.hadoop.fs.s3a.endpoint.region": "us-east-1",
        "spark.hadoop.fs.s3a.access.key": "test",
        "spark.hadoop.fs.s3a.secret.key": "testtest",
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
        "spark.hadoop.fs.s3a.aws.credentials.provider": "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
    }
    builder = SparkSession.builder.appName("kinesink").master("local[2]")
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def run_until(file, log, landed, count):
    """Runs the pipeline until so many rows have landed, and drains it."""
    with open(log, "wb") as output:
        process = subprocess.Popen([KINESINK, "run", file], stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while landed() < count:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, f"{landed()} of {count} landed\n{log.read_text()}"
                time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=PATIENCE_SECONDS) == 0, log.read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


class Readers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        kinesis, cls.s3 = boto3.client("kinesis", config=CONFIG), boto3.client("s3", config=CONFIG)
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        root = pathlib.Path(folder.name)
        kinesis.create_stream(StreamName=STREAM, ShardCount=2)
        kinesis.get_waiter("stream_exists").wait(StreamName=STREAM, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        cls.s3.create_bucket(Bucket=BUCKET)
        records, cls.expected = zip(*model.records(RECORDS, SEED))
        before = datetime.datetime.now(model.UTC).date()
        for start in range(0, len(records), 400):
            batch = [
                {"Data": data, "PartitionKey": str(start + index)}
                for index, data in enumerate(records[start : start + 400])
            ]
            assert kinesis.put_records(StreamName=STREAM, Records=batch)["FailedRecordCount"] == 0
        cls.arrivals = {before, datetime.datetime.now(model.UTC).date()}

        sinks = ""
        for name, url in [("folder", f"file://{root}/lake"), ("bucket", f"s3://{BUCKET}/rows")]:
            sinks += f'[[sink]]\nname = "{name}"\ntype = "s3"\nurl = "{url}"\nformat = "parquet"\n{KEY}\n{model.COLUMNS}\n'
        file = root / "pipeline.toml"
        file.write_text(
            f'version = 1\napp = "{STREAM}"\n[source]\nstream = "{STREAM}"\nidle = "200ms"\n'
            f'[lease]\nfailover = "1s"\n[buffer]\nrecords = 400\nage = "500ms"\n{sinks}'
        )
        run_until(file, root / "run.log", cls.rows_in_both, RECORDS)
        cls.spark = session()
        cls.addClassCleanup(cls.spark.stop)
        cls.places = {"folder": f"file://{root}/lake", "bucket": f"s3a://{BUCKET}/rows"}

    @classmethod
    def rows_in_both(cls):
        """What the objects' metadata counts; the folder is written side by side, and drained with it."""
        pages = cls.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="rows/")
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        if len(keys) == cls.counted.get("keys"):
            return cls.counted["rows"]
        heads = [cls.s3.head_object(Bucket=BUCKET, Key=key)["Metadata"] for key in keys if key.endswith(".parquet")]
        cls.counted = {"keys": len(keys), "rows": sum(int(head["kinesink-count"]) for head in heads)}
        return cls.counted["rows"]

    counted = {}

    def test_types_are_those_declared_and_partitions_those_of_the_folders(self):
        for name, place in self.places.items():
            with self.subTest(name):
                self.assertEqual(dict(self.spark.read.parquet(place).dtypes), SPARK_TYPES)

    def test_every_value_is_that_of_its_record(self):
        for name, place in self.places.items():
            with self.subTest(name):
                rows = self.spark.read.parquet(place).drop("of", "on").collect()
                rows = sorted((plain(row) for row in rows), key=lambda row: row["id"])
                self.assertEqual(len(rows), RECORDS)
                for row, want in zip(rows, self.expected):
                    self.assertEqual(row, want)

    def test_partitions_hold_the_records_that_say_so(self):
        want = collections.Counter(row["kind"] or None for row in self.expected)
        for name, place in self.places.items():
            with self.subTest(name):
                frame = self.spark.read.parquet(place)
                self.assertEqual({row["of"]: row["count"] for row in frame.groupBy("of").count().collect()}, want)
                self.assertLessEqual({row["on"] for row in frame.select("on").distinct().collect()}, self.arrivals)

    def test_a_filter_reads_only_its_folders_and_finds_every_row(self):
        kind = model.KINDS[1]
        want = sum(row["kind"] == kind for row in self.expected)
        for name, place in self.places.items():
            with self.subTest(name):
                frame = self.spark.read.parquet(place)
                found = frame.where(functions.col("of") == kind)
                self.assertEqual(found.count(), want)
                files = {row[0] for row in found.select(functions.input_file_name()).distinct().collect()}
                self.assertTrue(files and all("of=view%252Fall" in file or "of=view%2Fall" in file for file in files), files)
                for column in ["id", "amount", "huge", "day", "price"]:
                    present = sorted(row[column] for row in self.expected if row[column] is not None)
                    bound = present[len(present) // 2]
                    count = frame.where(functions.col(column) >= functions.lit(bound)).count()
                    self.assertEqual(count, sum(value >= bound for value in present), f"{column} >= {bound}")


class LateRecords(unittest.TestCase):
    """`late/` beside the partitions of a place, as docs/s3.md says to read it."""

    def test_what_is_late_is_read_apart_or_together_with_the_rest_and_never_by_chance(self):
        kinesis = boto3.client("kinesis", config=CONFIG)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        root = pathlib.Path(folder.name)
        kinesis.create_stream(StreamName="late", ShardCount=1)
        kinesis.get_waiter("stream_exists").wait(StreamName="late", WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        now = datetime.datetime.now(model.UTC)
        days_ago = [0, 0, 0, 3, 3, 400]
        events = [now - datetime.timedelta(days=days) for days in days_ago]
        records = [json.dumps({"id": n, "at": event.isoformat()}).encode() for n, event in enumerate(events)]
        batch = [{"Data": data, "PartitionKey": "one"} for data in records]
        self.assertEqual(kinesis.put_records(StreamName="late", Records=batch)["FailedRecordCount"], 0)
        file = root / "pipeline.toml"
        file.write_text(
            'version = 1\napp = "late"\n[source]\nstream = "late"\nidle = "200ms"\n[lease]\nfailover = "1s"\n'
            f'[buffer]\nage = "500ms"\n[[sink]]\ntype = "s3"\nurl = "file://{root}/lake"\nformat = "parquet"\n'
            'key = "day={event:%Y-%m-%d}/{shard}-{first}"\nevent_time = { field = ".at" }\nlate = { after = "24h" }\n'
            '[sink.columns]\nid = "int64"\nat = "timestamp"\n'
        )
        run_until(file, root / "run.log", lambda: len(list((root / "lake").rglob("day=*/[!.]*.parquet"))), 3)
        spark = session()
        self.addCleanup(spark.stop)
        place = f"file://{root}/lake"
        rows = {(n, event.date()) for n, event in enumerate(events)}
        late = {(n, event.date()) for (n, event), days in zip(enumerate(events), days_ago) if days}

        def read(frame):
            return {(row["id"], row["day"]) for row in frame.collect()}

        timely = spark.read.option("basePath", place).parquet(f"{place}/day=*")
        self.assertEqual(read(timely), rows - late)
        self.assertEqual(read(spark.read.parquet(f"{place}/late")), late)
        self.assertEqual(read(timely.unionByName(spark.read.parquet(f"{place}/late"))), rows)
        # It refuses both at once: no query takes what is late for what is not.
        with self.assertRaisesRegex(Exception, "CONFLICTING_DIRECTORY_STRUCTURES"):
            spark.read.parquet(place)


def plain(value):
    """Rows as dictionaries. Times come in the time zone of this process, which is UTC."""
    if hasattr(value, "asDict"):
        return {name: plain(part) for name, part in value.asDict().items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=model.UTC)
    return value


def main():
    os.environ["TZ"] = "UTC"
    time.tzset()
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    failed = len({getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors})
    print(f"{result.testsRun - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
