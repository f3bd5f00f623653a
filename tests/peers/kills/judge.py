"""Compares the objects in a bucket with a dump of the stream: each record once, in its place, with its values.

    python tests/peers/kills/judge.py DIR

DIR has `stream.jsonl`, a line for each record of the stream (shard, sequence, data), and `objects.jsonl`, a line for each
object (key, metadata, body); data and bodies in base64. Uses the standard library and pyarrow, and shares no code with what
wrote the objects. Prints a JSON object with `failures` and `numbers`; exits with 1 if there is a failure.

- Each record of the stream is in one object, once, and no object has anything else.
- A row holds the values of its record: NDJSON its bytes, Parquet each of its columns.
- An object's rows are records of the shard that it names, in the order of the stream, within the window that it names;
  there are as many as it says, and all of them belong to the partition in its key.
- Two windows of a shard do not overlap, and two objects of a window are of different partitions.
"""

import base64
import collections
import datetime
import decimal
import gzip
import io
import json
import pathlib
import re
import sys
import zlib

import pyarrow.parquet

KEY = re.compile(r"kills/part=(?P<part>[^/]+)/(?P<shard>shardId-\d{12})-(?P<first>\d+\.\d+)-(?P<last>\d+\.\d+)\.(?P<kind>.+)")
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)

Record = collections.namedtuple("Record", "shard sequence data")
# Where an object says that its rows are from: a window of a shard, both ends included.
Window = collections.namedtuple("Window", "shard first last")


def position(text):
    sequence, sub_sequence = text.split(".")
    return int(sequence), int(sub_sequence)


def columns(data):
    """What a Parquet row has to hold of a record."""
    fields = json.loads(data, parse_float=decimal.Decimal)
    # `part` is a partition, and a column all the same.
    return {
        "n": fields["n"],
        "part": fields["part"],
        "amount": decimal.Decimal(fields["amount"]),
        "at": EPOCH + datetime.timedelta(milliseconds=fields["at"]),
        "tags": fields["tags"],
        "text": fields["text"],
        "_rest": None,
    }


def lines(body):
    if not body.endswith(b"\n"):
        raise ValueError("the last line has no end")
    return [(json.loads(line)["n"], line) for line in body[:-1].split(b"\n")]


def rows(kind, body):
    """(number, what it holds) of each row."""
    if kind == "ndjson":
        return lines(body)
    if kind == "ndjson.gz":
        return lines(gzip.decompress(body))
    if kind == "parquet":
        file = pyarrow.parquet.ParquetFile(io.BytesIO(body))
        return [(row["n"], row) for row in file.read().to_pylist()]
    raise ValueError(f"no object is called .{kind}")


class Judge:
    def __init__(self, records, objects):
        self.failures, self.numbers = [], collections.Counter(records=len(records))
        self.records = {}
        for record in records:
            number = json.loads(record.data)["n"]
            if number in self.records:
                self.fail(f"record {number} is twice in the stream: nothing can be said of it")
            self.records[number] = record
        if not records:
            self.fail("the stream is empty")
        self.found = collections.Counter()
        self.parts = collections.defaultdict(list)
        for key, metadata, body in objects:
            try:
                self.object(key, metadata, body)
            except (KeyError, ValueError, OSError, EOFError, zlib.error) as error:
                self.fail(f"{key} cannot be read: {type(error).__name__} {error}")
        self.windows()
        self.completeness()

    def fail(self, what):
        self.failures.append(what)

    def object(self, key, metadata, body):
        named = KEY.fullmatch(key)
        if named is None:
            return self.fail(f"{key} is no name of an object")
        window = Window(named["shard"], position(named["first"]), position(named["last"]))
        said = Window(metadata["kinesink-shard"], position(metadata["kinesink-first"]), position(metadata["kinesink-last"]))
        if said != window:
            self.fail(f"{key} says of itself that it is of {said}")
        if named["kind"] == "parquet":
            inside = pyarrow.parquet.read_metadata(io.BytesIO(body)).metadata
            if any(inside[name.encode()].decode() != said for name, said in metadata.items() if name != "kinesink-digest"):
                self.fail(f"{key} has other places inside than it says outside")
        self.parts[window].append(named["part"])
        self.numbers[named["kind"]] += 1
        got = rows(named["kind"], body)
        if len(got) != int(metadata["kinesink-count"]) or not got:
            self.fail(f"{key} has {len(got)} rows and says {metadata['kinesink-count']}")
        before = window.first
        for number, row in got:
            self.found[number] += 1
            record = self.records.get(number)
            if record is None:
                self.fail(f"{key} has a row {number} that is in no stream")
                continue
            wanted = columns(record.data) if named["kind"] == "parquet" else record.data
            if row != wanted:
                self.fail(f"{key} has {row} where the stream has {wanted}")
            at = (record.sequence, 0)
            if record.shard != window.shard or not before <= at <= window.last:
                self.fail(f"{key} has record {number} of {record.shard} at {at}, out of its place or its order")
            before = max(before, at)
            if json.loads(record.data)["part"] != named["part"]:
                self.fail(f"{key} has record {number} of another partition")

    def windows(self):
        self.numbers["windows"] = len(self.parts)
        of_shard = collections.defaultdict(list)
        for window, parts in self.parts.items():
            of_shard[window.shard].append(window)
            if len(set(parts)) != len(parts):
                self.fail(f"{window} has two objects of one partition")
        for windows in of_shard.values():
            windows.sort()
            for one, next_one in zip(windows, windows[1:]):
                if one.last >= next_one.first:
                    self.fail(f"{one} and {next_one} overlap")

    def completeness(self):
        missing = self.records.keys() - self.found.keys()
        if missing:
            self.fail(f"{len(missing)} records are in no object, one is {min(missing)} of {self.records[min(missing)].shard}")
        doubled = [number for number, times in self.found.items() if times > 1]
        if doubled:
            self.fail(f"{len(doubled)} records are there more than once, one is {min(doubled)}")


def read(directory):
    with (directory / "stream.jsonl").open() as file:
        records = [Record(shard, int(sequence), base64.b64decode(data)) for shard, sequence, data in map(json.loads, file)]
    with (directory / "objects.jsonl").open() as file:
        objects = [(key, metadata, base64.b64decode(body)) for key, metadata, body in map(json.loads, file)]
    return records, objects


def main():
    judge = Judge(*read(pathlib.Path(sys.argv[1])))
    print(json.dumps({"failures": judge.failures, "numbers": judge.numbers}))
    return 1 if judge.failures else 0


if __name__ == "__main__":
    sys.exit(main())
