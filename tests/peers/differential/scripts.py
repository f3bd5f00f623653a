"""Scripts by hand: what a generator would hardly find. FAST ones wait for every change to be complete."""

import cases_of_streams  # noqa: F401  adds its cases
from cases import CASES
from session import HASH_KEYS, middle

FAST, SLOW, EXPIRING, ALL = {}, {}, {}, {}
# Which two of the peers answer, and kinesink local says that it does not emulate: operation and a request.
NOT_EMULATED = {
    "DescribeAccountSettings": lambda session, stream: {},
    "DisableEnhancedMonitoring": lambda session, stream: {"StreamName": stream, "ShardLevelMetrics": ["ALL"]},
    "EnableEnhancedMonitoring": lambda session, stream: {"StreamName": stream, "ShardLevelMetrics": ["ALL"]},
    "DeleteResourcePolicy": lambda session, stream: {"ResourceARN": session.arn(stream)},
    "GetResourcePolicy": lambda session, stream: {"ResourceARN": session.arn(stream)},
    "PutResourcePolicy": lambda session, stream: {"ResourceARN": session.arn(stream), "Policy": "{}"},
    "StartStreamEncryption": lambda session, stream: {"StreamName": stream} | KEY,
    "StopStreamEncryption": lambda session, stream: {"StreamName": stream} | KEY,
    "UpdateAccountSettings": lambda session, stream: {
        "MinimumThroughputBillingCommitment": {"Status": "ENABLED"}
    },
    "UpdateStreamWarmThroughput": lambda session, stream: {"StreamName": stream, "WarmThroughputMiBps": 10},
}
KEY = {"EncryptionType": "KMS", "KeyId": "alias/aws/kinesis"}
EMULATED = sorted({case.operation for case in CASES} | {"SubscribeToShard"})
OPERATIONS = [*EMULATED, *NOT_EMULATED]
CONSUMERS_MAX = 20
MIB = 2**20


def belongs_to(scripts):
    def add(script):
        name = script.__name__.replace("_", "-")
        scripts[name] = ALL[name] = script
        return script

    return add


fast, slow, expiring = belongs_to(FAST), belongs_to(SLOW), belongs_to(EXPIRING)


def created(session, short, shards, **more):
    """A new stream, active."""
    stream = session.name(short)
    session.call("CreateStream", StreamName=stream, ShardCount=shards, **more)
    session.wait(stream)
    return stream


def deleted(session, stream):
    session.step()
    session.call("DeleteStream", StreamName=stream)
    session.wait_until_gone(stream)


def put(session, stream, shard, *data):
    """Into that shard, whatever the partition key."""
    key = shard["HashKeyRange"]["StartingHashKey"]
    for item in data:
        session.call("PutRecord", StreamName=stream, Data=item, PartitionKey="k", ExplicitHashKey=key)


def read_all(session, stream):
    session.step()
    for shard in session.shards(stream):
        session.read(stream, shard["ShardId"])


# -- resharding


@fast
def split(session):
    """A parent is read to its end, and its children start empty."""
    stream = created(session, "a", 1)
    [parent] = session.open(stream)
    put(session, stream, parent, b"1", b"2", b"3")
    waiting = session.iterator(stream, parent["ShardId"])
    latest = session.iterator(stream, parent["ShardId"], "LATEST")
    session.call("SplitShard", StreamName=stream, ShardToSplit=parent["ShardId"], NewStartingHashKey=middle(parent))
    session.wait(stream)
    session.call("ListShards", "valid: after a split", StreamName=stream)
    session.call("DescribeStream", "valid: after a split", StreamName=stream)
    session.call("DescribeStreamSummary", "valid: after a split", StreamName=stream)
    session.step()
    for shard in session.open(stream):
        session.call("GetShardIterator", StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="LATEST")
        put(session, stream, shard, b"4", b"5")
    session.step()
    session.read(stream, parent["ShardId"])
    session.read(stream, parent["ShardId"], ShardIteratorType="LATEST")
    for iterator in (waiting, latest):
        session.call("GetRecords", "valid: an iterator from before the split", stream, ShardIterator=iterator)
    session.call("GetRecords", "valid: one record of a closed shard", stream, ShardIterator=waiting, Limit=1)
    closed = {"StreamName": stream, "ShardToSplit": parent["ShardId"], "NewStartingHashKey": middle(parent)}
    session.call("SplitShard", "a shard that was split", **closed)
    read_all(session, stream)
    deleted(session, stream)


@fast
def merge(session):
    """Two parents, one child; each parent's end names it."""
    stream = created(session, "a", 2)
    first, second = session.open(stream)
    put(session, stream, first, b"1")
    put(session, stream, second, b"2", b"3")
    pair = {"ShardToMerge": first["ShardId"], "AdjacentShardToMerge": second["ShardId"]}
    session.call("MergeShards", StreamName=stream, **pair)
    session.wait(stream)
    session.call("ListShards", "valid: after a merge", StreamName=stream)
    session.step()
    for shard in session.open(stream):
        put(session, stream, shard, b"4")
    session.step()
    session.call("MergeShards", "shards that were merged", StreamName=stream, **pair)
    read_all(session, stream)
    for kind in ("AT_TRIM_HORIZON", "FROM_TRIM_HORIZON", "AT_LATEST"):
        session.call("ListShards", f"valid: {kind} after a merge", StreamName=stream, ShardFilter={"Type": kind})
    deleted(session, stream)


@fast
def merge_from_the_right(session):
    """The neighbour may be named first."""
    stream = created(session, "a", 3)
    first, second, third = session.open(stream)
    pair = {"ShardToMerge": second["ShardId"], "AdjacentShardToMerge": first["ShardId"]}
    session.call("MergeShards", "valid: the right one first", StreamName=stream, **pair)
    session.wait(stream)
    session.call("ListShards", "valid: after a merge of the right one", StreamName=stream)
    apart = {"ShardToMerge": third["ShardId"], "AdjacentShardToMerge": first["ShardId"]}
    session.call("MergeShards", "with a closed shard", StreamName=stream, **apart)
    deleted(session, stream)


@fast
def uneven_split(session):
    """As far to the edge as it goes."""
    stream = created(session, "a", 2)
    first, second = session.open(stream)
    start, last = int(first["HashKeyRange"]["StartingHashKey"]), second["HashKeyRange"]["EndingHashKey"]
    for case, shard, key in (
        ("at the second hash key", first, str(start + 1)),
        ("at the last hash key", second, last),
        ("valid: at the third hash key", first, str(start + 2)),
    ):
        session.step()
        shard = session.shard_of(stream, shard["HashKeyRange"]["EndingHashKey"])
        session.call("SplitShard", case, stream, StreamName=stream, ShardToSplit=shard, NewStartingHashKey=key)
        session.wait(stream)
    session.call("ListShards", "valid: after uneven splits", StreamName=stream)
    session.call("PutRecord", "valid: to the first hash key", **to_hash_key(stream, 0))
    session.call("PutRecord", "valid: to the last hash key", **to_hash_key(stream, HASH_KEYS - 1))
    read_all(session, stream)
    deleted(session, stream)


def to_hash_key(stream, key):
    return {"StreamName": stream, "Data": b"x", "PartitionKey": "k", "ExplicitHashKey": str(key)}


@fast
def generations(session):
    """Three generations, read in order: grandparent, parents, the last child."""
    stream = created(session, "a", 1)
    for round_number in range(2):
        [shard] = session.open(stream)
        put(session, stream, shard, b"before %d" % round_number)
        request = {"ShardToSplit": shard["ShardId"], "NewStartingHashKey": middle(shard)}
        session.call("SplitShard", StreamName=stream, **request)
        session.wait(stream)
        left, right = session.open(stream)
        put(session, stream, left, b"left")
        put(session, stream, right, b"right")
        request = {"ShardToMerge": left["ShardId"], "AdjacentShardToMerge": right["ShardId"]}
        session.call("MergeShards", StreamName=stream, **request)
        session.wait(stream)
    session.call("ListShards", "valid: three generations", StreamName=stream)
    for kind in ("AT_TRIM_HORIZON", "AT_LATEST"):
        session.call("ListShards", f"valid: {kind} of three generations", StreamName=stream, ShardFilter={"Type": kind})
    after = {"Type": "AFTER_SHARD_ID", "ShardId": "shardId-000000000003"}
    session.call("ListShards", "valid: after the fourth shard", StreamName=stream, ShardFilter=after)
    read_all(session, stream)
    deleted(session, stream)


@fast
def update_shard_count(session):
    """Double, the same, half: the open shards are equal parts, and the records of all shards are still there."""
    stream = created(session, "a", 2)
    for number in range(10):
        key = str(number * (HASH_KEYS // 10))
        session.call("PutRecord", StreamName=stream, Data=b"x", PartitionKey="k", ExplicitHashKey=key)
    for count in (4, 2, 3):
        session.step()
        request = {"TargetShardCount": count, "ScalingType": "UNIFORM_SCALING"}
        session.call("UpdateShardCount", f"valid: to {count}", StreamName=stream, **request)
        session.wait(stream)
        latest = {"Type": "AT_LATEST"}
        session.call("ListShards", f"valid: AT_LATEST after an update to {count}", StreamName=stream, ShardFilter=latest)
        session.call("DescribeStreamSummary", f"valid: after an update to {count}", StreamName=stream)
    session.step()
    for case, count in (("to as many", 3), ("to less than half", 1), ("to more than double", 7)):
        request = {"TargetShardCount": count, "ScalingType": "UNIFORM_SCALING"}
        session.call("UpdateShardCount", case, StreamName=stream, **request)
        session.wait(stream)
    read_all(session, stream)
    if session.target.name != "moto":
        # It would compute for ever.
        request = {"TargetShardCount": 0, "ScalingType": "UNIFORM_SCALING"}
        session.call("UpdateShardCount", "to none", StreamName=stream, **request)
    deleted(session, stream)


# -- positions


@fast
def iterators(session):
    """Every kind, at every place of a shard."""
    stream = created(session, "a", 2)
    first, second = session.open(stream)
    put(session, stream, first, b"1", b"2", b"3")
    put(session, stream, second, b"4")
    shard = first["ShardId"]
    numbers = [record["SequenceNumber"] for record in session.read(stream, shard)]
    arrivals = [record["ApproximateArrivalTimestamp"] for record in session.read(stream, shard)]
    for place, number in enumerate(numbers):
        for kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
            start = {"ShardIteratorType": kind, "StartingSequenceNumber": number}
            session.read(stream, shard, f"valid: {kind} of record {place}", **start)
    start = {"ShardIteratorType": "AT_SEQUENCE_NUMBER"} | {
        "StartingSequenceNumber": first["SequenceNumberRange"]["StartingSequenceNumber"]
    }
    session.read(stream, shard, "valid: AT_SEQUENCE_NUMBER of the shard's start", **start)
    session.read(stream, shard, "valid: LATEST", ShardIteratorType="LATEST")
    for case, moment in (("valid: AT_TIMESTAMP of the first", arrivals[0]), ("valid: AT_TIMESTAMP of 1970", 1)):
        session.read(stream, shard, case, ShardIteratorType="AT_TIMESTAMP", Timestamp=moment)
    other = {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": numbers[0]}
    session.read(stream, second["ShardId"], "AT_SEQUENCE_NUMBER of another shard's record", **other)
    iterator = session.iterator(stream, shard)
    for case in ("valid: one at a time", "valid: the same iterator again"):
        session.call("GetRecords", case, stream, ShardIterator=iterator, Limit=1)
    page = session.call("GetRecords", "valid: two of three", stream, ShardIterator=iterator, Limit=2)
    session.call("GetRecords", "valid: the third", stream, ShardIterator=page["NextShardIterator"], Limit=2)
    number = numbers[0]
    ordering = {"SequenceNumberForOrdering": number, "ExplicitHashKey": first["HashKeyRange"]["StartingHashKey"]}
    request = {"StreamName": stream, "Data": b"5", "PartitionKey": "k"} | ordering
    session.call("PutRecord", "valid: after a sequence number", **request)
    deleted(session, stream)
    session.call("GetRecords", "of a stream that is gone", ShardIterator=iterator)


@fast
def sizes(session):
    """The most and the largest, and one more. Only here: some peers take long for it."""
    entry = {"Data": b"x", "PartitionKey": "k"}
    large, too_large = entry | {"Data": bytes(MIB - 1)}, entry | {"Data": bytes(MIB + 1)}
    for number, (case, records) in enumerate((
        ("valid: 500 records", [entry] * 500),
        ("501 records", [entry] * 501),
        ("one of more than 1 MiB", [entry, too_large]),
        ("more than 10 MiB together", [large] * 11),
    )):
        session.step()
        stream = created(session, f"many{number}", 1)
        session.call("PutRecords", case, StreamName=stream, Records=records)
    session.step()
    stream = created(session, "one", 1)
    session.call("PutRecord", "valid: 1 MiB with its key", StreamName=stream, **large)
    session.call("PutRecord", "more than 1 MiB", StreamName=stream, **too_large)


@fast
def longest_keys(session):
    """256 characters, of which some take more than a byte."""
    stream = created(session, "a", 1)
    for case, key in (("valid: partition key of 256 letters", "k" * 256), ("valid: partition key of 256 é", "é" * 256)):
        session.step()
        session.call("PutRecord", case, StreamName=stream, Data=b"x", PartitionKey=key)
        records = [{"Data": b"x", "PartitionKey": key}]
        session.call("PutRecords", case, StreamName=stream, Records=records)
    read_all(session, stream)
    deleted(session, stream)


# -- streams


@fast
def life_of_a_stream(session):
    stream = session.name("a")
    gone = {"StreamName": stream}
    for operation in ("DescribeStream", "DescribeStreamSummary", "ListShards", "ListTagsForStream", "DeleteStream"):
        session.call(operation, "before it exists", **gone)
    created(session, "a", 3)
    session.call("CreateStream", "twice", StreamName=stream, ShardCount=3)
    session.call("DescribeStream", **gone)
    session.call("ListShards", **gone)
    session.call("ListStreams")
    session.call("DescribeLimits")
    deleted(session, stream)
    for operation in ("DescribeStream", "DescribeStreamSummary", "ListShards", "ListTagsForStream", "DeleteStream"):
        session.call(operation, "after it is gone", **gone)
    again = created(session, "a", 1)
    session.call("ListShards", "valid: of a stream made again", StreamName=again)
    session.read(again, "shardId-000000000000")
    deleted(session, again)


@fast
def shards_of_a_new_stream(session):
    """How the hash keys are divided."""
    for count in (1, 2, 3, 5, 7):
        session.step()
        stream = created(session, f"of{count}", count)
        session.call("ListShards", "valid: new", StreamName=stream)
        deleted(session, stream)


def mode_changes(session, stream):
    """The stream goes on demand, and back; gives each mode once it has it."""
    for mode in ("ON_DEMAND", "PROVISIONED"):
        session.step()
        details = {"StreamMode": mode}
        arn = session.arn(stream)
        session.call("UpdateStreamMode", f"valid: to {mode}", stream, StreamARN=arn, StreamModeDetails=details)
        session.wait(stream)
        yield mode


@fast
def on_demand(session):
    stream = session.name("a")
    session.call("CreateStream", "valid: on demand", StreamName=stream, StreamModeDetails={"StreamMode": "ON_DEMAND"})
    session.wait(stream)
    session.call("DescribeStreamSummary", "valid: on demand", StreamName=stream)
    session.call("ListShards", "valid: on demand", StreamName=stream)
    count = {"TargetShardCount": 8, "ScalingType": "UNIFORM_SCALING"}
    session.call("UpdateShardCount", "on demand", StreamName=stream, **count)
    session.wait(stream)
    for mode in mode_changes(session, stream):
        session.call("DescribeStreamSummary", f"valid: after a change to {mode}", StreamName=stream)
    deleted(session, stream)


@fast
def modes(session):
    """A provisioned stream becomes one on demand, and provisioned again."""
    stream = created(session, "a", 1)
    for _mode in mode_changes(session, stream):
        pass
    deleted(session, stream)


@fast
def pages(session):
    """More streams and shards than a page takes."""
    streams = [created(session, letter, 2) for letter in "abc"]
    session.step()
    session.call("ListStreams", "valid: two of three", Limit=2)
    session.call("ListStreams", "valid: the third", Limit=2, ExclusiveStartStreamName=streams[1])
    first = session.call("ListStreams", "valid: one", Limit=1)
    if "NextToken" in first:
        session.call("ListStreams", "valid: by a token", Limit=1, NextToken=first["NextToken"])
    session.step()
    session.call("ListStreams", "garbage for a token", NextToken="garbage")
    page = session.call("ListShards", "valid: one of two", StreamName=streams[0], MaxResults=1)
    session.call("ListShards", "valid: the last page", NextToken=page.get("NextToken"))
    for stream in streams:
        deleted(session, stream)


@fast
def tags_to_the_limit(session):
    stream = created(session, "a", 1, Tags={"first": "1"})
    for start in range(0, 49, 7):
        tags = {f"key{number:02}": "v" for number in range(start, start + 7)}
        session.call("AddTagsToStream", StreamName=stream, Tags=tags)
    session.call("ListTagsForStream", "valid: 50 tags", StreamName=stream)
    session.call("AddTagsToStream", "the 51st tag", StreamName=stream, Tags={"one more": "v"})
    session.step()
    session.call("ListTagsForStream", "valid: ten of many", StreamName=stream, Limit=10)
    session.call("ListTagsForResource", "valid: all of many", stream, ResourceARN=session.arn(stream))
    deleted(session, stream)


@fast
def retention_to_the_same(session):
    stream = created(session, "a", 1)
    for operation in ("IncreaseStreamRetentionPeriod", "DecreaseStreamRetentionPeriod"):
        session.step()
        session.call(operation, "to the same", StreamName=stream, RetentionPeriodHours=24)
        session.wait(stream)
    session.call("IncreaseStreamRetentionPeriod", "valid: to a year", StreamName=stream, RetentionPeriodHours=8760)
    session.wait(stream)
    session.call("DescribeStreamSummary", "valid: kept for a year", StreamName=stream)
    deleted(session, stream)


@fast
def larger_records(session):
    stream = created(session, "a", 1)
    arn = session.arn(stream)
    session.call("UpdateMaxRecordSize", "valid: 2 MiB", stream, StreamARN=arn, MaxRecordSizeInKiB=2048)
    session.wait(stream)
    session.call("DescribeStreamSummary", "valid: with larger records", StreamName=stream)
    record = {"StreamName": stream, "PartitionKey": "k"}
    session.call("PutRecord", "valid: 1.5 MiB where 2 MiB are allowed", Data=bytes(3 * 2**19), **record)
    session.call("PutRecord", "2 MiB and the key where 2 MiB are allowed", Data=bytes(2**21), **record)
    deleted(session, stream)


# -- consumers


@fast
def consumers(session):
    stream = created(session, "a", 1)
    arn = session.arn(stream)
    for number in range(CONSUMERS_MAX):
        name = f"reader{number:02}"
        session.call("RegisterStreamConsumer", stream=stream, StreamARN=arn, ConsumerName=name)
        session.wait_for_consumer(stream, name)
    session.call("RegisterStreamConsumer", "the 21st", stream, StreamARN=arn, ConsumerName="one-more")
    session.step()
    session.call("ListStreamConsumers", "valid: all of 20", stream, StreamARN=arn)
    page = session.call("ListStreamConsumers", "valid: 15 of 20", stream, StreamARN=arn, MaxResults=15)
    token = page.get("NextToken", "no token")
    session.call("ListStreamConsumers", "valid: the rest", stream, StreamARN=arn, MaxResults=15, NextToken=token)
    session.call("DeleteStream", "with consumers", StreamName=stream)
    session.step()
    session.call("DescribeStreamSummary", "valid: with consumers", StreamName=stream)
    session.call("DeregisterStreamConsumer", "valid", stream, StreamARN=arn, ConsumerName="reader00")
    session.wait_until_consumer_is_gone(stream, "reader00")
    session.call("DescribeStreamConsumer", "after it is gone", stream, StreamARN=arn, ConsumerName="reader00")
    session.call("DeleteStream", "valid: and its consumers", StreamName=stream, EnforceConsumerDeletion=True)
    session.wait_until_gone(stream)


@fast
def subscription(session):
    """The first event of a subscription."""
    stream = created(session, "a", 1)
    [shard] = session.open(stream)
    put(session, stream, shard, b"1", b"2")
    arn = session.arn(stream)
    session.call("RegisterStreamConsumer", stream=stream, StreamARN=arn, ConsumerName="reader")
    session.wait_for_consumer(stream, "reader")
    consumer = session.consumer_arn(stream, "reader")
    session.subscribe("valid", stream, consumer, shard["ShardId"], Type="TRIM_HORIZON")
    for case, wrong in (
        ("unknown consumer", {"consumer": consumer.replace("reader", "nobody")}),
        ("text for an ARN", {"consumer": "not-an-arn"}),
        ("unknown shard", {"shard": "shardId-000000000999"}),
    ):
        request = {"consumer": consumer, "shard": shard["ShardId"]} | wrong
        session.subscribe(case, stream, request["consumer"], request["shard"], Type="TRIM_HORIZON")
    session.subscribe("no type", stream, consumer, shard["ShardId"])
    session.subscribe("AT_SEQUENCE_NUMBER without one", stream, consumer, shard["ShardId"], Type="AT_SEQUENCE_NUMBER")
    session.call("DeleteStream", "valid: and its consumers", StreamName=stream, EnforceConsumerDeletion=True)
    session.wait_until_gone(stream)


# -- requests that no SDK sends


@fast
def malformed(session):
    for operation in EMULATED:
        session.raw(operation, "half a JSON object", b'{"StreamName": ')
        session.raw(operation, "a JSON array", [])
    session.step()
    stream = created(session, "a", 1)
    for operation in EMULATED:
        session.raw(operation, "a number for a name", {"StreamName": 5, "StreamARN": 5, "ResourceARN": 5, "ConsumerARN": 5})
    session.raw("NoSuchOperation", "unknown operation", {})
    session.raw("ListStreams", "no target", {}, headers={"X-Amz-Target": None})
    session.raw("ListStreams", "target of another service", {}, headers={"X-Amz-Target": "DynamoDB_20120810.ListTables"})
    session.raw("ListStreams", "not signed", {}, headers={"Authorization": None})
    session.raw("ListStreams", "half a signature", {}, headers={"Authorization": "AWS4-HMAC-SHA256 Credential=test"})
    session.raw("ListStreams", "XML by its type", {}, headers={"Content-Type": "application/xml"})
    record = {"StreamName": stream, "PartitionKey": "k"}
    session.raw("PutRecord", "data that are not base64", record | {"Data": "%%%"}, stream)
    session.raw("PutRecord", "a number for data", record | {"Data": 5}, stream)
    session.raw("PutRecord", "valid: members that nobody knows", record | {"Data": "eA==", "Unknown": 1}, stream)
    session.raw("ListStreams", "text for a limit", {"Limit": "ten"})
    session.raw("ListStreams", "a fraction for a limit", {"Limit": 1.5})
    session.raw("PutRecords", "an object for records", {"StreamName": stream, "Records": {}}, stream)
    deleted(session, stream)


@fast
def not_emulated(session):
    stream = created(session, "a", 1)
    for operation, request in NOT_EMULATED.items():
        session.step()
        session.call(operation, "valid", stream, **request(session, stream))
        session.wait(stream)
    session.step()
    session.call("DeleteStream", "valid", StreamName=stream)
    session.wait_until_gone(stream)


# -- while a change is under way


@slow
def while_it_is_created(session):
    stream = session.name("a")
    session.call("CreateStream", StreamName=stream, ShardCount=2)
    state = {"StreamName": stream}
    for operation in ("DescribeStream", "DescribeStreamSummary", "ListShards", "ListTagsForStream"):
        session.call(operation, "CREATING", **state)
    session.call("CreateStream", "CREATING", ShardCount=2, **state)
    session.call("PutRecord", "CREATING", Data=b"x", PartitionKey="k", **state)
    session.call("PutRecords", "CREATING", Records=[{"Data": b"x", "PartitionKey": "k"}], **state)
    at = {"ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON"}
    session.call("GetShardIterator", "CREATING", **state, **at)
    session.call("SplitShard", "CREATING", ShardToSplit=at["ShardId"], NewStartingHashKey="5", **state)
    pair = {"ShardToMerge": at["ShardId"], "AdjacentShardToMerge": "shardId-000000000001"}
    session.call("MergeShards", "CREATING", **pair, **state)
    session.call("UpdateShardCount", "CREATING", TargetShardCount=4, ScalingType="UNIFORM_SCALING", **state)
    session.call("IncreaseStreamRetentionPeriod", "CREATING", RetentionPeriodHours=48, **state)
    session.call("AddTagsToStream", "CREATING", Tags={"k": "v"}, **state)
    arn = session.arn(stream)
    session.call("RegisterStreamConsumer", "CREATING", stream, StreamARN=arn, ConsumerName="reader")


@slow
def while_it_is_updated(session):
    stream = created(session, "a", 3)
    first, second, third = session.open(stream)
    put(session, stream, third, b"1")
    arn = session.arn(stream)
    session.call("SplitShard", StreamName=stream, ShardToSplit=first["ShardId"], NewStartingHashKey=middle(first))
    state = {"StreamName": stream}
    for operation in ("DescribeStreamSummary", "ListTagsForStream"):
        session.call(operation, "UPDATING", **state)
    put(session, stream, third, b"2")
    session.read(stream, third["ShardId"], "UPDATING")
    split = {"ShardToSplit": third["ShardId"], "NewStartingHashKey": middle(third)}
    session.call("SplitShard", "UPDATING", **split, **state)
    pair = {"ShardToMerge": second["ShardId"], "AdjacentShardToMerge": third["ShardId"]}
    session.call("MergeShards", "UPDATING", **pair, **state)
    session.call("UpdateShardCount", "UPDATING", TargetShardCount=4, ScalingType="UNIFORM_SCALING", **state)
    session.call("IncreaseStreamRetentionPeriod", "UPDATING", RetentionPeriodHours=48, **state)
    details = {"StreamMode": "ON_DEMAND"}
    session.call("UpdateStreamMode", "UPDATING", stream, StreamARN=arn, StreamModeDetails=details)
    session.call("AddTagsToStream", "UPDATING", Tags={"k": "v"}, **state)
    session.call("DeleteStream", "UPDATING", **state)


@slow
def while_it_is_deleted(session):
    stream = created(session, "a", 1)
    [shard] = session.open(stream)
    iterator = session.iterator(stream, shard["ShardId"])
    arn = session.arn(stream)
    session.call("DeleteStream", StreamName=stream)
    state = {"StreamName": stream}
    for operation in ("DescribeStream", "DescribeStreamSummary", "ListShards", "DeleteStream"):
        session.call(operation, "DELETING", **state)
    session.call("CreateStream", "DELETING", ShardCount=1, **state)
    session.call("PutRecord", "DELETING", Data=b"x", PartitionKey="k", **state)
    session.call("GetRecords", "DELETING", stream, ShardIterator=iterator)
    session.call("SplitShard", "DELETING", ShardToSplit=shard["ShardId"], NewStartingHashKey=middle(shard), **state)
    session.call("RegisterStreamConsumer", "DELETING", stream, StreamARN=arn, ConsumerName="reader")


@slow
def while_a_consumer_is_registered(session):
    stream = created(session, "a", 1)
    arn = session.arn(stream)
    names = [f"reader{number}" for number in range(6)]
    for name in names[:5]:
        session.call("RegisterStreamConsumer", stream=stream, StreamARN=arn, ConsumerName=name)
    session.call("RegisterStreamConsumer", "a sixth CREATING", stream, StreamARN=arn, ConsumerName=names[5])
    consumer = {"StreamARN": arn, "ConsumerName": names[0]}
    session.call("DescribeStreamConsumer", "CREATING", stream, **consumer)
    session.call("RegisterStreamConsumer", "CREATING", stream, **consumer)
    session.call("DeregisterStreamConsumer", "CREATING", stream, **consumer)


@expiring
def expired(session):
    """An iterator after its five minutes, where these can be made to pass."""
    stream = created(session, "a", 1)
    [shard] = session.open(stream)
    iterator = session.iterator(stream, shard["ShardId"])
    session.let_minutes_pass()
    session.call("GetRecords", "expired", stream, ShardIterator=iterator)
