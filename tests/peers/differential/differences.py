"""What differs between two answers, and the lines of DIFFERENCES.md that say so already."""

import dataclasses
import fnmatch
import json
import pathlib
import re

from model import knows

FILE = pathlib.Path(__file__).resolve().parents[3] / "crates" / "emulator" / "DIFFERENCES.md"
# Operations that leave everything as it was.
READS = re.compile(r"(Describe|List|Get)")
# What an operation changes, by a word in its name, and what else its answer depends on.
PARTS = {"Tag": "tags", "Consumer": "consumers", "PutRecord": "records", "GetRecords": "records"}
DEPENDS = {"SubscribeToShard": {"records", "consumers"}, "DescribeStreamSummary": {"consumers"}}
DEPENDS["DeleteStream"] = {"consumers"}
EVERYTHING = "shards and all else"
TEXT_MAX = 70
ABSENT = "absent"
# Our answer is another one for each call, and the model says which.
MODEL = "model"
OK = "ok"


@dataclasses.dataclass(frozen=True)
class Difference:
    operation: str
    case: str
    # The path of the member that differs; empty where one is an error, or the two are different ones.
    member: str
    ours: str
    peer: str
    theirs: str

    def __str__(self):
        return f"| {self.case} | {self.member} | {self.ours} | {self.peer}: {self.theirs} | |"


def between(peer, our, their):
    """The differences of two calls; also whether the two targets are in different states from here on."""
    if our.error != their.error:
        texts = [call.error or OK for call in (our, their)]
        changed = [text == OK for text in texts] if not READS.match(our.operation) else [False, False]
        # What one of them does not know at all, nothing later depends on.
        diverged = any(changed) and not any(text.startswith("UnknownOperation") for text in texts)
        return [Difference(our.operation, our.case, "", texts[0], peer, texts[1])], diverged
    found = []
    compare(our.body, their.body, "", lambda *texts: found.append(texts))
    unique = dict.fromkeys(found)
    return [Difference(our.operation, our.case, path, a, peer, b) for path, a, b in unique], False


def part_of(operation):
    """The part of a stream's state that the operation changes or shows."""
    return next((part for word, part in PARTS.items() if word in operation), EVERYTHING)


def depends_on(operation):
    return {part_of(operation), EVERYTHING} | DEPENDS.get(operation, set())


def compare(ours, theirs, path, report):
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted(ours.keys() | theirs.keys()):
            inner = f"{path}.{name}" if path else name
            if name not in ours or name not in theirs:
                report(inner, text(ours.get(name, ABSENT)), text(theirs.get(name, ABSENT)))
            else:
                compare(ours[name], theirs[name], inner, report)
    elif isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            report(path, f"{len(ours)} items", f"{len(theirs)} items")
            return
        for a, b in zip(ours, theirs):
            compare(a, b, f"{path}[]", report)
    elif ours != theirs:
        report(path, text(ours), text(theirs))


def text(value):
    shown = value if value == ABSENT else json.dumps(value)
    shown = shown.replace("|", "/")
    return shown if len(shown) <= TEXT_MAX else shown[: TEXT_MAX - 1] + "…"


@dataclasses.dataclass
class Line:
    number: int
    operations: list
    case: str
    member: str
    ours: str
    theirs: dict
    says: str
    # Some peers do not always do the same.
    is_sometimes: bool
    used: int = 0

    def covers(self, difference, expected):
        """`expected` is what the model knows of our answer, which it has been compared with."""
        pairs = [
            (difference.case, self.case),
            (difference.member, self.member),
            (difference.theirs, self.theirs.get(difference.peer, "")),
        ]
        named = any(fnmatch.fnmatchcase(difference.operation, operation) for operation in self.operations)
        if not named or not all(matches(value, pattern) for value, pattern in pairs):
            return False
        return knows(expected, difference.member) if self.ours == MODEL else difference.ours in self.ours.split(" or ")


def matches(value, pattern):
    """A `*` stands for anything, ` or ` between two patterns for either."""
    return any(
        re.fullmatch(".*".join(re.escape(part) for part in choice.split("*")), value) for choice in pattern.split(" or ")
    )


def read_lines(file=FILE):
    """The rows of the tables; a heading names the operations of the rows below it."""
    lines, operations = [], []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if line.startswith("## "):
            operations = [name.strip() for name in line[3:].split(",")]
        if not line.startswith("| ") or line.startswith("| case |"):
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]
        if len(cells) != 5 or not cells[4]:
            raise SystemExit(f"{file.name}:{number}: a line needs five cells, and what AWS says, or \"unknown\"")
        if "*" in cells[2]:
            raise SystemExit(f"{file.name}:{number}: our answer is exact, or what the model says")
        others = cells[3].removeprefix("sometimes ")
        theirs = dict(part.strip().split(": ", 1) for part in others.split("; "))
        lines.append(Line(number, operations, *cells[:3], theirs, cells[4], others != cells[3]))
    return lines
