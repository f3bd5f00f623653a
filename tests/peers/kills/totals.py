"""What runs have met, over all of them, and the section of docs/soaks.md that says so."""

import collections
import datetime
import pathlib
import re
import subprocess
import textwrap

import shapes

SOAKS = pathlib.Path("docs/soaks.md")
LINE_MAX = 128
# One of so many restarts, at least, finishes a window that it finds announced.
RESTARTS_PER_FINISHED_MAX = 5
# One in so many seeds, at least, hits each step, a spilled window, and an upload that is not completed.
SEEDS_PER_HIT_MAX = 30
STEPS = list(shapes.IN_PARTS.steps)
AMID = ["amid spilled windows", "amid parts"]


class Totals:
    def __init__(self, seeds=0, failed=0, kills={}, numbers={}):
        self.seeds, self.failed = seeds, failed
        self.kills, self.numbers = map(collections.Counter, (kills, numbers))

    def add(self, run, failures, numbers):
        self.seeds += 1
        self.failed += bool(failures)
        self.kills += run.kills
        self.numbers.update(numbers)

    def too_little(self):
        """What the runs did not meet often enough to prove anything."""
        wanted = max(1, self.seeds // SEEDS_PER_HIT_MAX)
        for step in STEPS:
            if self.kills[step] < wanted:
                yield f"{self.kills[step]} kills after the step {step}: there have to be {wanted}"
        for amid in AMID:
            if self.numbers[amid] < wanted:
                yield f"{self.numbers[amid]} kills {amid}: there have to be {wanted}"
        restarts, finished = self.numbers["restarts"], self.numbers["finished_restarts"]
        if finished * RESTARTS_PER_FINISHED_MAX < restarts:
            yield f"{finished} of {restarts} restarts have finished an announced window: it has to be a fifth"

    def report(self):
        numbers = self.numbers
        return [
            "| killed | times |",
            "|---|---|",
            *(f"| after the step `{step}` | {self.kills[step]} |" for step in STEPS),
            *(f"| from {kind} | {self.kills[kind]} |" for kind in sorted(self.kills) if kind not in STEPS),
            *(f"| of all these, {amid} | {numbers[amid]} |" for amid in AMID),
            "",
            *textwrap.wrap(
                f"{numbers['records']:,} records in {numbers['windows']:,} windows, in {numbers['ndjson']:,} objects of NDJSON, "
                f"{numbers['ndjson.gz']:,} of gzip and {numbers['parquet']:,} of Parquet; {numbers['in_parts']:,} were sent in "
                f"parts, and {numbers['uploads_left']:,} uploads were left to the bucket's lifecycle rule. "
                f"{numbers['finished_restarts']} of {numbers['restarts']} restarts finished a window that they found "
                f"announced; with those of the other worker, {numbers['finished_plans']} windows were. Leases were taken "
                f"{numbers['takes']:,} times.",
                width=LINE_MAX,
            ),
        ]

    def write_down(self, first, last):
        """The section of docs/soaks.md."""
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE, text=True).stdout.strip()
        held = f"{self.failed} of them failed" if self.failed else "hold"
        title = f"{datetime.date.today()}, {commit} by `cargo xtask soak kills`: **seeds {first} to {last}** {held}."
        section = "\n".join(["## kills", title, "", *self.report()]) + "\n"
        text = SOAKS.read_text()
        without = re.sub(r"\n## kills\n.*?(?=\n## |\Z)", "", text, flags=re.DOTALL).rstrip("\n")
        SOAKS.write_text(f"{without}\n\n{section}")
