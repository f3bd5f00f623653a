"""Every KCL reads, takes, renews and checkpoints the rows that ours writes, and keeps what it does not know.

    python tests/peers/interop/rows.py BUILD_DIR

The rows are crates/consumer/tests/golden/rows/ours.json; what they mean is in ours.tsv beside it. Ends with
`N passed, N failed`.
"""

import csv
import os
import subprocess
import sys
import unittest

import boto3

from dynamodb_local import dynamodb_local
from golden import CHECKPOINT, ROWS, fill, java

# The columns that Rows.java prints, after `before` or `after`.
COLUMNS = ["key", "owner", "counter", "switches", "checkpoint", "sub", "pending", "pending_sub", "state"]
COLUMNS += ["parents", "children", "starting_hash_key", "ending_hash_key", "checkpoint_owner"]
# What a take, a renewal and a checkpoint are to change.
CHANGED = {"leaseOwner", "leaseCounter", "ownerSwitchesSinceCheckpoint", "checkpoint", "checkpointSubSequenceNumber"}
CHANGED |= {"pendingCheckpoint", "pendingCheckpointSubSequenceNumber", "pendingCheckpointState"}


def meant():
    """By key, as the file says it."""
    with (ROWS / "ours.tsv").open() as file:
        return {row["key"]: row for row in csv.DictReader(file, delimiter="\t")}


def meant_after(row):
    """What the row is after a take, a renewal and a checkpoint."""
    ended = row["checkpoint"] == "SHARD_END"
    changed = {"owner": "java", "counter": str(int(row["counter"]) + 3), "switches": "0", "sub": "0"}
    changed |= {"pending": "-", "pending_sub": "-", "state": "-"}
    return row | changed | {"checkpoint": "SHARD_END" if ended else CHECKPOINT}


class Rows(unittest.TestCase):
    build = url = None

    def setUp(self):
        self.dynamodb = boto3.client("dynamodb", endpoint_url=self.url)

    def items(self, table):
        rows = self.dynamodb.scan(TableName=table, ConsistentRead=True)["Items"]
        return {row.pop("leaseKey")["S"]: row for row in rows}

    def is_read_and_kept_by(self, module):
        table = f"{module}-reads-ours"
        fill(self.dynamodb, table, ROWS / "ours.json")
        before = self.items(table)
        environment = os.environ | {"AWS_ENDPOINT_URL_DYNAMODB": self.url, "AWS_EC2_METADATA_DISABLED": "true"}
        command = java(self.build, module, "Rows", table, "java", CHECKPOINT)
        printed = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
        read = {"before": {}, "after": {}}
        for line in printed.splitlines():
            when, *values = line.split("\t")
            row = dict(zip(COLUMNS, values, strict=True))
            read[when][row["key"]] = row
        rows = meant()
        self.assertEqual(set(read["before"]), set(rows))
        for key, row in rows.items():
            for when, wanted in (("before", row), ("after", meant_after(row))):
                # A library does not know every attribute.
                known = {name: value for name, value in read[when][key].items() if value != "unknown"}
                with self.subTest(f"{key} {when}"):
                    self.assertEqual(known, {name: wanted[name] for name in known})
        for key, row in self.items(table).items():
            kept = {name: value for name, value in row.items() if name not in CHANGED}
            with self.subTest(f"{key} kept"):
                self.assertEqual(kept, {name: value for name, value in before[key].items() if name not in CHANGED})

    def test_kcl_1_15_3(self):
        self.is_read_and_kept_by("kcl1")

    def test_kcl_2_7_2(self):
        self.is_read_and_kept_by("kcl2")

    def test_kcl_3_5_1(self):
        self.is_read_and_kept_by("kcl3")


def main():
    os.environ.update({"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"})
    os.environ.update({"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"})
    Rows.build = sys.argv[1]
    with dynamodb_local(Rows.build) as Rows.url:
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(Rows)
        result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    # Several subtests of one test are one test.
    failed = len({getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors})
    print(f"{result.testsRun - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
