"""Compares what workers wrote down with the stream and with the lease table as it was watched. Shares no code with them.

    python tests/peers/interop/judge.py STREAM DIR FAILOVER_MS [--together] [--merged] [--broken-off]

DIR has `*.tsv`, a journal for each worker (time in ms, worker, event, shard, sequence number, sub-sequence);
`table.jsonl`, the lease table over and over ({"t": ms, "rows": [...]}, with DynamoDB's types); and `marks.json`, when
something was done to the workers or to the stream. The stream is read here, from its oldest record. Prints a JSON object
with `failures` and `numbers`; exits with 1 if there is a failure.

A journal is in the order of its worker. One worker's time with one shard, from `gained` on, is a holding. Then:
- no record of the stream is in no journal, and no journal has one that is not in the stream;
- a holding has the records after the checkpoint that it began at, in order, without a gap;
- it begins at or after every checkpoint of the shard that was granted before; and no two holdings are granted
  checkpoints in turn: a lost lease stays lost;
- of two workers that hold a shard, the first stops within a failover of the second's first record;
- a child is gained after the last record of the holding that ended its parent;
- in the table no checkpoint and no counter goes back, and an owner changes only with the counter;
- with --broken-off what is not there is no failure: the workers were not let finish;
- with --together, both sides held a quarter of the leases at the same time, and each processed records that were put
  after the split, and after the merge with --merged.
"""

import collections
import json
import pathlib
import sys

import boto3
from botocore.config import Config

# What the clocks and the buffers of several processes differ by.
SLACK_MS = 1_500
BOTH_SECONDS_MIN = 5
READS_PER_SHARD_MAX = 5_000
END = "SHARD_END"

Holding = collections.namedtuple("Holding", "worker shard time start records checkpoints")
Record = collections.namedtuple("Record", "time at")


def position(sequence, sub_sequence):
    """In KCL's order: the words for a start, then numbers, then the end."""
    words = {"AT_TIMESTAMP": -3, "TRIM_HORIZON": -2, "LATEST": -1, END: float("inf")}
    return (words[sequence] if sequence in words else int(sequence), int(sub_sequence))


def read_stream(stream):
    """Each shard's parents and its records, (position, arrival in ms) in order."""
    kinesis = boto3.client("kinesis", config=Config(retries={"mode": "standard", "total_max_attempts": 20}))
    parents, records = {}, {}
    for page in kinesis.get_paginator("list_shards").paginate(StreamName=stream):
        for shard in page["Shards"]:
            names = ("ParentShardId", "AdjacentParentShardId")
            parents[shard["ShardId"]] = [shard[name] for name in names if name in shard]
    for shard in parents:
        found = records.setdefault(shard, [])
        iterator = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
        iterator = iterator["ShardIterator"]
        for _ in range(READS_PER_SHARD_MAX):
            reply = kinesis.get_records(ShardIterator=iterator)
            for record in reply["Records"]:
                arrival = record["ApproximateArrivalTimestamp"].timestamp() * 1000
                found.append((position(record["SequenceNumber"], 0), arrival))
            iterator = reply.get("NextShardIterator")
            if iterator is None or (not reply["Records"] and reply["MillisBehindLatest"] == 0):
                break
        else:
            raise RuntimeError(f"{shard} has no end after {READS_PER_SHARD_MAX} reads")
    return parents, records


def read_holdings(directory):
    """Of all workers, by shard, in the order of their begin."""
    holdings = collections.defaultdict(list)
    for path in sorted(directory.glob("*.tsv")):
        current = {}
        for line in path.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                # Cut off by a kill; no checkpoint covers it.
                continue
            time, worker, event, shard, sequence, sub_sequence = line.rstrip("\n").split("\t")
            if event == "gained":
                holding = Holding(worker, shard, int(time), position(sequence, sub_sequence), [], [])
                current[shard] = holding
                holdings[shard].append(holding)
            elif event == "record":
                current[shard].records.append(Record(int(time), position(sequence, sub_sequence)))
            elif event == "checkpoint":
                current[shard].checkpoints.append(Record(int(time), position(sequence, sub_sequence)))
    for of_shard in holdings.values():
        of_shard.sort(key=lambda holding: holding.time)
    return holdings


class Judge:
    def __init__(self, parents, records, directory, failover_ms):
        self.failures, self.numbers = [], {}
        self.failover_ms = failover_ms
        self.parents, self.records = parents, records
        self.holdings = read_holdings(directory)
        self.marks = json.loads((directory / "marks.json").read_text())
        self.table = [json.loads(line) for line in (directory / "table.jsonl").read_text().splitlines()]

    def fail(self, what):
        self.failures.append(what)

    def all_that_is_always_so(self, is_whole=True):
        self.completeness(is_whole)
        self.continuity()
        self.checkpoints()
        self.overlaps()
        self.lineage(is_whole)
        self.rows()

    def completeness(self, is_whole):
        delivered = collections.Counter()
        for shard, of_shard in self.holdings.items():
            delivered.update((shard, record.at) for holding in of_shard for record in holding.records)
        put = {(shard, at) for shard, records in self.records.items() for at, _ in records}
        self.numbers["records"] = len(put)
        self.numbers["repeats"] = sum(delivered.values()) - len(delivered)
        missing = put - set(delivered)
        if missing and is_whole:
            self.fail(f"{len(missing)} records are in no journal, one in {min(missing)[0]}")
        if foreign := set(delivered) - put:
            self.fail(f"{len(foreign)} records are not in the stream")
        if not put:
            self.fail("the stream is empty")

    def continuity(self):
        for shard, of_shard in self.holdings.items():
            stream = [at for at, _ in self.records.get(shard, [])]
            for holding in of_shard:
                got = [record.at for record in holding.records]
                wanted = [at for at in stream if at > holding.start][: len(got)]
                if got != wanted:
                    self.fail(f"{holding.worker} did not read {shard} in order and without a gap from {holding.start}")

    def checkpoints(self):
        granted = 0
        for shard, of_shard in self.holdings.items():
            granted += sum(len(holding.checkpoints) for holding in of_shard)
            for holding in of_shard:
                # Java begins a shard that it has lost in the meantime, and notices then: without a checkpoint of its own
                # it may have read the row just before another's write.
                until = holding.time if holding.checkpoints else holding.time - SLACK_MS
                before = [c.at for h in of_shard for c in h.checkpoints if h is not holding and c.time < until]
                if holding.start < max(before, default=holding.start):
                    self.fail(f"{holding.worker} began {shard} at {holding.start}, before the checkpoint {max(before)}")
            owners = sorted((h for h in of_shard if h.checkpoints), key=lambda h: h.checkpoints[0].at)
            for first, second in zip(owners, owners[1:]):
                if first.checkpoints[-1].at > second.checkpoints[0].at:
                    self.fail(f"{first.worker} and {second.worker} were granted checkpoints of {shard} in turn")
        self.numbers["checkpoints"] = granted

    def overlaps(self):
        longest = 0
        for shard, of_shard in self.holdings.items():
            for first, second in zip(of_shard, of_shard[1:]):
                if first.worker == second.worker or not first.records or not second.records:
                    continue
                overlap = first.records[-1].time - second.records[0].time
                longest = max(longest, overlap)
                if overlap > self.failover_ms + SLACK_MS:
                    self.fail(f"{first.worker} and {second.worker} both read {shard} for {overlap} ms")
        self.numbers["overlap_ms"] = longest

    def lineage(self, is_whole):
        for child, parents in self.parents.items():
            for parent in parents:
                ended = self.ended(parent)
                if not ended or child not in self.holdings:
                    if is_whole:
                        self.fail(f"{parent} was not read to its end, or its child {child} not begun")
                    elif not ended and child in self.holdings:
                        self.fail(f"{child} was begun and {parent} not ended")
                    continue
                last = max((record.time for record in ended.records), default=ended.time)
                if self.holdings[child][0].time < last:
                    self.fail(f"{child} was begun before the end of {parent}")

    def ended(self, shard):
        """The holding that checkpointed the shard's end. Killed right after it, the worker did not write it down."""
        of_shard = self.holdings.get(shard, [])
        for holding in of_shard:
            if any(checkpoint.at == (float("inf"), 0) for checkpoint in holding.checkpoints):
                return holding
        for sample in self.table:
            if any(row["leaseKey"]["S"] == shard and row.get("checkpoint") == {"S": END} for row in sample["rows"]):
                return max((h for h in of_shard if h.time <= sample["t"]), key=lambda h: h.time, default=None)
        return None

    def rows(self):
        """A row that was deleted and made again is another one."""
        seen, changes = {}, 0
        for sample in self.table:
            now = {row["leaseKey"]["S"]: row for row in sample["rows"] if "checkpoint" in row}
            for key, row in now.items():
                at = position(row["checkpoint"]["S"], row["checkpointSubSequenceNumber"]["N"])
                counter = int(row["leaseCounter"]["N"])
                owner = row.get("leaseOwner", {}).get("S")
                if owner == "":
                    self.fail(f"{key} has an owner without a name")
                if key in seen:
                    before, was, had = seen[key]
                    handed = "checkpointOwner" in row
                    if at < before:
                        self.fail(f"the checkpoint of {key} went back from {before} to {at}")
                    if counter < was or (counter == was and owner != had and not handed):
                        self.fail(f"{key} went from {had} at {was} to {owner} at {counter}")
                    changes += owner != had
                seen[key] = (at, counter, owner)
            for key in set(seen) - set(now):
                del seen[key]
        self.numbers["owner_changes"] = changes

    def together(self, marks):
        both, last = 0, None
        for sample in self.table:
            holds = collections.Counter()
            for row in sample["rows"]:
                if "checkpoint" in row and row["checkpoint"]["S"] != END:
                    owner = (row.get("checkpointOwner") or row.get("leaseOwner") or {"S": "-"})["S"]
                    holds[owner.split("-")[0]] += 1
            quarter = holds.total() / 4
            held = holds.total() and min(holds["ours"], holds["peer"]) >= quarter
            if held and last is not None:
                both += sample["t"] - last
            last = sample["t"] if held else None
        self.numbers["both_hold_a_quarter_s"] = round(both / 1000)
        if both < BOTH_SECONDS_MIN * 1000:
            self.fail(f"both sides held a quarter of the leases for {both} ms alone")
        arrivals = {(shard, at): arrival for shard, records in self.records.items() for at, arrival in records}
        for mark in marks:
            if mark not in self.marks:
                self.fail(f"there was no {mark}")
                continue
            read = collections.Counter()
            for shard, of_shard in self.holdings.items():
                for holding in of_shard:
                    late = sum(arrivals.get((shard, record.at), 0) > self.marks[mark] for record in holding.records)
                    read[holding.worker.split("-")[0]] += late
            self.numbers[f"after_{mark}"] = dict(read)
            if not (read["ours"] and read["peer"]):
                self.fail(f"of the records put after the {mark}, ours read {read['ours']} and the peer {read['peer']}")


def main():
    stream, directory, failover_ms, *options = sys.argv[1:]
    judge = Judge(*read_stream(stream), pathlib.Path(directory), int(failover_ms))
    judge.all_that_is_always_so("--broken-off" not in options)
    if "--together" in options:
        judge.together(["split", "merge"] if "--merged" in options else ["split"])
    print(json.dumps({"failures": judge.failures, "numbers": judge.numbers}))
    return 1 if judge.failures else 0


if __name__ == "__main__":
    sys.exit(main())
