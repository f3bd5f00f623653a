"""Workers of ours and of other KCLs on one lease table: who takes over from whom, and what becomes of the records.

    kinesink local -- python tests/peers/interop/interop.py BUILD_DIR JOURNAL [PEER/SCENARIO...] [--minutes N]

BUILD_DIR is the built Maven project tests/peers/kcl, JOURNAL our worker (examples/journal.rs). The lease tables are in AWS's
DynamoDB Local. Each cell has a stream of its own with a producer, its workers' journals, and a watch on its table;
`judge.py`, which shares no code with any of them, then says whether all is well. Without arguments: the cells of the newest
KCL. With --minutes: the whole matrix, for so long at most, and its result in docs/interop.md.

Ends with `N passed, N failed`.
"""

import collections
import concurrent.futures
import contextlib
import datetime
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

import boto3
from botocore.config import Config

import judge_test
from dynamodb_local import dynamodb_local

HERE = pathlib.Path(__file__).parent
SHARDS = 4
# KCL 2.x counts finished leases too: with fewer, one side's share may be the parents of the split and the merge.
SHARDS_TOGETHER = 8
RECORDS_PER_PUT = 10
PUT_PAUSE_SECONDS = 0.25
WATCH_PAUSE_SECONDS = 0.2
RESHARD_SECONDS_MAX = 60
STOP_SECONDS_MAX = 60
# Of a whole cell: whatever hangs, the next one comes.
CELL_SECONDS_MAX = 900
CELLS_AT_ONCE = 3
TOGETHER_SECONDS_MIN = 120

Peer = collections.namedtuple("Peer", "failover_ms patience_seconds")
# A new worker of KCL 3.x needs up to a minute for its first lease, kcl-rs a minute and a half; its failover is fixed.
PEERS = {
    "kcl-1.15.3": Peer(4_000, 120),
    "kcl-2.7.2": Peer(4_000, 120),
    "kcl-3.5.1": Peer(4_000, 180),
    "kcl-rs-0.1.4": Peer(10_000, 240),
}
NEWEST = "kcl-3.5.1"
SIDES = ("ours", "peer")


# Set by SIGTERM: no process of a cell is left behind.
STOPPING = threading.Event()


class Broken(Exception):
    """What did not come true in time."""


class Worker:
    """A process, its journal, and how it is told to stop."""

    def __init__(self, name, command, stop_signal, journal, log, environment):
        self.name, self.journal, self.stop_signal = name, journal, stop_signal
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment)

    def lines(self):
        with contextlib.suppress(FileNotFoundError):
            return [line.split("\t") for line in self.journal.read_text().splitlines() if line.count("\t") == 5]
        return []

    def is_alive(self):
        return self.process.poll() is None

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.stop_signal:
            self.process.send_signal(self.stop_signal)
        self.process.stdin.close()
        try:
            code = self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Broken(f"{self.name} did not stop within {STOP_SECONDS_MAX} s") from None
        if code:
            raise Broken(f"{self.name} stopped with {code}")


class Cell:
    def __init__(self, peer, scenario, directory, build, journal, dynamodb_url, short):
        self.peer, self.scenario, self.short = peer, scenario, short
        self.name = f"{peer}/{scenario}"
        self.stream = f"{peer}-{scenario}".replace(".", "-")
        self.directory, self.build, self.our_worker = directory / self.stream, build, journal
        self.directory.mkdir()
        self.environment = os.environ | {
            "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url,
            # Or the SDK asks the metadata address of EC2 who it is.
            "AWS_EC2_METADATA_DISABLED": "true",
            "RUST_LOG": "kinesink_consumer=debug",
        }
        config = Config(retries={"mode": "standard", "total_max_attempts": 10})
        # Clients of the same session are not made by two threads at once.
        session = boto3.session.Session()
        self.kinesis = session.client("kinesis", config=config)
        self.dynamodb = session.client("dynamodb", config=config, endpoint_url=dynamodb_url)
        self.workers, self.marks = {}, {}
        self.rows = []
        self.put = 0
        self.random = random.Random(self.name)
        self.ending, self.producing = threading.Event(), threading.Event()
        self.deadline = time.monotonic() + CELL_SECONDS_MAX

    # Stream and table

    def produce(self):
        self.producing.set()
        while self.producing.is_set():
            keys = [f"{self.random.getrandbits(64)}" for _ in range(RECORDS_PER_PUT)]
            records = [{"Data": f"{self.put}".encode(), "PartitionKey": key} for key in keys]
            reply = self.kinesis.put_records(StreamName=self.stream, Records=records)
            # A refused record was not put, so nobody has to read it.
            self.put += len(records) - reply["FailedRecordCount"]
            time.sleep(PUT_PAUSE_SECONDS)

    def watch(self):
        with (self.directory / "table.jsonl").open("w") as out:
            while not self.ending.is_set():
                with contextlib.suppress(self.dynamodb.exceptions.ResourceNotFoundException):
                    pages = self.dynamodb.get_paginator("scan").paginate(TableName=self.stream, ConsistentRead=True)
                    rows = [row for page in pages for row in page["Items"] if "leaseKey" in row]
                    # States of prepared checkpoints are bytes.
                    text = json.dumps({"t": now_ms(), "rows": rows}, default=lambda value: value.hex())
                    out.write(text + "\n")
                    self.rows = [row for row in rows if "checkpoint" in row]
                self.ending.wait(WATCH_PAUSE_SECONDS)

    def open_shards(self):
        """By hash key, so that neighbours in the list are neighbours."""
        shards = self.kinesis.list_shards(StreamName=self.stream)["Shards"]
        is_open = [shard for shard in shards if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]
        return sorted(is_open, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))

    def split(self):
        shard = self.open_shards()[0]
        start, end = (int(shard["HashKeyRange"][name]) for name in ("StartingHashKey", "EndingHashKey"))
        self.kinesis.split_shard(
            StreamName=self.stream, ShardToSplit=shard["ShardId"], NewStartingHashKey=str((start + end) // 2 + 1)
        )
        self.resharded("split")

    def merge(self):
        first, second = self.open_shards()[-2:]
        self.kinesis.merge_shards(
            StreamName=self.stream, ShardToMerge=first["ShardId"], AdjacentShardToMerge=second["ShardId"]
        )
        self.resharded("merge")

    def resharded(self, what):
        self.active()
        self.mark(what)
        # Both go on at the new shards, before the next thing happens to them.
        for side in SIDES:
            self.until(f"{side} reads what is put after the {what}", lambda: self.reads_since(side, self.marks[what]))

    def active(self):
        def is_active():
            summary = self.kinesis.describe_stream_summary(StreamName=self.stream)["StreamDescriptionSummary"]
            return summary["StreamStatus"] == "ACTIVE"

        self.until("the stream is active", is_active, RESHARD_SECONDS_MAX)

    # Workers

    def start(self, name):
        """`ours-1`, `peer-2`: a side, and which of its workers."""
        journal = self.directory / f"{name}.tsv"
        if name.startswith("ours"):
            program, stop_signal = [self.our_worker], signal.SIGINT
        elif self.peer.startswith("kcl-rs"):
            program, stop_signal = [sys.executable, HERE / "kcl_rs_worker.py"], signal.SIGTERM
        else:
            # The Java programs stop at the end of their input.
            stop_signal = None
            module = f"{self.build}/kcl{self.peer.split('-')[1][0]}"
            program = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
            program += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
            program += ["-cp", f"{module}/classes:{module}/lib/*", "kinesink.interop.Worker"]
        command = [*program, self.stream, self.stream, name, journal, str(PEERS[self.peer].failover_ms)]
        log = (self.directory / f"{name}.log").open("w")
        command = [str(word) for word in command]
        self.workers[name] = Worker(name, command, stop_signal, journal, log, self.environment)
        self.mark(f"{name} started")

    def kill(self, name):
        self.workers.pop(name).kill()
        self.mark(f"{name} killed")

    def stop(self, name):
        self.workers.pop(name).stop()
        self.mark(f"{name} stopped")

    def mark(self, what):
        self.marks[what] = now_ms()

    # What is waited for

    def until(self, what, is_true, seconds=None):
        limit = min(time.monotonic() + (seconds or PEERS[self.peer].patience_seconds), self.deadline)
        while not is_true():
            for worker in self.workers.values():
                if not worker.is_alive():
                    raise Broken(f"{worker.name} ended by itself, before {what}")
            if STOPPING.is_set():
                raise Broken(f"it was ended by a signal, before {what}")
            if time.monotonic() > limit:
                raise Broken(f"it did not come true that {what}")
            time.sleep(0.2)

    def leases(self):
        """Unfinished ones by side; a lease that is handed over is still its present owner's."""
        counts = collections.Counter()
        for row in self.rows:
            if row["checkpoint"]["S"] != "SHARD_END":
                owner = row.get("checkpointOwner") or row.get("leaseOwner") or {"S": "nobody"}
                counts[owner["S"].split("-")[0]] += 1
        return counts

    def both_hold_a_quarter(self):
        counts = self.leases()
        return counts.total() and min(counts[side] for side in SIDES) >= counts.total() / 4

    def reads_since(self, side, mark):
        for path in self.directory.glob(f"{side}-*.tsv"):
            with contextlib.suppress(IndexError):
                lines = [line for line in path.read_text().splitlines() if "\trecord\t" in line]
                if int(lines[-1].split("\t")[0]) > mark + 2_000:
                    return True
        return False

    def has_read_every_shard(self, name):
        ids = {shard["ShardId"] for shard in self.open_shards()}
        lines = self.workers[name].lines()
        return ids <= {line[3] for line in lines if line[2] == "checkpoint"}

    def everything_is_read(self):
        """Each record is in a journal, and each open shard was begun."""
        read, begun = set(), set()
        for path in self.directory.glob("*.tsv"):
            for line in path.read_text().splitlines():
                fields = line.split("\t")
                if len(fields) == 6 and fields[2] == "record":
                    read.add((fields[3], fields[4]))
                if len(fields) == 6 and fields[2] == "gained":
                    begun.add(fields[3])
        return len(read) >= self.put and {shard["ShardId"] for shard in self.open_shards()} <= begun

    # The scenarios

    def succeed_each_other(self, first, second):
        """One after the other; both stop in order, so nothing may be read twice."""
        self.start(first)
        self.until(f"{first} has a checkpoint in every shard", lambda: self.has_read_every_shard(first))
        self.stop(first)
        self.start(second)
        self.until(f"{second} has a checkpoint in every shard", lambda: self.has_read_every_shard(second))

    def take_over(self):
        self.succeed_each_other("peer-1", "ours-1")

    def hand_over(self):
        self.succeed_each_other("ours-1", "peer-1")

    def together(self):
        if self.short:
            # What the peer writes first says how leases are divided; a worker that is there already looks once a minute.
            first, second = "peer-1", "ours-1"
        else:
            first, second = "ours-1", "peer-1"
        self.start(first)
        self.until(f"{first} has a checkpoint in every shard", lambda: self.has_read_every_shard(first))
        self.start(second)
        self.until("both hold a quarter of the leases", self.both_hold_a_quarter)
        began = time.monotonic()
        self.split()
        if not self.short:
            self.merge()
        for side, other in (("peer", "ours"), ("ours", "peer")):
            self.kill(f"{side}-1")
            killed = self.marks[f"{side}-1 killed"]
            self.until(f"{other} holds what {side}-1 held", lambda: set(self.leases()) == {other})
            self.marks[f"{side}-1 replaced"] = now_ms() - killed
            self.start(f"{side}-2")
            self.until("both hold a quarter of the leases again", self.both_hold_a_quarter)
        if not self.short:
            time.sleep(max(0, TOGETHER_SECONDS_MIN - (time.monotonic() - began)))

    def run(self):
        """What was wrong, and the judge's numbers."""
        scenarios = {"take-over": self.take_over, "hand-over": self.hand_over, "together": self.together}
        broken = []
        shards = SHARDS_TOGETHER if self.scenario == "together" and not self.short else SHARDS
        self.kinesis.create_stream(StreamName=self.stream, ShardCount=shards)
        self.active()
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            producer, watcher = threads.submit(self.produce), threads.submit(self.watch)
            try:
                try:
                    scenarios[self.scenario]()
                finally:
                    self.producing.clear()
                producer.result()
                self.until("everything is read", self.everything_is_read)
                for name in list(self.workers):
                    self.stop(name)
            except Broken as error:
                broken.append(str(error))
            finally:
                self.producing.clear()
                self.ending.set()
                for name in list(self.workers):
                    self.workers.pop(name).kill()
            for future in (producer, watcher):
                future.result()
        return self.judged(broken)

    def judged(self, broken):
        (self.directory / "marks.json").write_text(json.dumps(self.marks))
        failover = str(PEERS[self.peer].failover_ms)
        command = [sys.executable, HERE / "judge.py", self.stream, self.directory, failover]
        if broken:
            command += ["--broken-off"]
        elif self.scenario == "together":
            command += ["--together"] + ([] if self.short else ["--merged"])
        judge = subprocess.run(command, stdout=subprocess.PIPE, env=self.environment)
        try:
            verdict = json.loads(judge.stdout)
        except ValueError:
            return broken + ["the judge came to no verdict"], {}
        return broken + verdict["failures"], verdict["numbers"]


def now_ms():
    return round(time.time() * 1000)


def say(what, started=time.monotonic()):
    print(f"{time.monotonic() - started:6.1f} s: {what}", flush=True)


Result = collections.namedtuple("Result", "name seconds failures numbers")


def run_cell(name, end, **places):
    peer, scenario = name.split("/")
    if time.monotonic() > end or STOPPING.is_set():
        return Result(name, 0, ["not run: the time was over"], {})
    started = time.monotonic()
    say(f"{name} begins")
    try:
        failures, numbers = Cell(peer, scenario, **places).run()
    except Exception as error:  # A cell that cannot be run is one that failed.
        failures, numbers = [f"{type(error).__name__}: {error}"], {}
    result = Result(name, round(time.monotonic() - started), failures, numbers)
    say(f"{name}: {'failed' if failures else 'passed'} after {result.seconds} s, {numbers}")
    for failure in failures:
        say(f"{name}: {failure}")
    return result


def commit():
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE, text=True).stdout.strip()


def page(results, date):
    """docs/interop.md."""
    text = (HERE / "interop.md").read_text()
    lines = [f"Run on {date} at commit `{commit()}`: {sum(not r.failures for r in results)} of {len(results)} cells passed.", ""]
    lines += ["| peer | scenario | result | records | read again | longest overlap | seconds |", "|---|---|---|---|---|---|---|"]
    for result in results:
        peer, scenario = result.name.split("/")
        number = result.numbers.get
        overlap = f"{number('overlap_ms')} ms" if "overlap_ms" in result.numbers else ""
        lines.append(
            f"| {peer} | {scenario} | {'**failed**' if result.failures else 'passed'} | {number('records', '')} "
            f"| {number('repeats', '')} | {overlap} | {result.seconds} |"
        )
    failed = [f"- {result.name}: {failure}" for result in results for failure in result.failures]
    if failed:
        lines += ["", "What failed:", *failed]
    pathlib.Path("docs/interop.md").write_text(text + "\n".join(lines) + "\n")


def main():
    signal.signal(signal.SIGTERM, lambda *_: STOPPING.set())
    build, journal, *names = sys.argv[1:]
    minutes = None
    if "--minutes" in names:
        minutes = int(names[names.index("--minutes") + 1])
        names = []
    all_names = [f"{peer}/{scenario}" for peer in PEERS for scenario in ("take-over", "hand-over", "together")]
    short = not minutes and not names
    chosen = all_names if minutes else names or [name for name in all_names if name.startswith(NEWEST)]
    end = time.monotonic() + (minutes or 60) * 60
    date = datetime.date.today().isoformat()
    kept = os.environ.get("KINESINK_INTEROP_DIR")
    judged = unittest.TextTestRunner(stream=sys.stdout).run(unittest.defaultTestLoader.loadTestsFromModule(judge_test))
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(kept) if kept else pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.mkdir(parents=True, exist_ok=True)
        url = stack.enter_context(dynamodb_local(build))
        places = {"directory": directory, "build": build, "journal": journal, "dynamodb_url": url, "short": short}
        with concurrent.futures.ThreadPoolExecutor(CELLS_AT_ONCE) as threads:
            # The longest first.
            begun = sorted(chosen, key=lambda name: not name.endswith("together"))
            results = list(threads.map(lambda name: run_cell(name, end, **places), begun))
    results.sort(key=lambda result: chosen.index(result.name))
    if minutes:
        page(results, date)
    failed = sum(bool(result.failures) for result in results) + len(judged.failures) + len(judged.errors)
    print(f"{len(results) + judged.testsRun - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
