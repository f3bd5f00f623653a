"""Files that `kinesink run` wrote, as pyarrow and DuckDB read them, against what was put.

    kinesink local -- python tests/peers/parquet/run.py KINESINK

Ends with `N passed, N failed`.
"""

import base64
import collections
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
import duckdb
import pyarrow
import pyarrow.dataset
import pyarrow.parquet
from botocore.config import Config

import model
import pages

KINESINK = sys.argv.pop()
CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 1})
PATIENCE_SECONDS = 60
SHARDS = 2
RECORDS = 2000
SEED = 2013


class Files(unittest.TestCase):
    def setUp(self):
        self.kinesis = boto3.client("kinesis", config=CONFIG)
        self.name = self.id().rsplit(".", 1)[1]
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.objects, self.dead = self.folder / "objects", self.folder / "dead"
        self.kinesis.create_stream(StreamName=self.name, ShardCount=SHARDS)
        self.kinesis.get_waiter("stream_exists").wait(
            StreamName=self.name, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
        )

    def put(self, records):
        """Where each record stands: (shard, sequence number)."""
        places = []
        for start in range(0, len(records), 400):
            batch = [
                {"Data": data, "PartitionKey": str(start + index)}
                for index, data in enumerate(records[start : start + 400])
            ]
            reply = self.kinesis.put_records(StreamName=self.name, Records=batch)
            self.assertEqual(reply["FailedRecordCount"], 0)
            places += [(result["ShardId"], int(result["SequenceNumber"])) for result in reply["Records"]]
        return places

    def pipeline(self, sink, columns="", dead_letter=True, window=300):
        text = f"""
version = 1
app = "{self.name}"
[source]
stream = "{self.name}"
idle = "200ms"
[lease]
failover = "1s"
[buffer]
records = {window}
age = "500ms"
"""
        if dead_letter:
            text += f'[dead_letter]\nurl = "file://{self.dead}"\n'
        text += f'[[sink]]\ntype = "s3"\nurl = "file://{self.objects}"\nformat = "parquet"\n{sink}\n{columns}'
        file = self.folder / "pipeline.toml"
        file.write_text(text)
        return file

    def start(self, file):
        log = open(self.folder / "run.log", "ab")
        self.addCleanup(log.close)
        process = subprocess.Popen([KINESINK, "run", file], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        if process.poll() is None:
            process.kill()
            process.wait()

    def log(self):
        return (self.folder / "run.log").read_text()

    def files(self):
        return sorted(path for path in self.objects.rglob("*.parquet") if not path.name.startswith("."))

    def dead_letters(self):
        paths = self.dead.rglob("*.ndjson") if self.dead.exists() else []
        lines = [line for path in sorted(paths) for line in path.read_text().splitlines()]
        return [json.loads(line) for line in lines]

    def landed(self):
        rows = sum(pyarrow.parquet.read_metadata(path).num_rows for path in self.files())
        return rows + len(self.dead_letters())

    def run_until(self, file, count):
        """Runs the pipeline until so many records are in objects or dead letters, and drains it."""
        process = self.start(file)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.landed() < count:
            self.assertIsNone(process.poll(), self.log())
            self.assertLess(time.monotonic(), deadline, f"{self.landed()} of {count} landed\n{self.log()}")
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(timeout=PATIENCE_SECONDS), 0, self.log())
        self.assertEqual(self.landed(), count)

    def table(self):
        tables = [pyarrow.parquet.ParquetFile(path).read() for path in self.files()]
        return pyarrow.concat_tables(tables)

    def rows_of_duckdb(self):
        connection = duckdb.connect()
        connection.execute("SET TimeZone = 'UTC'")
        names = [str(path) for path in self.files()]
        query = "SELECT * FROM read_parquet(?, hive_partitioning = false)"
        types = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {query}", [names]).fetchall()}
        rows = connection.execute(query, [names]).fetchall()
        return types, [dict(zip(types, row)) for row in rows]

    def test_values_and_types_are_those_of_the_records(self):
        records, expected = zip(*model.records(RECORDS, SEED))
        self.put(records)
        self.run_until(self.pipeline('key = "{.kind}/{shard}-{first}"', model.COLUMNS, dead_letter=False), RECORDS)
        self.assertGreater(len(self.files()), 3 * SHARDS)
        table = self.table()
        types = {field.name: str(field.type).replace(" not null", "") for field in table.schema}
        self.assertEqual(types, model.ARROW_TYPES)

        rows = sorted(table.to_pylist(), key=lambda row: row["id"])
        self.assertEqual(len(rows), RECORDS)
        for row, want in zip(rows, expected):
            self.assertEqual(row, want)

        types, rows = self.rows_of_duckdb()
        self.assertEqual(types, model.DUCKDB_TYPES)
        rows.sort(key=lambda row: row["id"])
        self.assertEqual(len(rows), RECORDS)
        for row, want in zip(rows, expected):
            self.assertEqual(row, want)

    def test_partitions_are_those_of_both_readers(self):
        records, rows = zip(*model.records(RECORDS, SEED + 1))
        self.put(records)
        key = 'key = "of={.kind}/{shard}-{first}"\nunknown = "none"'
        self.run_until(self.pipeline(key, model.COLUMNS), RECORDS)
        # An empty text and a missing one are both unknown.
        expected = collections.Counter(row["kind"] or "none" for row in rows)

        dataset = pyarrow.dataset.dataset(self.objects, format="parquet", partitioning="hive")
        counts = collections.Counter(dataset.to_table(columns=["of"]).column("of").to_pylist())
        self.assertEqual(counts, expected)
        query = "SELECT of, count(*) FROM read_parquet(?, hive_partitioning = true) GROUP BY of"
        found = duckdb.execute(query, [f"{self.objects}/**/*.parquet"]).fetchall()
        self.assertEqual(collections.Counter(dict(found)), expected)
        for of, kind in duckdb.execute(
            "SELECT DISTINCT of, kind FROM read_parquet(?, hive_partitioning = true)", [f"{self.objects}/**/*.parquet"]
        ).fetchall():
            self.assertEqual(of, kind or "none")

    def test_engines_that_filter_by_statistics_find_every_row(self):
        records, rows = zip(*model.records(RECORDS, SEED + 2))
        self.put(records)
        self.run_until(self.pipeline("", model.COLUMNS), RECORDS)
        names = [str(path) for path in self.files()]
        for column in ["id", "amount", "huge", "day", "at", "name", "price", "small"]:
            present = sorted(row[column] for row in rows if row[column] is not None)
            for bound in [present[0], present[len(present) // 2], present[-1]]:
                want = sum(value >= bound for value in present)
                query = f"SELECT count(*) FROM read_parquet(?) WHERE \"{column}\" >= ?"
                [[found]] = duckdb.execute(query, [names, bound]).fetchall()
                self.assertEqual(found, want, f"{column} >= {bound}")
                dataset = pyarrow.dataset.dataset(names, format="parquet")
                field = dataset.schema.field(column).type
                found = dataset.count_rows(filter=pyarrow.dataset.field(column) >= pyarrow.scalar(bound, field))
                self.assertEqual(found, want, f"{column} >= {bound}")

    def test_a_file_says_where_its_rows_come_from_and_is_compressed_as_asked(self):
        columns = '[sink.columns]\nn = "int64"\ntext = "string"\n'
        puts = 0
        for compression, codec in [("", "ZSTD"), ('compression = "snappy"', "SNAPPY"), ('compression = "none"', "UNCOMPRESSED")]:
            with self.subTest(codec):
                before = set(self.files())
                records = [json.dumps({"n": puts + n, "text": "abc" * 100}).encode() for n in range(500)]
                places = self.put(records)
                self.run_until(self.pipeline(compression, columns), puts + len(records))
                counts = 0
                for path in set(self.files()) - before:
                    file = pyarrow.parquet.ParquetFile(path)
                    says = {key.decode(): value.decode() for key, value in file.metadata.metadata.items()}
                    numbers = [row["n"] - puts for row in file.read().to_pylist()]
                    shard = {places[number][0] for number in numbers}
                    self.assertEqual({says["kinesink-shard"]}, shard)
                    self.assertEqual(says["kinesink-stream"], self.name)
                    sequences = [places[number][1] for number in numbers]
                    self.assertEqual(sequences, sorted(sequences), "rows stand in the order of the stream")
                    first, last = int(says["kinesink-first"].split(".")[0]), int(says["kinesink-last"].split(".")[0])
                    self.assertEqual((first, last), (sequences[0], sequences[-1]))
                    self.assertEqual(int(says["kinesink-count"]), len(numbers))
                    counts += len(numbers)
                    self.assertRegex(file.metadata.created_by, r"^kinesink version \d")
                    for group in range(file.metadata.num_row_groups):
                        column = file.metadata.row_group(group).column(1)
                        self.assertEqual(column.compression, codec)
                        self.assertTrue(column.has_column_index and column.has_offset_index)
                        numbers_of_group = file.metadata.row_group(group).column(0).statistics
                        self.assertEqual(numbers_of_group.null_count, 0)
                        self.assertIn("RLE_DICTIONARY", column.encodings)
                self.assertEqual(counts, len(records))
                puts += len(records)

    def test_row_groups_pages_dictionary_and_statistics_are_as_asked(self):
        columns = '[sink.columns]\nn = "int64"\ntext = "string"\nkind = "string"\n'
        kib, puts = 1024, 0
        cases = [
            # What is asked; bounds of a row group's and a page's bytes; dictionaries; statistics of groups, of pages.
            ("", None, 1024 * kib, True, True, True),
            # Its texts are all different: what a dictionary does not take stands in pages.
            ('row_group = "1MiB"\npage = "8KiB"\ndictionary = "16KiB"', 1024 * kib, 8 * kib, True, True, True),
            ('dictionary = "0B"\nstatistics = "row-group"', None, 1024 * kib, False, True, False),
            ('statistics = "none"\npage = "64KiB"', None, 64 * kib, True, False, False),
        ]
        for asked, group_bytes, page_bytes, dictionary, of_groups, of_pages in cases:
            with self.subTest(asked):
                before = set(self.files())
                count = 8000
                self.put(
                    [
                        json.dumps({"n": puts + n, "text": f"{puts + n:x}-" * 40, "kind": "ab"[n % 2]}).encode()
                        for n in range(count)
                    ]
                )
                puts += count
                self.run_until(self.pipeline(asked + '\ncompression = "none"', columns, window=100_000), puts)
                rows, groups_of_files = 0, []
                for path in set(self.files()) - before:
                    file, data = pyarrow.parquet.ParquetFile(path).metadata, path.read_bytes()
                    rows += file.num_rows
                    groups = [file.row_group(group) for group in range(file.num_row_groups)]
                    groups_of_files.append(len(groups))
                    for group in groups:
                        if group_bytes:
                            self.assertLess(group.total_byte_size, group_bytes * 1.2)
                        text, kind = group.column(1), group.column(2)
                        self.assertEqual(text.statistics is not None, of_groups)
                        self.assertEqual((text.has_column_index, kind.has_column_index), (of_pages, of_pages))
                        self.assertEqual("RLE_DICTIONARY" in kind.encodings, dictionary)
                        start = text.dictionary_page_offset or text.data_page_offset
                        sizes = pages.data_page_bytes(data, start, start + text.total_compressed_size)
                        # The limit is looked at after some values, fewer of them where it is low.
                        self.assertLess(max(sizes), 3 * page_bytes)
                        if group.total_byte_size > 20 * page_bytes:
                            self.assertGreater(len(sizes), 5)
                self.assertEqual(rows, count)
                if group_bytes:
                    self.assertGreater(max(groups_of_files), 1)

    def test_what_does_not_fit_goes_where_its_column_says(self):
        columns = """
[sink.columns]
n = "int64"
strict = "decimal(5,2)"
nulled = { type = "list<int64>", on_mismatch = "null" }
loose = { type = "int64", on_mismatch = "coerce" }
"""
        cases = [
            (b'{"n":0,"strict":999.99,"nulled":[1],"loose":1}', {"strict": "999.99", "nulled": [1], "loose": 1}),
            (b'{"n":1,"strict":1000}', "field `strict`: decimal(5,2) is declared, a number out of range was found"),
            (b'{"n":2,"strict":1e400}', "field `strict`: decimal(5,2) is declared, a number out of range was found"),
            (b'{"n":3,"strict":"1.005"}', "a number with more digits after the point was found"),
            (b'{"n":4,"strict":true}', "field `strict`: decimal(5,2) is declared, a boolean was found"),
            (b'{"n":5,"nulled":[1,"x",3]}', {"nulled": [1, None, 3], "_rest": '{"nulled":[1,"x",3]}'}),
            (b'{"n":6,"nulled":"x","other":{}}', {"_rest": '{"nulled":"x","other":{}}'}),
            (b'{"n":7,"loose":" 12 "}', {"loose": 12}),
            (b'{"n":8,"loose":2.5}', {"loose": 3}),
            (b'{"n":9,"loose":"twelve"}', "field `loose`: int64 is declared, a string was found"),
            (b'{"n":10,"n":11}', "field `n`: int64 is declared, a field that stands twice was found"),
            (b'{"n":12,"nulled":[1],"nulled":[2]}', {"n": 12, "_rest": '{"nulled":[1],"nulled":[2]}'}),
            (b'{"n":13,"loose":1,"loose":2}', {"loose": 2}),
            (b'{"n":14,"text":"\xff"}', "not UTF-8 after 16 bytes"),
            (b'{"n":15', "not JSON"),
            (b"[]", "a list of JSON, where a row is an object"),
            (b"", "not JSON"),
            (b'{"n":null,"strict":null,"nulled":[null],"loose":null,"_rest":null}', {"nulled": [None], "_rest": '{"_rest":null}'}),
        ]
        places = self.put([record for record, _ in cases])
        self.run_until(self.pipeline("", columns), len(cases))

        letters = {(letter["shard"], int(letter["sequence"])): letter for letter in self.dead_letters()}
        rows = {}
        for path in self.files():
            for row in pyarrow.parquet.ParquetFile(path).read().to_pylist():
                rows[row["n"]] = row
        for (record, expected), place in zip(cases, places):
            if isinstance(expected, str):
                letter = letters.pop(place)
                self.assertIn(expected, letter["reason"])
                self.assertEqual(base64.b64decode(letter["data"]), record)
                self.assertEqual(letter["stage"], "sink:s3")
                if "declared" in expected:
                    self.assertRegex(letter["reason"], r"first at \d+\S* of shardId-\d+$")
                continue
            row = {"strict": None, "nulled": None, "loose": None, "_rest": None, "n": json.loads(record)["n"]} | expected
            found = rows.pop(row["n"])
            found["strict"] = found["strict"] if found["strict"] is None else str(found["strict"])
            self.assertEqual(found, row)
        self.assertEqual((letters, rows), ({}, {}))
        log = self.log()
        for told in ["field `loose`: int64 is declared, a string was found: it is made to fit", "becomes null"]:
            self.assertIn(told, log)

    def test_without_a_place_for_it_what_does_not_fit_halts_its_shard_and_loses_nothing(self):
        columns = '[sink.columns]\nn = "int64"\n'
        good = [json.dumps({"n": n}).encode() for n in range(40)]
        self.put(good + [b'{"n":"x"}'] + good)
        process = self.start(self.pipeline("", columns, dead_letter=False, window=10))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "int64 is declared, a string was found" not in self.log():
            self.assertIsNone(process.poll(), self.log())
            self.assertLess(time.monotonic(), deadline, self.log())
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE_SECONDS)
        # What was announced is finished as it was announced; a place for what is refused counts at once.
        self.run_until(self.pipeline("", columns, window=10), 81)
        self.assertEqual(
            collections.Counter(row["n"] for row in self.table().to_pylist()),
            collections.Counter([*range(40), *range(40)]),
        )
        [letter] = self.dead_letters()
        self.assertEqual(base64.b64decode(letter["data"]), b'{"n":"x"}')

    def test_kills_double_nothing_and_leave_no_hole(self):
        columns = '[sink.columns]\nn = "int64"\npad = "string"\n'
        file = self.pipeline('key = "half={.half}/{shard}-{first}"', columns, window=20)
        put = 0
        for kill in range(5):
            before = len(self.files())
            process = self.start(file)
            self.put([json.dumps({"n": put + n, "half": n % 2, "pad": "x" * 200}).encode() for n in range(400)])
            put += 400
            deadline = time.monotonic() + PATIENCE_SECONDS
            while len(self.files()) == before:
                self.assertLess(time.monotonic(), deadline, self.log())
                time.sleep(0.01)
            time.sleep(0.03 * kill)
            self.end(process)
        self.run_until(file, put)
        self.assertEqual(sorted(row["n"] for row in self.table().to_pylist()), list(range(put)))

    def test_columns_that_a_sample_proposes_take_the_whole_stream(self):
        records, _ = zip(*model.records(500, SEED + 3))
        odd = [b'{"id":1.5,"kind":7}', b'{"late":"2026-01-31T08:00:00.123456789Z","ID":2}']
        self.put([*odd, *records])
        file = self.pipeline("", dead_letter=False)
        refused = subprocess.run([KINESINK, "run", file], capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
        self.assertEqual(refused.returncode, 2, refused.stderr.decode())
        self.assertIn(f"kinesink check {file} --sample 1000", "".join(refused.stderr.decode().split("\n")).replace("  ", ""))
        tables = boto3.client("dynamodb", config=CONFIG).list_tables()["TableNames"]

        command = [KINESINK, "check", file, "--sample", "1000"]
        sample = subprocess.run(command, capture_output=True, timeout=60, stdin=subprocess.DEVNULL, text=True)
        self.assertEqual(sample.returncode, 0, sample.stderr)
        self.assertIn("# proposed from 502 records", sample.stdout)
        self.assertIn('kind = { type = "string", on_mismatch = "coerce" }', sample.stdout)
        self.assertIn('late = { type = "timestamp", on_mismatch = "coerce" }', sample.stdout)
        self.assertIn('day = "date"', sample.stdout)
        self.assertIn('# "ID" goes to the rest column', sample.stdout)
        after = boto3.client("dynamodb", config=CONFIG).list_tables()["TableNames"]
        self.assertEqual(after, tables, "a sample takes no lease")
        self.assertEqual(self.files(), [])

        file.write_text(file.read_text() + sample.stdout)
        self.run_until(file, 502)
        self.assertEqual(self.dead_letters(), [])
        types, rows = self.rows_of_duckdb()
        self.assertEqual(len(rows), 502)
        self.assertEqual(types["at"], "TIMESTAMP WITH TIME ZONE")


def main():
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    failed = len({getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors})
    print(f"{result.testsRun - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
