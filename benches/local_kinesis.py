"""What a local Kinesis costs: ours, kinesis-local, moto and ferrokinesis, in one run.

    cargo build --profile dist -p kinesink-cli
    cargo xtask test differential            # brings the others, and the Python environment
    target/peers/differential/bin/python benches/local_kinesis.py [--megabytes 100] [--rounds 3]
    target/peers/differential/bin/python benches/local_kinesis.py --streams 1000

Records of 1 KB go in by PutRecords of 500 and come out by GetRecords of up to 10,000, over HTTP/1.1 and JSON. Requests
are made beforehand, so that the client waits for the server, and what is compared is the server's own CPU time: one
core spends it at the rate given. A target that is slow gets fewer records. Ours runs a second time with a directory, in
which it keeps what is put. Prints a table in Markdown; machines are noisy, so read the ratios, which come from runs that
took turns.
"""

import argparse
import base64
import contextlib
import http.client
import json
import os
import pathlib
import random
import statistics
import sys
import tempfile
import time
import urllib.parse

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "peers" / "differential"))

import targets  # noqa: E402  it is found by the line above
from session import AUTHORIZATION  # noqa: E402

KEPT = "kinesink, in a directory"
STREAM, SHARDS = "bench", 4
RECORD_BYTES, RECORDS_PER_PUT = 1000, 500
SECONDS_MAX = 20
IDLE_SECONDS = 20
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Target:
    def __init__(self, target):
        self.target = target
        self.connection = http.client.HTTPConnection(urllib.parse.urlsplit(target.url).netloc, timeout=120)

    def call(self, operation, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"Kinesis_20131202.{operation}",
            "X-Amz-Date": "20260301T120000Z",
            "Authorization": AUTHORIZATION,
        }
        self.connection.request("POST", "/", data, headers)
        reply = self.connection.getresponse()
        text = reply.read()
        if reply.status != 200:
            raise SystemExit(f"{self.target.name}: {operation}: {reply.status} {text[:200]!r}")
        return text

    def cpu_s(self):
        fields = pathlib.Path(f"/proc/{self.target.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def memory_mib(self):
        return int(pathlib.Path(f"/proc/{self.target.pid}/statm").read_text().split()[1]) * PAGE / 2**20

    def create(self):
        self.call("CreateStream", {"StreamName": STREAM, "ShardCount": SHARDS})
        ends = time.monotonic() + 30
        while b"ACTIVE" not in self.call("DescribeStreamSummary", {"StreamName": STREAM}):
            if time.monotonic() > ends:
                raise SystemExit(f"{self.target.name}: the stream is not active")
            time.sleep(0.01)

    def put(self, bodies, megabytes):
        """Puts until it is enough, or takes too long; the records, and the CPU that each took."""
        records, before, began = 0, self.cpu_s(), time.monotonic()
        while records * RECORD_BYTES < megabytes * 1e6 and time.monotonic() - began < SECONDS_MAX:
            self.call("PutRecords", bodies[records // RECORDS_PER_PUT % len(bodies)])
            records += RECORDS_PER_PUT
        return records, (self.cpu_s() - before) / records

    def read(self, records):
        """Reads everything that was put; the CPU of each record."""
        before, found = self.cpu_s(), 0
        for shard in json.loads(self.call("ListShards", {"StreamName": STREAM}))["Shards"]:
            start = {"StreamName": STREAM, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
            iterator = json.loads(self.call("GetShardIterator", start))["ShardIterator"]
            while True:
                reply = json.loads(self.call("GetRecords", {"ShardIterator": iterator, "Limit": 10000}))
                found += len(reply["Records"])
                iterator = reply["NextShardIterator"]
                if not reply["Records"]:
                    break
        if found != records:
            raise SystemExit(f"{self.target.name}: {records} records were put and {found} read")
        return (self.cpu_s() - before) / records

    def idle(self, seconds):
        before = self.cpu_s()
        time.sleep(seconds)
        return (self.cpu_s() - before) / seconds


def scale(streams, seconds):
    """Ours with many streams, each with a record: what they take, and what it costs that they are there."""
    with targets.started(targets.OURS, 0) as started:
        target = Target(started)
        with contextlib.closing(target.connection):
            empty, began, before = target.memory_mib(), time.monotonic(), target.cpu_s()
            for number in range(streams):
                name = f"stream-{number}"
                target.call("CreateStream", {"StreamName": name, "ShardCount": 1})
                target.call("PutRecord", {"StreamName": name, "PartitionKey": "k", "Data": "aGVsbG8="})
            took_s, cpu_s = time.monotonic() - began, target.cpu_s() - before
            return {
                "streams": streams,
                "made in s": took_s,
                "CPU µs/stream": cpu_s / streams * 1e6,
                "KiB/stream": (target.memory_mib() - empty) * 1024 / streams,
                "idle CPU %": 100 * target.idle(seconds),
            }


def bodies():
    """Some requests, so that no two in a row are the same."""
    rng = random.Random(0)
    for _ in range(8):
        data = [base64.b64encode(rng.randbytes(RECORD_BYTES)).decode() for _ in range(RECORDS_PER_PUT)]
        records = [{"Data": text, "PartitionKey": f"key{rng.randrange(10**6)}"} for text in data]
        yield json.dumps({"StreamName": STREAM, "Records": records}).encode()


def kept(port, state_ms, folder):
    command, settings, working_directory = targets.kinesink(port, state_ms)
    return [*command, tempfile.mkdtemp(dir=folder)], settings, working_directory


def measure(name, requests, megabytes):
    began = time.monotonic()
    with targets.started(name, 10) as started:
        start_s = time.monotonic() - began
        target = Target(started)
        with contextlib.closing(target.connection):
            empty = target.memory_mib()
            target.create()
            records, put_s = target.put(requests, megabytes)
            full = target.memory_mib()
            read_s = target.read(records)
            return {
                "start s": start_s,
                "put records/s and core": 1 / put_s,
                "put µs/record": put_s * 1e6,
                "get µs/record": read_s * 1e6,
                "MiB started": empty,
                "bytes held per byte put": (full - empty) * 2**20 / (records * RECORD_BYTES),
                "idle %": 100 * target.idle(2),
            }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, help="only ours, with so many streams, and how idle it is")
    arguments = parser.parse_args()
    os.environ.setdefault("KINESINK", str(targets.TARGET / "dist" / "kinesink"))
    if arguments.streams:
        print(table({targets.OURS: scale(arguments.streams, IDLE_SECONDS)}))
        return
    targets.prepare()
    release = targets.ferrokinesis_binary("release")
    targets.COMMANDS["ferrokinesis"] = lambda port, state_ms: ([release, port, state_ms, 1000, 300], {}, None)
    requests = list(bodies())
    names = (targets.OURS, KEPT, *targets.PEERS)
    rounds = {name: [] for name in names}
    for _ in range(arguments.rounds):
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                targets.COMMANDS[KEPT] = lambda port, state_ms, folder=folder: kept(port, state_ms, folder)
                rounds[name].append(measure(name, requests, arguments.megabytes))
    columns = rounds[targets.OURS][0]
    print(table({name: {column: statistics.median(run[column] for run in rounds[name]) for column in columns}
                 for name in names}))


def table(rows):
    columns = list(next(iter(rows.values())))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, cells in rows.items():
        lines.append(f"| {name} | " + " | ".join(shown(cells[column]) for column in columns) + " |")
    return "\n".join(lines)


def shown(number):
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


if __name__ == "__main__":
    main()
