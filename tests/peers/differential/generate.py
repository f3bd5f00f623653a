"""Scripts from seeds: one stream that only gets valid calls, and one that gets all the others.

A peer that takes what the service refuses has another state from then on; with two streams that spoils one of them.
"""

import random

import cases_of_streams  # noqa: F401  adds its cases
from cases import CASES
from differences import READS

VALID_PER_SEED, WRONG_PER_SEED = 16, 24
SHARDS = 2
VALID = [case for case in CASES if case.is_valid and not case.toggles]
WRONG = [case for case in CASES if not case.is_valid]
CASE = {(case.operation, case.name): case for case in CASES}
SPLIT, MERGE = CASE["SplitShard", "valid: in the middle"], CASE["MergeShards", "valid: neighbours"]
LONGER = CASE["IncreaseStreamRetentionPeriod", "valid"]
SHORTER = CASE["DecreaseStreamRetentionPeriod", "valid"]
# One order for all seeds, each of which goes on where the one before has ended: a few seeds meet every case.
for cases in (VALID, WRONG):
    random.Random(0).shuffle(cases)


class Toggles:
    """What the next valid change of a stream is."""

    def __init__(self, rng):
        self.rng = rng
        self.open_shards = SHARDS
        self.is_longer = False

    def next(self):
        if self.rng.random() < 0.3:
            self.is_longer = not self.is_longer
            return LONGER if self.is_longer else SHORTER
        if self.open_shards <= 1 or (self.open_shards < 4 and self.rng.random() < 0.5):
            self.open_shards += 1
            return SPLIT
        self.open_shards -= 1
        return MERGE


def generated(seed):
    def script(session):
        run(session, seed)

    return script


def run(session, seed):
    rng = random.Random(seed)
    sound, victim = session.name("sound"), session.name("victim")
    for stream in (sound, victim):
        session.call("CreateStream", StreamName=stream, ShardCount=SHARDS)
        session.wait(stream)
        session.call("RegisterStreamConsumer", stream=stream, StreamARN=session.arn(stream), ConsumerName="reader")
    wait_for_consumers(session, (sound, victim))
    toggles = Toggles(rng)
    for number in range(max(VALID_PER_SEED, WRONG_PER_SEED)):
        if number < VALID_PER_SEED:
            valid = VALID[(seed * VALID_PER_SEED + number) % len(VALID)]
            change = toggles.next() if rng.random() < 0.2 else valid
            one(session, change, sound, f"{seed}/{number}")
        if number < WRONG_PER_SEED:
            wrong = WRONG[(seed * WRONG_PER_SEED + number) % len(WRONG)]
            one(session, wrong, victim, f"{seed}/{number}/wrong")
    session.step()
    for shard in session.shards(sound):
        session.read(sound, shard["ShardId"])
    end(session, (sound, victim))


def one(session, case, stream, seed):
    session.step()
    request = case.make(session, random.Random(seed), stream)
    session.call(case.operation, case.name, stream, **request)
    # A target may have taken what is wrong.
    if session.last_was_ok and (case.toggles or not case.is_valid) and not READS.match(case.operation):
        session.wait(stream)


def wait_for_consumers(session, streams):
    for stream in streams:
        session.wait_for_consumer(stream, "reader")


def end(session, streams):
    session.step()
    for stream in streams:
        arn = session.arn(stream)
        session.call("DeregisterStreamConsumer", stream=stream, StreamARN=arn, ConsumerName="reader")
    for stream in streams:
        session.call("DeleteStream", StreamName=stream, EnforceConsumerDeletion=True)
        session.wait_until_gone(stream)
