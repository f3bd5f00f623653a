"""Compares the local Kinesis with other implementations of Kinesis, call by call.

    python run.py [--seeds 50] [--first 0] [--minutes 60] [--only SCRIPT ...] [--draft]

Scripts of operations, by hand and from seeds, run against `kinesink local`, kinesis-local, moto and ferrokinesis.
Answers are compared after what each makes up for itself has become a symbol: ids, times, sequence numbers, iterators.
The texts of errors are not compared: AWS documents none.

A difference passes if a line of crates/emulator/DIFFERENCES.md names it. Any other one fails, as does an operation
that never succeeded, or never failed. `--draft` prints lines for what is new, to be completed by hand. `--minutes` goes
on with further seeds for so long; another time it goes on after the last that passed.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import dataclasses
import sys
import time
import traceback

import differences
import scripts
from generate import generated
from session import Session
from targets import CACHE, OURS, PEERS, prepare, started

FAST_MS, SLOW_MS = 10, 8000
SHOWN_MAX = 200
SEEDS_OF_CI = 50
SOAKED = CACHE / "differential-soaked-seeds"
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
    parser.add_argument("--seeds", type=int, default=SEEDS_OF_CI)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--draft", action="store_true")
    parser.add_argument("--minutes", type=float, default=0)
    arguments = parser.parse_args()
    prepare()
    ends = time.monotonic() + 60 * arguments.minutes
    report = Report(differences.read_lines())
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    run_sets(sets(seeds, arguments.only), report)
    while time.monotonic() < ends and not report.failures:
        first = max(seeds.stop, int(SOAKED.read_text()) if SOAKED.exists() else 0)
        more = range(first, first + SEEDS_OF_CI)
        run_sets([Set([f"seed{seed}" for seed in more], FAST_MS)], report)
        print(f"seeds {more.start} to {more.stop - 1}: {len(report.failures)} failures", flush=True)
        if not report.failures:
            SOAKED.write_text(str(more.stop))
    complete = not arguments.only and arguments.first == 0 and arguments.seeds >= SEEDS_OF_CI
    report.print(complete, arguments.draft)
    failed = len(report.failures)
    print(f"{report.compared} passed, {failed} failed", flush=True)
    return 1 if failed else 0


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
    return session.transcript, None


class Report:
    def __init__(self, lines):
        self.lines = lines
        self.compared = 0
        self.unreached = collections.Counter()
        self.succeeded, self.failed = collections.Counter(), collections.Counter()
        self.per_peer = collections.Counter()
        self.failures = {}
        self.new = {}
        self.partings = collections.Counter()

    def add(self, script, ours, others):
        calls, error = ours
        if error:
            self.failures[f"{script} on {OURS} ended early: {error}"] = script
        for call in calls:
            (self.failed if call.error else self.succeeded)[call.operation] += call.calls
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
                self.unreached[peer] += 1
                continue
            self.compared += 1
            self.per_peer[peer] += 1
            found, has_parted = differences.between(peer, call, their)
            if has_parted:
                self.partings[peer, str(found[0])] += 1
                part = differences.part_of(call.operation)
                parted |= {(call.stream, part), (EVERYWHERE, part)}
            known |= bool(found)
            for difference in found:
                self.judge(difference, script)
        if error and not known:
            self.failures[f"{script} on {peer} ended early: {error}"] = script

    def judge(self, difference, script):
        for line in self.lines:
            if line.covers(difference):
                line.used += 1
                return
        self.new.setdefault(difference, script)
        self.failures[f"## {difference.operation}\n{difference}"] = script

    def print(self, complete, draft):
        print("calls: operation, succeeded, failed (of kinesink)")
        for operation in sorted(scripts.OPERATIONS):
            counts = self.succeeded[operation], self.failed[operation]
            print(f"  {operation:40} {counts[0]:6} {counts[1]:6}")
            emulated = operation not in scripts.NOT_EMULATED
            if complete and (not counts[1] or (emulated and not counts[0])):
                self.failures[f"{operation}: {counts[0]} succeeded, {counts[1]} failed; both have to happen"] = ""
        share = self.failed.total() / max(1, self.succeeded.total() + self.failed.total())
        print(f"  {share:.0%} of the calls failed")
        for peer in PEERS:
            print(f"  compared with {peer}: {self.per_peer[peer]}, out of step: {self.unreached[peer]}")
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

    def print_draft(self):
        rows = collections.defaultdict(lambda: collections.defaultdict(set))
        for new in self.new:
            rows[new.operation, new.case, new.member, new.ours][new.peer].add(new.theirs)
        for (operation, *cells), peers in sorted(rows.items()):
            theirs = "; ".join(f"{peer}: {' or '.join(sorted(answers))}" for peer, answers in sorted(peers.items()))
            print(f"{operation} | {' | '.join(cells)} | {theirs} | |")


if __name__ == "__main__":
    sys.exit(main())
