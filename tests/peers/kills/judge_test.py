"""The judge finds each way in which objects can be wrong."""

import gzip
import io
import json
import subprocess
import sys
import unittest

import pyarrow
import pyarrow.parquet

import judge

SHARD = "shardId-000000000000"
PARTS = ["a", "b"]


def record(number):
    fields = {"n": number, "part": PARTS[number % 2], "amount": "1.50", "at": number, "tags": ["x", None], "text": "é"}
    return judge.Record(SHARD, 100 + number, json.dumps(fields).encode())


def named(first, last, part, kind, count):
    metadata = {
        "kinesink-shard": SHARD,
        "kinesink-first": f"{first}.0",
        "kinesink-last": f"{last}.0",
        "kinesink-count": str(count),
    }
    return f"kills/part={part}/{SHARD}-{first:056}.00-{last:056}.00.{kind}", metadata


def columns(records, metadata):
    table = pyarrow.Table.from_pylist([judge.columns(record.data) for record in records])
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), buffer)
    return buffer.getvalue()


def written(records, kind="ndjson"):
    """As the objects of one window."""
    first, last = records[0].sequence, records[-1].sequence
    objects = []
    for part in PARTS:
        of_part = [record for record in records if json.loads(record.data)["part"] == part]
        body = b"".join(record.data + b"\n" for record in of_part)
        if kind == "ndjson.gz":
            body = gzip.compress(body)
        if kind == "parquet":
            body = columns(of_part, named(first, last, part, kind, len(of_part))[1])
        objects.append((*named(first, last, part, kind, len(of_part)), body))
    return objects


class Judge(unittest.TestCase):
    def setUp(self):
        self.records = [record(number) for number in range(8)]
        self.objects = written(self.records[:4]) + written(self.records[4:])

    def finds(self, *words):
        failures = judge.Judge(self.records, self.objects).failures
        self.assertTrue(failures)
        for word in words:
            self.assertIn(word, "\n".join(failures))

    def test_what_is_right_passes_in_each_format(self):
        for kind in ["ndjson", "ndjson.gz", "parquet"]:
            objects = written(self.records[:4], kind) + written(self.records[4:], kind)
            self.assertEqual(judge.Judge(self.records, objects).failures, [])

    def test_a_lost_object(self):
        del self.objects[1]
        self.finds("2 records are in no object, one is 1")

    def test_a_window_that_was_cut_anew(self):
        self.objects += written(self.records[2:6])
        self.finds("4 records are there more than once", "overlap")

    def test_a_row_that_is_there_twice(self):
        key, metadata, body = self.objects[0]
        self.objects[0] = key, metadata | {"kinesink-count": "4"}, body + body
        self.finds("more than once", "out of its place or its order")

    def test_a_changed_value(self):
        key, metadata, body = self.objects[0]
        self.objects[0] = key, metadata, body.replace(b"1.50", b"1.51")
        self.finds("where the stream has")

    def test_a_changed_value_in_a_column(self):
        self.objects = written(self.records[:4], "parquet") + written(self.records[4:], "parquet")
        self.records[2] = self.records[2]._replace(data=self.records[2].data.replace(b"1.50", b"1.51"))
        self.finds("where the stream has")

    def test_other_places_inside_of_a_file(self):
        self.objects = written(self.records, "parquet")
        key, metadata, _ = self.objects[0]
        body = columns(self.records[::2], metadata | {"kinesink-last": "999.0"})
        self.objects[0] = key, metadata, body
        self.finds("other places inside")

    def test_a_record_of_another_place(self):
        self.records[0] = self.records[0]._replace(sequence=105)
        self.finds("out of its place or its order")

    def test_a_row_of_another_partition(self):
        key, metadata, body = self.objects[0]
        self.objects[0] = key.replace("part=a", "part=c"), metadata, body
        self.finds("of another partition")

    def test_a_row_from_nowhere(self):
        self.records.pop()
        self.finds("in no stream")

    def test_a_count_that_is_wrong(self):
        key, metadata, body = self.objects[0]
        self.objects[0] = key, metadata | {"kinesink-count": "3"}, body
        self.finds("has 2 rows and says 3")

    def test_half_an_object(self):
        for kind in ["ndjson", "ndjson.gz", "parquet"]:
            self.objects = written(self.records, kind)
            key, metadata, body = self.objects[0]
            self.objects[0] = key, metadata, body[: len(body) // 2 - 1]
            self.finds("cannot be read")

    def test_its_exit_code_is_1(self):
        code = "import sys, judge, judge_test; judge.read = lambda _: ([judge_test.record(1)], []); sys.exit(judge.main())"
        ran = subprocess.run([sys.executable, "-c", code, "."], cwd=sys.path[0], stdout=subprocess.PIPE)
        self.assertEqual(ran.returncode, 1)


if __name__ == "__main__":
    unittest.main()
