"""The calls that scripts are made of: for each operation a request that is valid, and named ways to make it wrong.

A case is chosen by the generator before anything is called, and its request made when its turn comes, from the
target's own ids. What a case calls is a matter of its name and of the seed, never of an answer: so every target gets
the same calls.
"""

import dataclasses
import time
from collections.abc import Callable

from session import HASH_KEYS, middle

MISSING = object()
GONE_ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/never-was"
FUTURE_SECONDS = 3600


@dataclasses.dataclass(frozen=True)
class Case:
    operation: str
    name: str
    make: Callable
    # Undone by another case: the generator takes the two in turn, so that each is valid.
    toggles: bool = False

    @property
    def is_valid(self):
        return self.name.startswith("valid")


CASES = []


def valid(operation, detail="", toggles=False):
    name = f"valid: {detail}" if detail else "valid"

    def add(make):
        CASES.append(Case(operation, name, make, toggles))
        return make

    return add


def wrong(operation, base, **named):
    """Each value is what replaces members of the valid request: a dict, or what makes one of `(session, stream)`."""
    for name, change in named.items():
        add_wrong(operation, base, name.replace("_", " "), change)


def add_wrong(operation, base, name, change):
    def make(session, random, stream):
        members = change(session, stream) if callable(change) else change
        request = base(session, random, stream) | members
        return {member: value for member, value in request.items() if value is not MISSING}

    CASES.append(Case(operation, name, make))


def of_stream(session, random, stream):
    return {"StreamName": stream}


def of_arn(session, random, stream):
    return {"StreamARN": session.arn(stream)}


NO_STREAM = {
    "unknown stream": {"StreamName": "never-was"},
    "neither name nor ARN": {"StreamName": MISSING},
    "name with a space": {"StreamName": "a name"},
    "ARN of an unknown stream": {"StreamName": MISSING, "StreamARN": GONE_ARN},
    "text for an ARN": {"StreamName": MISSING, "StreamARN": "not-an-arn"},
}


def wrong_stream(operation, base):
    for name, change in NO_STREAM.items():
        add_wrong(operation, base, name, change)


def pick(random, values):
    # Drawn before it is known how many there are, so that each target draws as often.
    place = random.random()
    return values[int(place * len(values))] if values else None


def open_shard(session, random, stream):
    return pick(random, session.open(stream)) or {"ShardId": "none"}


# -- records


def one_record(session, random, stream):
    size = random.choice([0, 1, 10, 1000])
    return {"StreamName": stream, "Data": random.randbytes(size), "PartitionKey": f"k{random.randrange(100)}"}


valid("PutRecord")(one_record)


@valid("PutRecord", "by ARN")
def put_by_arn(session, random, stream):
    return {"StreamARN": session.arn(stream), "Data": b"by ARN", "PartitionKey": "k"}


@valid("PutRecord", "explicit hash key")
def put_explicit(session, random, stream):
    return one_record(session, random, stream) | {"ExplicitHashKey": str(random.randrange(HASH_KEYS))}


wrong_stream("PutRecord", one_record)
wrong(
    "PutRecord",
    one_record,
    empty_partition_key={"PartitionKey": ""},
    partition_key_of_257_characters={"PartitionKey": "k" * 257},
    no_partition_key={"PartitionKey": MISSING},
    no_data={"Data": MISSING},
    explicit_hash_key_of_letters={"ExplicitHashKey": "abc"},
    explicit_hash_key_with_a_leading_zero={"ExplicitHashKey": "01"},
    explicit_hash_key_too_large={"ExplicitHashKey": str(HASH_KEYS)},
    garbage_for_ordering={"SequenceNumberForOrdering": "123"},
    dry_run={"DryRun": True},
)


def records(session, random, stream):
    return [
        {"Data": random.randbytes(random.choice([1, 20, 500])), "PartitionKey": f"k{random.randrange(1000)}"}
        for _ in range(random.randrange(1, 8))
    ]


@valid("PutRecords")
def many_records(session, random, stream):
    return {"StreamName": stream, "Records": records(session, random, stream)}


ENTRY = {"Data": b"x", "PartitionKey": "k"}
wrong_stream("PutRecords", many_records)
wrong(
    "PutRecords",
    many_records,
    no_records={"Records": []},
    records_left_out={"Records": MISSING},
    one_without_a_partition_key={"Records": [ENTRY, {"Data": b"x"}]},
    one_without_data={"Records": [ENTRY, {"PartitionKey": "k"}]},
    one_with_an_empty_partition_key={"Records": [ENTRY, ENTRY | {"PartitionKey": ""}]},
    one_with_a_partition_key_of_257_characters={"Records": [ENTRY, ENTRY | {"PartitionKey": "k" * 257}]},
    one_with_a_hash_key_of_letters={"Records": [ENTRY, ENTRY | {"ExplicitHashKey": "abc"}]},
    one_with_a_hash_key_too_large={"Records": [ENTRY, ENTRY | {"ExplicitHashKey": str(HASH_KEYS)}]},
    dry_run={"DryRun": True},
)


def any_iterator(session, random, stream):
    shard = open_shard(session, random, stream)["ShardId"]
    return {"StreamName": stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}


valid("GetShardIterator")(any_iterator)


@valid("GetShardIterator", "LATEST by ARN")
def latest_by_arn(session, random, stream):
    request = any_iterator(session, random, stream) | {"ShardIteratorType": "LATEST", "StreamARN": session.arn(stream)}
    return {member: value for member, value in request.items() if member != "StreamName"}


def number_at_start(session, stream):
    shard = session.open(stream)[0]
    number = shard["SequenceNumberRange"]["StartingSequenceNumber"]
    return {"ShardId": shard["ShardId"], "StartingSequenceNumber": number}


wrong_stream("GetShardIterator", any_iterator)
wrong(
    "GetShardIterator",
    any_iterator,
    unknown_shard={"ShardId": "shardId-000000000999"},
    shard_id_that_is_none={"ShardId": "my-shard"},
    no_shard_id={"ShardId": MISSING},
    no_type={"ShardIteratorType": MISSING},
    type_that_is_none={"ShardIteratorType": "OLDEST"},
    AT_SEQUENCE_NUMBER_without_one={"ShardIteratorType": "AT_SEQUENCE_NUMBER"},
    AFTER_SEQUENCE_NUMBER_without_one={"ShardIteratorType": "AFTER_SEQUENCE_NUMBER"},
    AT_SEQUENCE_NUMBER_of_letters={"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": "abc"},
    AT_SEQUENCE_NUMBER_of_a_few_digits={"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": "12"},
    AT_TIMESTAMP_without_one={"ShardIteratorType": "AT_TIMESTAMP"},
    AT_TIMESTAMP_in_the_future=lambda session, stream: {
        "ShardIteratorType": "AT_TIMESTAMP",
        "Timestamp": time.time() + FUTURE_SECONDS,
    },
    dry_run={"DryRun": True},
    LATEST_with_a_sequence_number=lambda session, stream: {"ShardIteratorType": "LATEST"}
    | number_at_start(session, stream),
)


def from_an_iterator(session, random, stream):
    iterator = session.iterator(stream, open_shard(session, random, stream)["ShardId"])
    return {"ShardIterator": iterator, "Limit": 100}


wrong(
    "GetRecords",
    from_an_iterator,
    garbage_for_an_iterator={"ShardIterator": "AAAAAAAAAAFgarbage"},
    empty_iterator={"ShardIterator": ""},
    no_iterator={"ShardIterator": MISSING},
    limit_of_0={"Limit": 0},
    limit_of_10001={"Limit": 10001},
    dry_run={"DryRun": True},
)


# -- shards


@valid("ListShards")
def list_shards(session, random, stream):
    return {"StreamName": stream}


@valid("ListShards", "by ARN")
def list_shards_by_arn(session, random, stream):
    return of_arn(session, random, stream)


for filter_type in ("AT_TRIM_HORIZON", "FROM_TRIM_HORIZON", "AT_LATEST"):

    @valid("ListShards", filter_type)
    def list_filtered(session, random, stream, filter_type=filter_type):
        return {"StreamName": stream, "ShardFilter": {"Type": filter_type}}


@valid("ListShards", "AFTER_SHARD_ID")
def list_after_shard(session, random, stream):
    return {"StreamName": stream, "ShardFilter": {"Type": "AFTER_SHARD_ID", "ShardId": "shardId-000000000000"}}


for filter_type in ("AT_TIMESTAMP", "FROM_TIMESTAMP"):

    @valid("ListShards", f"{filter_type}, now")
    def list_at_time(session, random, stream, filter_type=filter_type):
        return {"StreamName": stream, "ShardFilter": {"Type": filter_type, "Timestamp": time.time()}}


@valid("ListShards", "after the first shard, one")
def list_one(session, random, stream):
    return {"StreamName": stream, "MaxResults": 1, "ExclusiveStartShardId": "shardId-000000000000"}


@valid("ListShards", "the next page")
def list_next(session, random, stream):
    token = session.ask("ListShards", {"StreamName": stream, "MaxResults": 1}).body.get("NextToken")
    return {"NextToken": token or "no token", "MaxResults": 1000}


wrong_stream("ListShards", list_shards)
wrong(
    "ListShards",
    list_shards,
    MaxResults_of_0={"MaxResults": 0},
    MaxResults_of_10001={"MaxResults": 10001},
    a_token_beside_the_name=lambda session, stream: list_next(session, None, stream),
    garbage_for_a_token={"StreamName": MISSING, "NextToken": "garbage"},
    filter_of_no_type={"ShardFilter": {"Type": "ALL"}},
    AFTER_SHARD_ID_without_one={"ShardFilter": {"Type": "AFTER_SHARD_ID"}},
    AT_TIMESTAMP_without_one={"ShardFilter": {"Type": "AT_TIMESTAMP"}},
    ExclusiveStartShardId_with_a_space={"ExclusiveStartShardId": "a shard"},
    ExclusiveStartShardId_of_no_shard={"ExclusiveStartShardId": "no-shard"},
)


@valid("SplitShard", "in the middle", toggles=True)
def split_middle(session, random, stream):
    shard = open_shard(session, random, stream)
    return {"StreamName": stream, "ShardToSplit": shard["ShardId"], "NewStartingHashKey": middle(shard)}


def split_first(session, random, stream):
    shard = session.open(stream)[0]
    return {"StreamName": stream, "ShardToSplit": shard["ShardId"], "NewStartingHashKey": middle(shard)}


def edge(offset, which):
    def change(session, stream):
        shard = session.open(stream)[0]
        return {"NewStartingHashKey": str(int(shard["HashKeyRange"][which]) + offset)}

    return change


wrong_stream("SplitShard", split_first)
wrong(
    "SplitShard",
    split_first,
    unknown_shard={"ShardToSplit": "shardId-000000000999"},
    closed_shard=lambda session, stream: {"ShardToSplit": closed_shard(session, stream)},
    at_the_first_hash_key=edge(0, "StartingHashKey"),
    beyond_the_last_hash_key=edge(1, "EndingHashKey"),
    hash_key_of_letters={"NewStartingHashKey": "abc"},
    no_hash_key={"NewStartingHashKey": MISSING},
    no_shard={"ShardToSplit": MISSING},
)


def closed_shard(session, stream):
    closed = session.closed(stream)
    return closed[0]["ShardId"] if closed else "shardId-000000000998"


@valid("MergeShards", "neighbours", toggles=True)
def merge_neighbours(session, random, stream):
    shards = session.open(stream)
    place = int(random.random() * (len(shards) - 1))
    return merge_of(stream, shards[place], shards[min(place + 1, len(shards) - 1)])


def merge_first(session, random, stream):
    shards = session.open(stream)
    return merge_of(stream, shards[0], shards[min(1, len(shards) - 1)])


def merge_of(stream, shard, adjacent):
    return {"StreamName": stream, "ShardToMerge": shard["ShardId"], "AdjacentShardToMerge": adjacent["ShardId"]}


wrong_stream("MergeShards", merge_first)
wrong(
    "MergeShards",
    merge_first,
    unknown_shard={"ShardToMerge": "shardId-000000000999"},
    with_itself=lambda session, stream: {"AdjacentShardToMerge": session.open(stream)[0]["ShardId"]},
    with_an_unknown_shard={"AdjacentShardToMerge": "shardId-000000000999"},
    closed_shard=lambda session, stream: {"AdjacentShardToMerge": closed_shard(session, stream)},
    not_neighbours=lambda session, stream: {"AdjacentShardToMerge": session.open(stream)[-1]["ShardId"]},
    no_neighbour={"AdjacentShardToMerge": MISSING},
)


def new_count(session, random, stream):
    return {"StreamName": stream, "TargetShardCount": 2, "ScalingType": "UNIFORM_SCALING"}


wrong_stream("UpdateShardCount", new_count)
wrong(
    "UpdateShardCount",
    new_count,
    no_count={"TargetShardCount": MISSING},
    no_scaling_type={"ScalingType": MISSING},
    scaling_type_that_is_none={"ScalingType": "RANDOM"},
    more_than_double=lambda session, stream: {"TargetShardCount": 2 * len(session.open(stream)) + 1},
)
