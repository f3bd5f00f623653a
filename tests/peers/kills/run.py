"""Seeded runs of `kinesink run` that are killed in the midst of commits: each record lands once.

    python tests/peers/kills/run.py KINESINK [--first 0] [--seeds 20] [--minutes M --soaked FILE]

Each run has a `kinesink local` of its own with a stream that is split and merged, a producer, and two workers on one lease
table, which take leases from each other. A worker crashes at a step of a commit, which `--fault` names, or it is killed
from outside at any moment; then it is started again, sometimes with another format, another size of windows or another way to
fetch. In the end everything is drained, and `judge.py` compares what is in the bucket with what is in the stream. A seed
decides formats, shards, steps, moments and records, and whether its windows are held by memory, spilled, or spilled and
sent in parts; what the machine makes of it differs from run to run, so a seed that failed need not fail again.

Over all runs each step has to be hit, and spilled windows and uploads that are not completed; and a fifth of the restarts has
to finish a window that was found announced: else the runs proved too little, and fail. KINESINK must have the feature
`planted-faults`.

With --minutes it is a soak: it goes on after the seeds that FILE remembers, and writes its result into docs/soaks.md.

Ends with `N passed, N failed`; what a failed seed has left is kept.
"""

import argparse
import base64
import collections
import concurrent.futures
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unittest

import boto3
from botocore.config import Config

import judge_test
import shapes
from totals import Totals

HERE = pathlib.Path(__file__).parent
FORMATS = {
    "ndjson": 'format = "ndjson"',
    "gzip": 'format = "ndjson"\ncompression = "gzip"',
    "parquet": """format = "parquet"
[sink.columns]
n = "int64"
part = "string"
amount = "decimal(12,2)"
at = "timestamp(ms)"
tags = "list<string>"
text = "string\"""",
}
# For each core. With more, a lease is lost before its window is published, over and over.
RUNS_PER_CORE = 2
KILLS_PER_RUN = 6
# After these the stream is split and merged.
SPLIT_AFTER, MERGE_AFTER = 2, 4
PUT_PAUSE_SECONDS = 0.04
PATIENCE_SECONDS = 300
READS_PER_SHARD_MAX = 5_000
FINISHED = "finished the window that was announced"


# Set by SIGTERM: no process of a run is left behind.
STOPPING = threading.Event()


class Broken(Exception):
    """What did not come true in time, or should not have."""


class Worker:
    """A process of `kinesink run`, and how it is to end."""

    def __init__(self, name, worker_id, log, is_restart):
        self.name, self.worker_id, self.log, self.is_restart = name, worker_id, log, is_restart
        self.process = self.step = self.killed_at = None
        self.has_spilled = False

    def finished_a_plan(self):
        return FINISHED in self.log.read_text()

    def look(self):
        """Whether it has a window on disk: a file without a name, open in that process alone."""
        files = pathlib.Path(f"/proc/{self.process.pid}/fd")
        try:
            # One that has ended has no files any more: what was seen last is what it had.
            if opened := {file: os.readlink(file) for file in files.iterdir()}:
                self.has_spilled = any("/spill/" in place and file.stat().st_size for file, place in opened.items())
        except OSError:
            # A file that was closed meanwhile.
            pass


class Run:
    def __init__(self, seed, kinesink, directory):
        self.seed, self.kinesink, self.directory = seed, kinesink, directory
        self.random = random.Random(seed)
        self.format = list(FORMATS)[seed % len(FORMATS)]
        self.shape = shapes.of_seed(seed)
        self.parts = self.random.choice(self.shape.parts)
        self.shards = self.random.choice(self.shape.shards)
        self.kills, self.amid, self.starts, self.put = collections.Counter(), collections.Counter(), 0, 0
        self.workers, self.ended = {}, []
        self.producing = threading.Event()
        self.deadline = time.monotonic() + PATIENCE_SECONDS

    # Services

    def start_local(self):
        env = self.directory / "env"
        command = [self.kinesink, "--log-level", "warn", "local", self.directory / "local"]
        command += ["--no-limits", "--transitions", "20ms", "--env", env]
        with (self.directory / "local.log").open("w") as log:
            self.local = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.until("the local services start", lambda: env.exists() and env.read_text().endswith("\n"))
        lines = [line.removeprefix("export ").split("=", 1) for line in env.read_text().splitlines() if "=" in line]
        # Nothing of the machine's own settings.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.environment = kept | dict(lines) | {"AWS_EC2_METADATA_DISABLED": "true"}

    def client(self, service):
        """Nothing is tried again: a record that was put twice would be two."""
        credentials = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
        config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
        endpoint = self.environment[f"AWS_ENDPOINT_URL_{service.upper()}"]
        return boto3.session.Session().client(service, endpoint_url=endpoint, config=config, **credentials)

    def until(self, what, is_true):
        while not is_true():
            self.is_in_time(what)
            time.sleep(0.02)

    def is_in_time(self, what):
        if STOPPING.is_set():
            raise Broken(f"it was ended by a signal before {what}")
        if time.monotonic() > self.deadline:
            raise Broken(f"not within {PATIENCE_SECONDS} s: {what}")

    def produce(self):
        chance = random.Random(f"records of {self.seed}")
        kinesis = self.client("kinesis")
        while self.producing.is_set():
            batch = [self.record(chance) for _ in range(chance.randrange(1, self.shape.put_records_max))]
            reply = kinesis.put_records(StreamName="kills", Records=batch)
            if reply["FailedRecordCount"]:
                raise Broken("the local Kinesis refuses records")
            # A machine that is slow has to get to the end of it.
            time.sleep(PUT_PAUSE_SECONDS * (1 if self.put < self.shape.fast_records else 10))

    def record(self, chance):
        fields = {
            "n": self.put,
            "part": f"p{chance.randrange(self.parts)}",
            "amount": f"{chance.randrange(-10**9, 10**9) / 100:.2f}",
            "at": chance.randrange(4 * 10**12),
            "tags": [chance.choice(["x", "", "ü", None]) for _ in range(chance.randrange(3))],
            "text": chance.choice(["東京", 'a "quoted"\nline', ""]) * chance.randrange(1, 9) + self.shape.bulk(chance),
        }
        self.put += 1
        return {"Data": json.dumps(fields, ensure_ascii=False).encode(), "PartitionKey": str(chance.getrandbits(64))}

    def open_shards(self):
        """By hash key, so that neighbours in the list are neighbours."""
        shards = self.kinesis.list_shards(StreamName="kills")["Shards"]
        is_open = [shard for shard in shards if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]
        return sorted(is_open, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))

    def active(self):
        summary = self.kinesis.describe_stream_summary(StreamName="kills")["StreamDescriptionSummary"]
        return summary["StreamStatus"] == "ACTIVE"

    def split(self):
        shard = self.random.choice(self.open_shards())
        start, end = (int(shard["HashKeyRange"][name]) for name in ("StartingHashKey", "EndingHashKey"))
        middle = str((start + end) // 2 + 1)
        self.kinesis.split_shard(StreamName="kills", ShardToSplit=shard["ShardId"], NewStartingHashKey=middle)

    def merge(self):
        self.until("the stream is active", self.active)
        shards = self.open_shards()
        at = self.random.randrange(len(shards) - 1)
        one, other = shards[at]["ShardId"], shards[at + 1]["ShardId"]
        self.kinesis.merge_shards(StreamName="kills", ShardToMerge=one, AdjacentShardToMerge=other)

    # Workers

    def start(self, name, fate=None, is_restart=False):
        """Mostly under the name of before, which finds its leases at once; sometimes another has to take them over."""
        self.starts += 1
        file = self.directory / f"{name}-{self.starts}.toml"
        worker_id = name if self.random.random() < 0.8 else f"{name}-{self.starts}"
        # Whoever finds a window announced finishes it as it was announced, whatever its own file says.
        form = self.format if self.random.random() < 0.7 else self.random.choice(list(FORMATS))
        fetch = self.random.choices(['idle = "200ms"', 'fetch = "fan-out"'], [3, 1])[0]
        file.write_text(f"""version = 1
app = "kills"
memory = "{self.shape.memory}"
[source]
stream = "kills"
start = "trim-horizon"
{fetch}
[lease]
worker_id = "{worker_id}"
failover = "1s"
[buffer]
records = {self.random.randrange(*self.shape.records)}
age = "{self.shape.age}"
{self.shape.spill(self.directory / "spill")}[[sink]]
type = "s3"
url = "s3://kills/kills"
key = "part={{.part}}/{{shard}}-{{first}}-{{last}}"
{FORMATS[form]}
""")
        worker = Worker(name, worker_id, file.with_suffix(".log"), is_restart)
        command, steps = [self.kinesink, "run", file, *self.shape.arguments()], self.shape.steps
        if fate == "crash":
            worker.step = self.shape.step(self.seed + self.starts)
            passes = self.random.randrange(1, min(steps[worker.step], 6 * self.parts) + 1)
            command.append(f"--fault={worker.step}:{passes}=crash")
            worker.killed_at = time.monotonic() + self.shape.fault_seconds_max
        elif fate is not None:
            if fate in ("error", "delay"):
                step = self.random.choice(list(steps))
                kind = "error" if fate == "error" else f"{self.random.randrange(100, 2000)}ms"
                command.append(f"--fault={step}:{self.random.randrange(1, 6)}={kind}")
            worker.killed_at = time.monotonic() + 0.2 + self.random.random() * self.shape.killed_seconds_max
        with worker.log.open("w") as out:
            worker.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.environment
            )
        self.workers[name] = worker

    def watch(self, fates):
        """Notes who has crashed, kills whose time has come, and starts both again."""
        for name, worker in list(self.workers.items()):
            if self.shape.is_spilled:
                worker.look()
            code = worker.process.poll()
            if code is None and worker.killed_at and time.monotonic() > worker.killed_at:
                worker.process.kill()
                worker.process.wait()
                self.killed(worker, None)
            elif code == -signal.SIGABRT and worker.step and "a planted fault" in worker.log.read_text():
                self.killed(worker, worker.step)
            elif code is not None:
                raise Broken(f"worker {name} ended by itself with {code}, see {worker.log.name}")
            else:
                continue
            self.ended.append(worker)
            self.start(name, next(fates, None), is_restart=True)

    def killed(self, worker, step):
        """Notes what a kill has met. Of one from outside only the lease table and the bucket can tell."""
        held = [row for row in self.leases().values() if row.get("leaseOwner") == {"S": worker.worker_id}]
        announced = [row["pendingCheckpoint"]["S"] for row in held if "pendingCheckpoint" in row]

        def some(listed):
            return any(last in each["Key"] for each in listed for last in announced)

        if step is None:
            step = "outside, amid objects" if some(self.listed()) else "outside, announced" if announced else "outside"
        self.kills[step] += 1
        self.amid["amid spilled windows"] += worker.has_spilled
        self.amid["amid parts"] += self.shape.is_spilled and some(self.uploads())

    def leases(self):
        try:
            reply = self.dynamodb.scan(TableName="kills", ConsistentRead=True)
        except self.dynamodb.exceptions.ResourceNotFoundException:
            return {}
        return {row["leaseKey"]["S"]: row for row in reply["Items"] if "checkpoint" in row}

    def is_drained(self, last):
        """Every open shard is checkpointed at its last record, and every other one at its end, or forgotten."""
        leases = self.leases()
        opened = {shard["ShardId"] for shard in self.open_shards()}
        for shard, sequence in last.items():
            row = leases.get(shard)
            if shard not in opened and (row is None or row["checkpoint"]["S"] == "SHARD_END"):
                continue
            if row is None or shard not in opened or sequence not in (None, row["checkpoint"]["S"]):
                return False
        return True

    # What there is in the end

    def dump_stream(self):
        """The last sequence number of each shard."""
        last = {}
        with (self.directory / "stream.jsonl").open("w") as out:
            for shard in (shard["ShardId"] for shard in self.kinesis.list_shards(StreamName="kills")["Shards"]):
                last[shard] = None
                reply = self.kinesis.get_shard_iterator(
                    StreamName="kills", ShardId=shard, ShardIteratorType="TRIM_HORIZON"
                )
                iterator = reply["ShardIterator"]
                for _ in range(READS_PER_SHARD_MAX):
                    reply = self.kinesis.get_records(ShardIterator=iterator)
                    for record in reply["Records"]:
                        last[shard] = record["SequenceNumber"]
                        data = base64.b64encode(record["Data"]).decode()
                        out.write(json.dumps([shard, record["SequenceNumber"], data]) + "\n")
                    iterator = reply.get("NextShardIterator")
                    if iterator is None or (not reply["Records"] and reply["MillisBehindLatest"] == 0):
                        break
                else:
                    raise Broken(f"{shard} has no end after {READS_PER_SHARD_MAX} reads")
        return last

    def listed(self):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket="kills")
        listed = [listed for page in pages for listed in page.get("Contents", [])]
        # The empty object by which a start sees that it may write stays if that start is killed in that very moment.
        return [listed for listed in listed if "_kinesink_check_" not in listed["Key"] or listed["Size"]]

    def uploads(self):
        return self.s3.list_multipart_uploads(Bucket="kills").get("Uploads", [])

    def dump_objects(self):
        with (self.directory / "objects.jsonl").open("w") as out:
            for listed in self.listed():
                reply = self.s3.get_object(Bucket="kills", Key=listed["Key"])
                body = base64.b64encode(reply["Body"].read()).decode()
                out.write(json.dumps([listed["Key"], reply["Metadata"], body]) + "\n")

    def fates(self):
        """How the workers end that are started while there are kills to do."""
        while self.kills.total() < KILLS_PER_RUN:
            yield self.random.choices(["crash", "killed", "error", "delay"], [6, 3, 1, 1])[0]

    def script(self):
        self.kinesis.create_stream(StreamName="kills", ShardCount=self.shards)
        self.s3.create_bucket(Bucket="kills")
        self.until("the stream is active", self.active)
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            self.producing.set()
            producer = threads.submit(self.produce)
            try:
                fates = self.fates()
                for name in "ab":
                    self.start(name, next(fates))
                resharding = {SPLIT_AFTER: self.split, MERGE_AFTER: self.merge}
                while self.kills.total() < KILLS_PER_RUN:
                    self.watch(fates)
                    reached = [kills for kills in resharding if kills <= self.kills.total()]
                    for kills in reached:
                        resharding.pop(kills)()
                    if producer.done():
                        producer.result()
                    self.is_in_time("all kills are done")
                    time.sleep(0.02)
            finally:
                self.producing.clear()
            producer.result()
        last = self.dump_stream()
        none = iter(())

        def drained():
            # Who was to crash and has not yet may still do so.
            self.watch(none)
            # One that was started just now does not know the signal yet.
            started = all("starting app" in worker.log.read_text() for worker in self.workers.values())
            return started and self.is_drained(last)

        self.until("everything is delivered and checkpointed", drained)
        for worker in self.workers.values():
            worker.process.terminate()
        for worker in self.workers.values():
            code = worker.process.wait(PATIENCE_SECONDS)
            crashed = code == -signal.SIGABRT and worker.step
            if code and not crashed:
                raise Broken(f"worker {worker.name} was drained with {code}, see {worker.log.name}")
        self.ended += self.workers.values()
        self.dump_objects()

    def run(self):
        """What was wrong, and what was met."""
        started, failures, numbers = time.monotonic(), [], {}
        try:
            self.start_local()
            self.kinesis, self.dynamodb, self.s3 = (self.client(name) for name in ("kinesis", "dynamodb", "s3"))
            self.script()
            judged = subprocess.run([sys.executable, HERE / "judge.py", self.directory], stdout=subprocess.PIPE)
            verdict = json.loads(judged.stdout)
            failures, numbers = verdict["failures"], verdict["numbers"]
            numbers["in_parts"] = sum("-" in listed["ETag"] for listed in self.listed())
            numbers["uploads_left"] = len(self.uploads())
        except Broken as error:
            failures = [str(error)]
        except Exception:  # A run that cannot be run is one that failed.
            failures = [traceback.format_exc()]
        finally:
            for process in [self.local, *(worker.process for worker in self.workers.values())]:
                process.kill()
                process.wait()
        restarts = [worker for worker in self.ended if worker.is_restart]
        numbers["restarts"] = len(restarts)
        numbers |= self.amid
        numbers["finished_restarts"] = sum(worker.finished_a_plan() for worker in restarts)
        logs = [path.read_text() for path in self.directory.glob("*.log")]
        numbers["finished_plans"] = sum(log.count(FINISHED) for log in logs)
        numbers["takes"] = sum(log.count("lease taken") for log in logs)
        numbers["dropped_plans"] = sum(log.count("a prepared checkpoint does not count") for log in logs)
        numbers["seconds"] = round(time.monotonic() - started, 1)
        return failures, numbers



def one(seed, kinesink, root):
    directory = root / f"seed-{seed}"
    directory.mkdir()
    run = Run(seed, kinesink, directory)
    failures, numbers = run.run()
    kills = ", ".join(f"{count} {step}" for step, count in sorted(run.kills.items()))
    verdict = "FAILED" if failures else "passed"
    print(f"seed {seed}, {run.format}, {run.shape.name}: {verdict}; {numbers}; kills: {kills}", flush=True)
    for failure in failures[:10]:
        print(f"seed {seed}: {failure}")
    if failures:
        print(f"seed {seed} again: {sys.executable} {sys.argv[0]} {kinesink} --first {seed} --seeds 1")
        print(f"seed {seed} has left {directory}", flush=True)
    else:
        shutil.rmtree(directory)
    return run, failures, numbers


def runs_at_once():
    return RUNS_PER_CORE * len(os.sched_getaffinity(0))


def runs(seeds, arguments, root, totals):
    with concurrent.futures.ThreadPoolExecutor(runs_at_once()) as threads:
        for outcome in threads.map(lambda seed: one(seed, arguments.kinesink, root), seeds):
            totals.add(*outcome)


def soak(arguments, root):
    """Goes on after the seeds of the last time, until the time is over, so many are done, or one fails; in the end the
    report has all of them in it."""
    first = seed = arguments.first or 0
    totals = Totals()
    if arguments.first is None and arguments.soaked.exists():
        soaked = json.loads(arguments.soaked.read_text())
        first, seed, totals = soaked["first"], soaked["next"], Totals(**soaked["totals"])
    ends = time.monotonic() + 60 * arguments.minutes
    end = first + arguments.seeds if arguments.seeds else sys.maxsize
    while time.monotonic() < ends and seed < end and not totals.failed:
        more = range(seed, min(seed + 2 * runs_at_once(), end))
        runs(more, arguments, root, totals)
        seed = more.stop
        arguments.soaked.write_text(json.dumps({"first": first, "next": seed, "totals": vars(totals)}))
    totals.write_down(first, seed - 1)
    return totals


def main():
    signal.signal(signal.SIGTERM, lambda *_: STOPPING.set())
    parser = argparse.ArgumentParser()
    parser.add_argument("kinesink", type=os.path.abspath)
    parser.add_argument("--first", type=int)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--soaked", type=pathlib.Path)
    arguments = parser.parse_args()
    tested = unittest.TextTestRunner(stream=sys.stdout).run(unittest.defaultTestLoader.loadTestsFromModule(judge_test))
    wrong = len(tested.failures) + len(tested.errors)

    root = pathlib.Path(tempfile.mkdtemp(prefix="kinesink-kills-"))
    if arguments.minutes:
        totals = soak(arguments, root)
    else:
        first, totals = arguments.first or 0, Totals()
        runs(range(first, first + (arguments.seeds or 20)), arguments, root, totals)
    print(*totals.report(), sep="\n")
    # A seed alone, to look at it again, need not hit everything.
    too_little = list(totals.too_little()) if totals.seeds >= 20 else []
    for what in too_little:
        print(what)
    if not totals.failed:
        shutil.rmtree(root)
    failed = wrong + totals.failed + len(too_little)
    print(f"{tested.testsRun + totals.seeds - wrong - totals.failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
