"""Compares the local Kinesis with other implementations of Kinesis, call by call.

    python run.py [--seeds 50] [--first 0] [--minutes 60] [--only SCRIPT ...] [--draft]

Scripts of operations, by hand and from seeds, run against `kinesink local`, kinesis-local, moto and ferrokinesis.
Answers are compared after what each makes up for itself has become a symbol: ids, times, sequence numbers, iterators.
The texts of errors are not compared: AWS documents none.

A difference passes if a line of crates/emulator/DIFFERENCES.md names it. Any other one fails, as does an operation
of which no success, or no failure, was compared with at least two of them, an answer of ours that is not what the model
makes of the call, and a run of which less than a third of the calls failed. A run of too few scripts to demand the former
and the latter of it says so. `--draft`
prints lines for what is new, to be completed by hand. `--minutes` runs seeds alone for so long, or up to `--seeds`;
another time it goes on after the last that passed, and adds up what all of them have compared. `--first 0` begins anew.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import dataclasses
import json
import signal
import sys
import time
import traceback

import differences
import scripts
from generate import OUTCOMES as GENERATED
from generate import generated, plan
from session import Session
from targets import CACHE, OURS, PEERS, prepare, started

# Slow enough for a peer on a busy machine to be asked meanwhile.
FAST_MS, SLOW_MS = 10, 15_000
SHOWN_MAX = 200
MISTAKES_MAX = 5
SEEDS_OF_CI = 50
KINDS = SUCCEEDED, FAILED = "succeeded", "failed"
# What has to happen: operations and their outcomes.
OUTCOMES = [(operation, FAILED) for operation in scripts.OPERATIONS]
OUTCOMES += [(operation, SUCCEEDED) for operation in scripts.EMULATED]
# A soak that is stopped loses at most so many.
SEEDS_AT_ONCE = 25
SOAKED = CACHE / "differential-soaked.json"
# Of all calls of ours.
FAILED_SHARE_MIN = 1 / 3
# So many answer each of the operations.
PEERS_MIN = 2
# No two of so many seeds may call the same.
DISTINCT_SEEDS = 1000
# What these answer depends on every stream.
ACCOUNT_WIDE, EVERYWHERE = ("ListStreams", "DescribeLimits"), "every stream"


@dataclasses.dataclass(frozen=True)
class Set:
    """Scripts that share one process of each target."""

    scripts: list
    state_ms: int
    peers: tuple = PEERS
    # What waits most of its time waits beside the others.
    at_once: int = 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--first", type=int)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--draft", action="store_true")
    parser.add_argument("--minutes", type=float, default=0)
    arguments = parser.parse_args()
    if len({names(plan(seed)) for seed in range(DISTINCT_SEEDS)}) < DISTINCT_SEEDS:
        raise SystemExit(f"two of {DISTINCT_SEEDS} seeds are one script")
    prepare()
    # Whoever is stopped stops what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    report = Report(differences.read_lines())
    first, seeds = arguments.first or 0, arguments.seeds or SEEDS_OF_CI
    if arguments.minutes:
        seeds = soak(time.monotonic() + 60 * arguments.minutes, arguments.first, arguments.seeds, report)
        demanded = GENERATED
    else:
        run_sets(sets(range(first, first + seeds), arguments.only), report)
        demanded = OUTCOMES
    if arguments.only or seeds < SEEDS_OF_CI:
        print("too few scripts to demand that every operation succeeds and fails")
        demanded = []
    complete = demanded is OUTCOMES and not first
    report.print(demanded, complete, arguments.draft)
    failed = len(report.failures)
    print(f"{report.calls['compared'].total()} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def names(cases):
    return tuple(case and (case.operation, case.name) for part in cases for case in part)


def soak(ends, first, seeds, report):
    """Goes on after the seeds of the last time, up to so many; in the end the report has all of them in it. Returns how
    many these are."""
    soaked = {"first": first or 0, "next": first or 0, "calls": {}}
    if first is None and SOAKED.exists():
        soaked = json.loads(SOAKED.read_text())
    seeds_end = soaked["first"] + seeds if seeds else sys.maxsize
    while time.monotonic() < ends and soaked["next"] < seeds_end and not report.failures:
        more = range(soaked["next"], min(soaked["next"] + SEEDS_AT_ONCE, seeds_end))
        part = Report(report.lines)
        run_sets([Set([f"seed{seed}" for seed in more], FAST_MS)], part)
        report.failures |= part.failures
        print(f"seeds {more.start} to {more.stop - 1}: {len(part.failures)} failures", flush=True)
        if not part.failures:
            calls = {name: collections.Counter(soaked["calls"].get(name, {})) + part.calls[name] for name in part.calls}
            soaked = {"first": soaked["first"], "next": more.stop, "calls": calls}
            SOAKED.write_text(json.dumps(soaked))
    for name, counts in soaked["calls"].items():
        report.calls[name].update(counts)
    print(f"seeds {soaked['first']} to {soaked['next'] - 1}:")
    return soaked["next"] - soaked["first"]


def sets(seeds, only):
    def chosen(names):
        return [name for name in names if not only or name in only]

    quick = chosen([*scripts.FAST, *(f"seed{seed}" for seed in seeds)])
    slow = chosen(scripts.SLOW)
    all_sets = [Set(quick, FAST_MS), Set(slow, SLOW_MS, at_once=max(1, len(slow)))]
    # Nothing but five minutes makes an iterator of the other two expire.
    all_sets.append(Set(chosen(scripts.EXPIRING), SLOW_MS, peers=("ferrokinesis",)))
    return [each for each in all_sets if each.scripts]


def run_sets(all_sets, report):
    """Every script on every target, the targets side by side, then the comparison."""
    jobs = {}
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(concurrent.futures.ProcessPoolExecutor(len(all_sets) * (1 + len(PEERS))))
        for number, each in enumerate(all_sets):
            for name in (OURS, *each.peers):
                target = stack.enter_context(started(name, each.state_ms))
                jobs[number, name] = pool.submit(run_on, target, each.scripts, each.at_once)
        transcripts = {key: job.result() for key, job in jobs.items()}
    for number, each in enumerate(all_sets):
        for index, script in enumerate(each.scripts):
            theirs = {peer: transcripts[number, peer][index] for peer in each.peers}
            report.add(script, transcripts[number, OURS][index], theirs)


def run_on(target, names, at_once):
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(at_once) as threads:
        transcripts = list(threads.map(lambda name: transcript(target, name, at_once > 1), names))
    print(f"{target.name}: {len(names)} scripts in {time.monotonic() - began:.1f} s", flush=True)
    return transcripts


def transcript(target, name, shares_target):
    """The calls of a script, and the error that ended it early."""
    session = Session(target, name, shares_target)
    try:
        script = generated(int(name.removeprefix("seed"))) if name.startswith("seed") else scripts.ALL[name]
        script(session)
    except Exception:  # a peer may answer with anything; what it was is reported
        return session.transcript, traceback.format_exc(limit=-3)
    finally:
        session.remove_streams()
    error = f"not as modelled: {'; '.join(session.mistakes[:MISTAKES_MAX])}" if session.mistakes else None
    return session.transcript, error


class Report:
    def __init__(self, lines):
        self.lines = lines
        # By operation, of ours; by peer, how often it was compared, or was out of step; by operation, outcome and peer,
        # how often it was compared.
        kinds = ("succeeded", "failed", "compared", "unreached", "compared outcomes")
        self.calls = {name: collections.Counter() for name in kinds}
        self.failures = {}
        self.new = {}
        self.partings = collections.Counter()

    def add(self, script, ours, others):
        calls, error = ours
        if error:
            self.failures[f"{script} on {OURS}: {error}"] = script
        for call in calls:
            self.calls["failed" if call.error else "succeeded"][call.operation] += call.calls
        for peer, (their_calls, their_error) in others.items():
            self.compare(script, peer, calls, {call.place: call for call in their_calls}, their_error)

    def compare(self, script, peer, calls, theirs, error):
        parted = set()
        known = False
        for call in calls:
            their = theirs.get(call.place)
            place = EVERYWHERE if call.operation in ACCOUNT_WIDE else call.stream
            parts = {(place, part) for part in differences.depends_on(call.operation)}
            if parts & parted or their is None or their.operation != call.operation:
                self.calls["unreached"][peer] += 1
                continue
            self.calls["compared"][peer] += 1
            self.calls["compared outcomes"][f"{call.operation} {'failed' if call.error else 'succeeded'} {peer}"] += 1
            found, has_parted = differences.between(peer, call, their)
            if has_parted:
                self.partings[peer, str(found[0])] += 1
                part = differences.part_of(call.operation)
                parted |= {(call.stream, part), (EVERYWHERE, part)}
            known |= bool(found)
            for difference in found:
                self.judge(difference, call.expected, script)
        if error and not known:
            self.failures[f"{script} on {peer} ended early: {error}"] = script

    def judge(self, difference, expected, script):
        for line in self.lines:
            if line.covers(difference, expected):
                line.used += 1
                return
        self.new.setdefault(difference, script)
        self.failures[f"## {difference.operation}\n{difference}"] = script

    def print(self, demanded, complete, draft):
        print("calls: operation, succeeded, failed (of kinesink); peers compared with, where it succeeded, where it failed")
        for operation in sorted(scripts.OPERATIONS):
            cells = [self.calls[kind][operation] for kind in KINDS]
            cells += [self.compared_with(operation, kind) for kind in KINDS]
            print(f"  {operation:40} {cells[0]:6} {cells[1]:6} {cells[2]:2} {cells[3]:2}")
        print(f"  {self.failed_share():.0%} of the calls failed")
        for failure in self.shortfalls(demanded):
            self.failures[failure] = ""
        for peer in PEERS:
            print(f"  compared with {peer}: {self.calls['compared'][peer]}, out of step: {self.calls['unreached'][peer]}")
        if complete:
            for line in self.lines:
                if not line.used and not line.is_sometimes:
                    self.failures[f"DIFFERENCES.md:{line.number}: nothing differs like this any more"] = ""
        if draft:
            for (peer, parting), count in self.partings.most_common(60):
                print(f"parted {count} {peer} {parting}")
            self.print_draft()
        else:
            for failure, script in list(self.failures.items())[:SHOWN_MAX]:
                print(f"{script}: {failure}" if script else failure)

    def compared_with(self, operation, outcome):
        return sum(self.calls["compared outcomes"][f"{operation} {outcome} {peer}"] > 0 for peer in PEERS)

    def failed_share(self):
        succeeded, failed = self.calls["succeeded"].total(), self.calls["failed"].total()
        return failed / max(1, succeeded + failed)

    def shortfalls(self, demanded):
        """What the run has not tried, of what it has to."""
        for operation, outcome in demanded:
            calls, peers = self.calls[outcome][operation], self.compared_with(operation, outcome)
            if not calls or peers < PEERS_MIN:
                yield f"{operation} {outcome} {calls} times and was then compared with {peers} of the peers"
        if demanded and self.failed_share() < FAILED_SHARE_MIN:
            yield f"{self.failed_share():.0%} of the calls failed: too few are invalid"

    def print_draft(self):
        rows = collections.defaultdict(lambda: collections.defaultdict(set))
        for new in self.new:
            rows[new.operation, new.case, new.member, new.ours][new.peer].add(new.theirs)
        for (operation, *cells), peers in sorted(rows.items()):
            theirs = "; ".join(f"{peer}: {' or '.join(sorted(answers))}" for peer, answers in sorted(peers.items()))
            print(f"{operation} | {' | '.join(cells)} | {theirs} | |")


if __name__ == "__main__":
    sys.exit(main())
