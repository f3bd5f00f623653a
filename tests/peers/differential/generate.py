"""Scripts from seeds: one stream that only gets valid calls, and one that gets all the others.

A peer that takes what the service refuses has another state from then on; with two streams that spoils one of them.
"""

import functools
import random

import cases_of_streams  # noqa: F401  adds its cases
from cases import CASES
from differences import READS

VALID_PER_SEED, WRONG_PER_SEED = 16, 24
# Share of the valid calls that change the stream.
CHANGES = 0.2
SHARDS = 2
VALID = [case for case in CASES if case.is_valid and not case.toggles]
WRONG = [case for case in CASES if not case.is_valid]
CASE = {(case.operation, case.name): case for case in CASES}
SPLIT, MERGE = CASE["SplitShard", "valid: in the middle"], CASE["MergeShards", "valid: neighbours"]
LONGER = CASE["IncreaseStreamRetentionPeriod", "valid"]
SHORTER = CASE["DecreaseStreamRetentionPeriod", "valid"]
# What happens in a number of seeds: operations and their outcomes.
OUTCOMES = sorted(
    {(case.operation, "succeeded") for case in (*VALID, SPLIT, MERGE, LONGER, SHORTER)}
    | {(case.operation, "failed") for case in WRONG}
)


def dealer(cases, count):
    """Gives each seed so many of the cases. It goes on where the one before has ended, so a few seeds meet every case;
    each time around these are in another order, so no two seeds have the same."""

    @functools.cache
    def shuffled(time_around):
        return random.Random(time_around).sample(cases, len(cases))

    def deal(seed):
        places = range(seed * count, (seed + 1) * count)
        return [shuffled(place // len(cases))[place % len(cases)] for place in places]

    return deal


valid_of, wrong_of = dealer(VALID, VALID_PER_SEED), dealer(WRONG, WRONG_PER_SEED)


def plan(seed):
    """What the seed calls: cases, and None where a change of the stream takes the place of one. Two seeds never have the
    same."""
    rng = random.Random(seed)
    valid = [case if rng.random() >= CHANGES else None for case in valid_of(seed)]
    return valid, wrong_of(seed)


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
    valid, wrong = plan(seed)
    sound, victim = session.name("sound"), session.name("victim")
    for stream in (sound, victim):
        session.call("CreateStream", StreamName=stream, ShardCount=SHARDS)
        session.wait(stream)
        session.call("RegisterStreamConsumer", stream=stream, StreamARN=session.arn(stream), ConsumerName="reader")
    wait_for_consumers(session, (sound, victim))
    toggles = Toggles(random.Random(f"{seed}/changes"))
    for number in range(max(len(valid), len(wrong))):
        if number < len(valid):
            one(session, valid[number] or toggles.next(), sound, f"{seed}/{number}")
        if number < len(wrong):
            one(session, wrong[number], victim, f"{seed}/{number}/wrong")
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
