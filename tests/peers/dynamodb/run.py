"""The latest state, the counters and the metrics of keys in DynamoDB tables, under kills, takeovers, a reshard and a worker that wakes late.

    python tests/peers/dynamodb/run.py BINARY [--seeds COUNT] [--first SEED] [--minutes MINUTES]

Kinesis and DynamoDB are where AWS_ENDPOINT_URL_KINESIS and AWS_ENDPOINT_URL_DYNAMODB say. For each seed a stream is written to, four
of five records to 20 keys, while workers of the binary are killed, stopped and continued, and a proxy before the tables throttles,
cuts and delays their writes: see proxy.py. The tables have to be what a replay of each key's records, one after the other, makes of
them: see oracle.py, which shares nothing with the binary. Records that no table takes have to be dead letters, and no
others. Then what only the service found wrong is mended, and `kinesink replay` sends the dead letters again, once or three times, the
first of which is killed: the tables have to be what that makes of them by the docs: see replayed.py.

Every other seed has metrics, whose windows are announced. Each has one of `guard = "takeover"`, a version, and `guard = "never"`; of the
last, an item may have another state than its last one, if its sender had given that up, or another worker was further then.
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
import unittest
from concurrent.futures import ThreadPoolExecutor

import boto3

import proxy_test
from oracle import expected, found, live, read_stream, refused, taken
from pipeline import pipeline
from proxy import POISON, Proxy
from replayed import after, letters_of, with_logs_sorted

RECORDS_OF_A_PHASE = 240
KEYS, HOT_KEYS, SHOPS, THINGS = 160, 20, 5, 30
SETTLED_WITHIN_S = 180
AT_ONCE = 5
# By what a takeover is told from what follows.
MARGIN_S = 61
# What no table takes, or not each: an empty key, a number of 39 digits, an item above 400 KB, and what only the service finds.
BAD = {
    "empty key": {"id": ""},
    "39 digits": {"n": int("1" * 39)},
    "too large": {"pad": "x" * 410_000},
    "poison": {"poison": POISON},
    "poisoned shop": {"shop": POISON},
}
BAD_SHARE = 0.04
# Versions in no order, no two the same.
VERSIONS, STEP = 100_003, 7919
EXIT_DONE, EXIT_REFUSED_STILL = 0, 1

EXTRA, LONG_EVERY = ["takeover", "versions", "never"], 15


class Seed:
    def __init__(self, binary, seed, folder):
        self.binary, self.seed, self.folder = binary, seed, folder
        self.name = f"seed-{seed}"
        self.random = random.Random(seed)
        self.kinesis, self.dynamodb = boto3.client("kinesis"), boto3.client("dynamodb")
        self.proxy = Proxy(os.environ["AWS_ENDPOINT_URL_DYNAMODB"], seed)
        # In turn, and metrics beside each of them.
        self.tables = ["latest", "counters", "journal", EXTRA[seed % len(EXTRA)]] + ["metrics"] * (seed % 2 == 0)
        # Only so does a worker write without conditions that has taken a shard over.
        self.is_long = seed % LONG_EVERY == 0
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
            # What was a dead letter of the first is none that the second counts.
            self.proxy.counts_mended = True
            second = self.start("second")
            if self.is_long:
                time.sleep(MARGIN_S)
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
            if self.is_long:
                assert any(table.startswith("takeover") for table, _ in self.proxy.unguarded), "every write had a condition"
            self.replay()
        finally:
            for worker in self.workers:
                worker.kill()
                worker.wait()
            self.proxy.shutdown()

    def start(self, worker, create=False):
        process = self.run_binary("run", worker, *["--create"] * create, stdout=subprocess.DEVNULL)
        self.workers.append(process)
        return process

    def run_binary(self, command, worker, *arguments, stdout):
        file = self.folder / f"{self.name}-{worker}.toml"
        dead_letters = self.folder / f"{self.name}-dead-letters"
        window = self.random.choice([5, 40, 200])
        file.write_text(pipeline(self.tables, self.name, worker, window, self.proxy.address(worker), dead_letters))
        with open(self.folder / f"{self.name}.log", "ab") as log:
            return subprocess.Popen([self.binary, command, file, *arguments], stdout=stdout, stderr=log)

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
        bad = {}
        if self.random.random() < BAD_SHARE:
            kind = self.random.choice(list(BAD))
            bad = {"bad": kind, "op": "put"} | BAD[kind]
        return {
            "id": f"key-{key}",
            "op": "delete" if self.random.random() < 0.1 else "put",
            "n": self.written,
            "size": {"name": ["reserved", self.written], "of": None},
            "count": self.random.randrange(-3, 9),
            "sum": self.random.randrange(-1000, 1000) / 8,
            "log": [self.written],
            # Of all shards, and of more minutes than one.
            "thing": f"thing-{self.random.randrange(THINGS)}",
            "version": self.written * STEP % VERSIONS,
            "shop": f"shop-{self.random.randrange(SHOPS)}",
            "ts": f"2026-01-31T12:0{self.random.randrange(3)}:{self.random.randrange(60):02}Z",
        } | bad

    def split(self):
        shard = self.kinesis.list_shards(StreamName=self.name)["Shards"][0]
        bounds = [int(shard["HashKeyRange"][end]) for end in ("StartingHashKey", "EndingHashKey")]
        middle = str(sum(bounds) // 2)
        self.kinesis.split_shard(StreamName=self.name, ShardToSplit=shard["ShardId"], NewStartingHashKey=middle)

    def found(self):
        """Of each table its items, and its marks of deleted ones."""
        return {table: found(self.dynamodb, table, f"{table}-{self.name}") for table in self.tables}

    def until_tables_change(self):
        """Looks at the smallest of them: what is read of a table takes time from who writes."""
        latest_now = lambda: found(self.dynamodb, "latest", f"latest-{self.name}")
        before, deadline = latest_now(), time.monotonic() + SETTLED_WITHIN_S
        while latest_now() == before:
            ended = self.workers[-1].poll()
            assert ended is None, f"{self.name}: the worker ended with {ended}; {self.log()}"
            assert time.monotonic() < deadline, f"{self.name}: nothing is written; {self.log()}"
            time.sleep(0.1)

    def settle(self):
        self.records = read_stream(self.kinesis, self.name)
        assert len(self.records) == self.written, f"{self.name}: {len(self.records)} of {self.written} records in the stream"
        bad = refused(self.records, self.tables)
        assert all(bad), f"{self.name}: every record is one that a table takes"
        # A machine that does much else at once is slow, which is no difference.
        tables, moved_at = None, time.monotonic()
        while self.differences(now := self.found(), self.wanted()) or not self.letters_are(*bad):
            if now != tables:
                tables, moved_at = now, time.monotonic()
            if time.monotonic() > moved_at + SETTLED_WITHIN_S:
                self.differ(self.wanted(), *bad)
            time.sleep(1)
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.wait(timeout=60)
        # What comes late shows now.
        self.proxy.settle()
        assert all(self.proxy.counts.values()), f"{self.name}: no fault of a kind: {self.proxy.counts}"
        if self.differences(self.found(), self.wanted()) or not self.letters_are(*bad):
            self.differ(self.wanted(), *bad)

    def wanted(self):
        letters = self.dead_letters()
        return {table: expected(table, self.records, letters) for table in self.tables}

    def replay(self):
        """Sends the dead letters again, of which the tables take some now."""
        before, letters = self.found(), self.dead_letters()
        wanted = {}
        for table, (items, marks) in before.items():
            wanted[table] = after(table, items, marks, letters_of(table, self.records, letters), self.records)
        self.proxy.mended = True
        times = self.random.choice([1, 3])
        for time_left in reversed(range(times)):
            process = self.run_binary("replay", "replay", stdout=subprocess.PIPE)
            if time_left == 2:
                time.sleep(self.random.uniform(0, 0.5))
                process.kill()
            said = process.communicate(timeout=SETTLED_WITHIN_S)[0].decode()
            is_done = process.returncode in (EXIT_DONE, EXIT_REFUSED_STILL) and "outputs delivered" in said
            assert is_done or time_left == 2, f"{self.name}: the replay ended with {process.returncode}: {said} {self.log()}"
        self.proxy.settle()
        if self.differences(self.found(), wanted, before):
            print(f"after {times} replays:")
            self.differ(wanted, letters, letters, before)
        assert self.dead_letters() == letters, f"{self.name}: a replay has changed the dead letters"

    def differences(self, tables, wanted, before=None):
        """Where they are not what the stream says: (table, key, what is there, what is wanted)."""
        differences = []
        for table, (items, _) in tables.items():
            items, wanted_items = live(items), wanted[table]
            if before and table == "counters":
                earlier = before[table][0]
                items, wanted_items = with_logs_sorted(items, earlier), with_logs_sorted(wanted_items, earlier)
            for key in sorted(items.keys() | wanted_items.keys()):
                has, wants = items.get(key), wanted_items.get(key)
                if has != wants and not self.is_explained(table, key, has, wants, before):
                    differences.append((table, key, has, wants))
        return differences

    def is_explained(self, table, key, has, wants, before):
        """An item that is written without a condition may have an earlier state, whole, that came late. Or after a replay, of `before`, that of
        an earlier letter: where a lease was lost, the same letters are in windows that were cut elsewhere."""
        if table != "never" and not (table == "takeover" and self.is_long):
            return False
        of_key = [record for _, record in taken(table, self.records) if record["id"] == key]
        is_state = any(record["op"] == "delete" if has is None else has.items() >= record.items() for record in of_key)
        if before and table == "never" and has:
            letters = letters_of(table, self.records, self.dead_letters())
            if any(record["id"] == key and has.items() >= record.items() for _, record in letters):
                return True
        state = lambda item: item and {"N": str(item["n"])}
        return is_state and self.proxy.explains(f"{table}-{self.name}", key, state(has), state(wants))

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

    def differ(self, wanted, needed, allowed, before=None):
        letters = self.dead_letters()
        print(f"dead letters that are missing: {needed - letters}, and too many: {letters - allowed}")
        for table, key, has, wants in self.differences(self.found(), wanted, before):
            print(f"{table} {key}:\n  has   {has}\n  wants {wants}")
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
    tested = unittest.TextTestRunner(stream=sys.stdout).run(unittest.defaultTestLoader.loadTestsFromModule(proxy_test))
    wrong = len(tested.failures) + len(tested.errors)
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
    print(f"{tested.testsRun - wrong + len(passed)} passed, {wrong + len(failed)} failed")
    return 1 if wrong or failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
