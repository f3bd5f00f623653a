"""The judge finds what it is there to find: a cell that is well, and each thing that can be wrong with it, once."""

import json
import pathlib
import tempfile
import unittest

from judge import Judge

FAILOVER_MS = 3_000
PARENTS = {"p": [], "c": ["p"]}
# Position, and when it arrived.
RECORDS = {"p": [((n, 0), n * 1000) for n in range(1, 5)], "c": [((n, 0), n * 1000) for n in range(10, 14)]}
OURS = """\
1000 ours-1 gained p TRIM_HORIZON 0
1001 ours-1 record p 1 0
2001 ours-1 record p 2 0
2100 ours-1 checkpoint p 2 0
9100 ours-1 gained c 11 0
12001 ours-1 record c 12 0
13001 ours-1 record c 13 0
"""
# It takes over twice: p after a checkpoint, with a record that was read and not checkpointed in between; then c goes back.
PEER = """\
3000 peer-1 gained p 2 0
3001 peer-1 record p 3 0
4001 peer-1 record p 4 0
5000 peer-1 checkpoint p SHARD_END 0
6000 peer-1 gained c TRIM_HORIZON 0
6001 peer-1 record c 10 0
6002 peer-1 record c 11 0
7000 peer-1 checkpoint c 11 0
"""
PEER_ON_C = "9101 peer-1 record c 10 0\n9102 peer-1 record c 11 0"
MARKS = {"split": 9_500}


def lease(key, owner, counter, checkpoint, **more):
    row = {"leaseKey": {"S": key}, "leaseCounter": {"N": str(counter)}, "checkpoint": {"S": checkpoint}}
    return row | {"checkpointSubSequenceNumber": {"N": "0"}, "leaseOwner": {"S": owner}} | more


def table(*samples):
    return [{"t": 1000 * second, "rows": rows} for second, rows in enumerate(samples)]


WELL = [[lease("p", "ours-1", n, "2"), lease("c", "peer-1", n, "TRIM_HORIZON")] for n in range(1, 8)]


class TheJudge(unittest.TestCase):
    def failures(self, ours=OURS, peer=PEER, samples=WELL, marks=None, is_whole=True):
        with tempfile.TemporaryDirectory() as name:
            directory = pathlib.Path(name)
            (directory / "ours-1.tsv").write_text(ours.replace(" ", "\t"))
            (directory / "peer-1.tsv").write_text(peer.replace(" ", "\t"))
            (directory / "marks.json").write_text(json.dumps(MARKS))
            lines = (json.dumps(sample) + "\n" for sample in table(*samples))
            (directory / "table.jsonl").write_text("".join(lines))
            judge = Judge(PARENTS, RECORDS, directory, FAILOVER_MS)
        judge.all_that_is_always_so(is_whole)
        if marks:
            judge.together(marks)
        return judge.failures

    def assert_found(self, what, **wrong):
        failures = self.failures(**wrong)
        self.assertTrue(any(what in failure for failure in failures), failures)

    def test_what_is_well_passes(self):
        self.assertEqual(self.failures(), [])

    def test_a_line_cut_off_by_a_kill_is_none(self):
        self.assertEqual(self.failures(peer=PEER + "9000 peer-1 record c 12"), [])

    def test_a_lost_record(self):
        self.assert_found("1 records are in no journal", ours=OURS.replace("13001 ours-1 record c 13 0\n", ""))

    def test_what_was_broken_off_lacks_nothing_and_may_still_be_wrong(self):
        ours = OURS.replace("13001 ours-1 record c 13 0\n", "")
        self.assertEqual(self.failures(ours=ours, is_whole=False), [])
        peer = PEER.replace("5000 peer-1 checkpoint p SHARD_END 0\n", "")
        self.assert_found("c was begun and p not ended", peer=peer, is_whole=False)

    def test_a_record_that_nobody_put(self):
        self.assert_found("1 records are not in the stream", ours=OURS + "14001 ours-1 record c 99 0\n")

    def test_a_gap_that_is_filled_by_another(self):
        # 3 is read by ours, and passed over by the peer.
        ours = OURS.replace("2100", "2050 ours-1 record p 3 0\n2100")
        self.assert_found("in order and without a gap", ours=ours, peer=PEER.replace("3001 peer-1 record p 3 0\n", ""))

    def test_a_record_at_or_before_the_checkpoint(self):
        peer = PEER.replace("3001 peer", "3000 peer-1 record p 2 0\n3001 peer", 1)
        self.assert_found("in order and without a gap", peer=peer)

    def test_a_repeat_after_the_checkpoint_is_allowed(self):
        self.assertEqual(self.failures(ours=OURS.replace("2100", "2050 ours-1 record p 3 0\n2100")), [])

    def test_a_begin_before_a_granted_checkpoint(self):
        peer = PEER.replace("gained p 2 0", "gained p 1 0\n3000 peer-1 record p 2 0")
        self.assert_found("peer-1 began p at (1, 0), before the checkpoint (2, 0)", peer=peer)

    def test_a_begin_of_what_is_lost_already_is_allowed(self):
        zombie = "11000 peer-1 gained c 11 0\n"
        ours = OURS + "13100 ours-1 checkpoint c 13 0\n"
        self.assertEqual(self.failures(ours=ours, peer=PEER + zombie), [])
        self.assert_found("peer-1 began c", ours=ours, peer=PEER + zombie.replace("11000", "15000"))

    def test_two_that_checkpoint_in_turn(self):
        ours = OURS.replace("12001", "9200 ours-1 checkpoint c 11 0\n12001") + "13100 ours-1 checkpoint c 13 0\n"
        peer = PEER + "9150 peer-1 record c 12 0\n9300 peer-1 checkpoint c 12 0\n"
        self.assert_found("peer-1 and ours-1 were granted checkpoints of c in turn", ours=ours, peer=peer)

    def test_two_that_read_one_shard_for_too_long(self):
        ours = OURS.replace("2100", "8000 ours-1 record p 3 0\n2100")
        self.assert_found("ours-1 and peer-1 both read p for 4999 ms", ours=ours)

    def test_a_child_before_the_end_of_its_parent(self):
        self.assert_found("c was begun before the end of p", peer=PEER.replace("4001 peer", "6500 peer"))

    def test_a_parent_without_an_end(self):
        peer = PEER.replace("5000 peer-1 checkpoint p SHARD_END 0\n", "")
        self.assert_found("p was not read to its end", peer=peer)

    def test_an_end_that_only_the_table_shows(self):
        peer = PEER.replace("5000 peer-1 checkpoint p SHARD_END 0\n", "")
        samples = [*WELL, [lease("p", "peer-1", 9, "SHARD_END"), lease("c", "peer-1", 9, "TRIM_HORIZON")]]
        self.assertEqual(self.failures(peer=peer, samples=samples), [])
        self.assert_found("c was begun before", peer=peer.replace("4001 peer", "6500 peer"), samples=samples)

    def test_a_checkpoint_that_goes_back_in_the_table(self):
        samples = [[lease("p", "ours-1", 1, "20")], [lease("p", "ours-1", 2, "3")]]
        self.assert_found("the checkpoint of p went back from (20, 0) to (3, 0)", samples=samples)
        samples = [[lease("p", "ours-1", 1, "SHARD_END")], [lease("p", "ours-1", 2, "999")]]
        self.assert_found("the checkpoint of p went back", samples=samples)

    def test_a_counter_that_goes_back(self):
        samples = [[lease("p", "ours-1", 2, "3")], [lease("p", "ours-1", 1, "3")]]
        self.assert_found("p went from ours-1 at 2 to ours-1 at 1", samples=samples)

    def test_an_owner_that_changes_without_the_counter(self):
        samples = [[lease("p", "ours-1", 2, "3")], [lease("p", "peer-1", 2, "3")]]
        self.assert_found("p went from ours-1 at 2 to peer-1 at 2", samples=samples)
        handed = [samples[0], [lease("p", "peer-1", 2, "3", checkpointOwner={"S": "ours-1"})]]
        self.assertEqual(self.failures(samples=handed), [])

    def test_a_row_that_was_deleted_may_come_anew(self):
        samples = [[lease("p", "ours-1", 2, "3")], [], [lease("p", "ours-1", 0, "TRIM_HORIZON")]]
        self.assertEqual(self.failures(samples=samples), [])

    def test_together(self):
        peer = PEER + "14000 peer-1 gained c 11 0\n14001 peer-1 record c 12 0\n"
        self.assertEqual(self.failures(peer=peer, marks=["split"]), [])

    def test_a_side_that_held_too_little(self):
        alone = [[lease("p", "ours-1", n, "2"), lease("c", "ours-1", n, "TRIM_HORIZON")] for n in range(1, 8)]
        self.assert_found("both sides held a quarter of the leases for 0 ms", samples=alone, marks=["split"])
        handed = [[lease("p", "ours-1", 1, "2"), lease("c", "peer-1", 1, "5", checkpointOwner={"S": "ours-1"})]] * 7
        self.assert_found("both sides held a quarter of the leases for 0 ms", samples=handed, marks=["split"])

    def test_a_side_that_read_nothing_after_the_split(self):
        ours = OURS.replace("9100 ours-1 gained c 11 0", "9100 ours-1 gained c TRIM_HORIZON 0\n" + PEER_ON_C)
        wrong = {"ours": ours.replace("peer-1", "ours-1"), "peer": PEER[: PEER.index("6000 ")]}
        self.assert_found("put after the split, ours read 4 and the peer 0", marks=["split"], **wrong)

    def test_a_merge_that_never_came(self):
        self.assert_found("there was no merge", marks=["split", "merge"])


if __name__ == "__main__":
    unittest.main()
