"""The latest state, the counters and the metrics of keys in DynamoDB tables, under kills, takeovers, a reshard and a worker that wakes late.

    python tests/peers/dynamodb/run.py BINARY [--seeds COUNT] [--first SEED] [--minutes MINUTES]

Kinesis and DynamoDB are where AWS_ENDPOINT_URL_KINESIS and AWS_ENDPOINT_URL_DYNAMODB say. For each seed a stream is written to, four
of five records to 20 keys, while workers of the binary are killed, stopped and continued, and a proxy before the tables throttles,
cuts and delays their writes: see proxy.py. The tables have to be what a replay of each key's records, one after the other, makes of
them: see oracle.py, which shares nothing with the binary. Records that no table takes have to be dead letters, and no
others. Every other seed has metrics, whose windows are announced.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import boto3

from oracle import counted, counters, journal, journaled, latest, live, metrics, read_stream, refused
from proxy import POISON, Proxy

RECORDS_OF_A_PHASE = 240
KEYS, HOT_KEYS, SHOPS = 160, 20, 5
SETTLED_WITHIN_S = 180
AT_ONCE = 5

PIPELINE = """
version = 1
app = "app-{name}"
memory = "32MiB"
[source]
stream = "{name}"
start = "trim-horizon"
idle = "200ms"
[lease]
worker_id = "{worker}"
failover = "2s"
shard_sync = "1s"
[buffer]
records = {window}
age = "150ms"
[dead_letter]
url = "file://{folder}"
[[sink]]
name = "latest"
type = "dynamodb"
table = "latest-{name}"
endpoint = "{endpoint}"
key = {{ id = ".id" }}
ttl = "expires"
delete = {{ field = ".op", is = ["delete"] }}
[[sink]]
name = "counters"
type = "dynamodb"
table = "counters-{name}"
endpoint = "{endpoint}"
key = {{ id = ".id" }}
set = [".n", ".size", ".pad", ".poison"]
add = [".count", ".sum"]
append = [".log"]
ttl = "expires"
delete = {{ field = ".op", is = ["delete"] }}
[[sink]]
name = "journal"
type = "dynamodb"
table = "journal-{name}"
endpoint = "{endpoint}"
key = {{ id = ".id", at = "{{position}}" }}
guard = "never"
"""

METRICS = """
[[sink]]
name = "metrics"
type = "dynamodb"
table = "metrics-{name}"
endpoint = "{endpoint}"
key = {{ shop = ".shop", minute = "{{window}}" }}
[sink.aggregate]
window = "1m"
event_time = {{ field = ".ts" }}
count = "records"
sum = {{ total = ".sum" }}
min = {{ least = ".sum" }}
max = {{ most = ".sum" }}
"""

TABLES = ["latest", "counters", "journal", "metrics"]
# What no table takes: an empty key, a number of 39 digits, an item above 400 KB, and what only the service finds.
BAD = [{"id": ""}, {"n": int("1" * 39)}, {"pad": "x" * 410_000}, {"poison": POISON}]
BAD_SHARE = 0.03


class Seed:
    def __init__(self, binary, seed, folder):
        self.binary, self.seed, self.folder = binary, seed, folder
        self.name = f"seed-{seed}"
        self.random = random.Random(seed)
        self.kinesis, self.dynamodb = boto3.client("kinesis"), boto3.client("dynamodb")
        self.proxy = Proxy(os.environ["AWS_ENDPOINT_URL_DYNAMODB"], seed)
        self.has_metrics = seed % 2 == 0
        self.written = 0
        self.workers = []

    def run(self):
        self.kinesis.create_stream(StreamName=self.name, ShardCount=2)
        self.kinesis.get_waiter("stream_exists").wait(StreamName=self.name)
        try:
            first = self.start("first", create=True)
            self.put()
            self.until_tables_change()
            time.sleep(self.random.uniform(0, 0.4))
            first.kill()
            second = self.start("second")
            self.put()
            self.until_tables_change()
            # In the midst of what it does: it wakes when its shards are another's.
            time.sleep(self.random.uniform(0, 0.3))
            second.send_signal(signal.SIGSTOP)
            third = self.start("third")
            self.split()
            self.put()
            self.until_tables_change()
            second.send_signal(signal.SIGCONT)
            self.put()
            if self.random.random() < 0.5:
                time.sleep(self.random.uniform(0, 0.3))
                third.kill()
                self.start("fourth")
            self.settle()
        finally:
            for worker in self.workers:
                worker.kill()
                worker.wait()
            self.proxy.shutdown()

    def start(self, worker, create=False):
        file = self.folder / f"{self.name}-{worker}.toml"
        window = self.random.choice([5, 40, 200])
        endpoint = self.proxy.address
        dead_letters = self.folder / f"{self.name}-dead-letters"
        pipeline = PIPELINE + (METRICS if self.has_metrics else "")
        text = pipeline.format(name=self.name, worker=worker, window=window, endpoint=endpoint, folder=dead_letters)
        file.write_text(text)
        command = [self.binary, "run", file] + (["--create"] if create else [])
        with open(self.folder / f"{self.name}.log", "ab") as log:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        self.workers.append(process)
        return process

    def put(self):
        for _ in range(RECORDS_OF_A_PHASE // 80):
            records = [self.record() for _ in range(80)]
            entries = [
                {"Data": json.dumps(record).encode(), "PartitionKey": record["id"] or "nobody"} for record in records
            ]
            reply = self.kinesis.put_records(StreamName=self.name, Records=entries)
            assert reply["FailedRecordCount"] == 0, reply
            time.sleep(self.random.uniform(0, 0.1))

    def record(self):
        self.written += 1
        hot = self.random.random() < 0.8
        key = self.random.randrange(HOT_KEYS) if hot else self.random.randrange(HOT_KEYS, KEYS)
        bad = {"bad": True, "op": "put"} | self.random.choice(BAD) if self.random.random() < BAD_SHARE else {}
        return {
            "id": f"key-{key}",
            "op": "delete" if self.random.random() < 0.1 else "put",
            "n": self.written,
            "size": {"name": ["reserved", self.written], "of": None},
            "count": self.random.randrange(-3, 9),
            "sum": self.random.randrange(-1000, 1000) / 8,
            "log": [self.written],
            # Of all shards, and of more minutes than one.
            "shop": f"shop-{self.random.randrange(SHOPS)}",
            "ts": f"2026-01-31T12:0{self.random.randrange(3)}:{self.random.randrange(60):02}Z",
        } | bad

    def split(self):
        shard = self.kinesis.list_shards(StreamName=self.name)["Shards"][0]
        bounds = [int(shard["HashKeyRange"][end]) for end in ("StartingHashKey", "EndingHashKey")]
        middle = str(sum(bounds) // 2)
        self.kinesis.split_shard(StreamName=self.name, ShardToSplit=shard["ShardId"], NewStartingHashKey=middle)

    def tables(self):
        name, dynamodb = self.name, self.dynamodb
        tables = [live(dynamodb, f"latest-{name}"), live(dynamodb, f"counters-{name}"), journaled(dynamodb, f"journal-{name}")]
        return tables + [counted(dynamodb, f"metrics-{name}")] * self.has_metrics

    def until_tables_change(self):
        """Looks at the smallest of them: what is read of a table takes time from who writes."""
        latest_now = lambda: live(self.dynamodb, f"latest-{self.name}")
        before, deadline = latest_now(), time.monotonic() + SETTLED_WITHIN_S
        while latest_now() == before:
            ended = self.workers[-1].poll()
            assert ended is None, f"{self.name}: the worker ended with {ended}; {self.log()}"
            assert time.monotonic() < deadline, f"{self.name}: nothing is written; {self.log()}"
            time.sleep(0.1)

    def settle(self):
        records = read_stream(self.kinesis, self.name)
        assert len(records) == self.written, f"{self.name}: {len(records)} of {self.written} records in the stream"
        expected = [latest(records), counters(records), journal(records)] + [metrics(records)] * self.has_metrics
        bad = refused(records, TABLES[: len(expected)])
        assert all(bad), f"{self.name}: every record is one that a table takes"
        # A machine that does much else at once is slow, which is no difference.
        tables, moved_at = None, time.monotonic()
        while (now := self.tables()) != expected or not self.letters_are(*bad):
            if now != tables:
                tables, moved_at = now, time.monotonic()
            if time.monotonic() > moved_at + SETTLED_WITHIN_S:
                self.differ(expected, *bad)
            time.sleep(1)
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.wait(timeout=60)
        # What comes late shows now.
        self.proxy.settle()
        assert all(self.proxy.counts.values()), f"{self.name}: no fault of a kind: {self.proxy.counts}"
        if self.tables() != expected or not self.letters_are(*bad):
            self.differ(expected, *bad)

    def dead_letters(self):
        """Who refused which record. A letter may be there twice: that is at least once."""
        letters = set()
        for path in (self.folder / f"{self.name}-dead-letters").rglob("[!.]*"):
            for line in path.read_text().splitlines() if path.is_file() else []:
                letter = json.loads(line)
                letters.add((letter["stage"], int(letter["sequence"])))
        return letters

    def letters_are(self, needed, allowed):
        return needed <= self.dead_letters() <= allowed

    def differ(self, expected, needed, allowed):
        letters = self.dead_letters()
        print(f"dead letters that are missing: {needed - letters}, and too many: {letters - allowed}")
        for table, found, wanted in zip(TABLES, self.tables(), expected):
            for key in sorted(found.keys() | wanted.keys()):
                if found.get(key) != wanted.get(key):
                    print(f"{table} {key}:\n  has   {found.get(key)}\n  wants {wanted.get(key)}")
        raise AssertionError(f"{self.name}: the tables are not what the stream says; {self.log()}")

    def log(self):
        text = (self.folder / f"{self.name}.log").read_text()
        return "\n".join(text.splitlines()[-40:])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="goes on with further seeds for so long")
    arguments = parser.parse_args()
    deadline = time.monotonic() + 60 * (arguments.minutes or 0)
    passed, failed, lock = [], [], threading.Lock()

    def one(seed):
        if arguments.minutes and (failed or time.monotonic() > deadline):
            return
        try:
            Seed(os.path.abspath(arguments.binary), seed, folder).run()
        except Exception as error:  # Each seed is told apart, whatever happens to it.
            with lock:
                failed.append(seed)
                print(f"seed {seed}: {type(error).__name__}: {error}")
        else:
            with lock:
                passed.append(seed)
                print(f"seed {seed}: the tables are what the stream says", flush=True)

    seeds = range(arguments.first, arguments.first + (100_000 if arguments.minutes else arguments.seeds))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(one, seeds))
    print(f"{len(passed)} passed, {len(failed)} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
