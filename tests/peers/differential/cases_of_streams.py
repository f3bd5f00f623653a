"""The cases of what is said about streams as a whole: see `cases`."""

from cases import GONE_ARN, MISSING, of_arn, of_stream, valid, wrong, wrong_stream

LONG = "n" * 129


def new_stream(session, random, stream):
    return {"StreamName": f"{stream}-new", "ShardCount": 1}


wrong(
    "CreateStream",
    new_stream,
    that_exists=lambda session, stream: {"StreamName": stream},
    no_name={"StreamName": MISSING},
    empty_name={"StreamName": ""},
    name_with_a_space={"StreamName": "a name"},
    name_of_129_characters={"StreamName": LONG},
    no_shards={"ShardCount": 0},
    fewer_shards_than_none={"ShardCount": -1},
    no_shard_count={"ShardCount": MISSING},
    more_shards_than_the_account_may_have={"ShardCount": 100_000},
    mode_that_is_none={"StreamModeDetails": {"StreamMode": "SERVERLESS"}},
    on_demand_with_a_shard_count={"StreamModeDetails": {"StreamMode": "ON_DEMAND"}},
    warm_throughput={"StreamModeDetails": {"StreamMode": "ON_DEMAND"}, "ShardCount": MISSING, "WarmThroughputMiBps": 10},
)
wrong_stream("DeleteStream", of_stream)

valid("DescribeStream")(of_stream)
valid("DescribeStream", "by ARN")(of_arn)


@valid("DescribeStream", "one shard")
def describe_one(session, random, stream):
    return {"StreamName": stream, "Limit": 1}


@valid("DescribeStream", "after the first shard")
def describe_rest(session, random, stream):
    return {"StreamName": stream, "ExclusiveStartShardId": "shardId-000000000000"}


wrong_stream("DescribeStream", of_stream)
wrong(
    "DescribeStream",
    of_stream,
    limit_of_0={"Limit": 0},
    limit_of_10001={"Limit": 10001},
    ExclusiveStartShardId_with_a_space={"ExclusiveStartShardId": "a shard"},
    ExclusiveStartShardId_of_no_shard={"ExclusiveStartShardId": "no-shard"},
)
valid("DescribeStreamSummary")(of_stream)
valid("DescribeStreamSummary", "by ARN")(of_arn)
wrong_stream("DescribeStreamSummary", of_stream)

valid("ListStreams")(lambda session, random, stream: {})
valid("ListStreams", "after the first name, one")(lambda session, random, stream: {"Limit": 1})
valid("ListStreams", "after a name")(lambda session, random, stream: {"ExclusiveStartStreamName": stream})
wrong(
    "ListStreams",
    lambda session, random, stream: {},
    limit_of_0={"Limit": 0},
    limit_of_10001={"Limit": 10001},
    ExclusiveStartStreamName_with_a_space={"ExclusiveStartStreamName": "a name"},
)
valid("DescribeLimits")(lambda session, random, stream: {})


# -- retention and mode


def retention(hours):
    return lambda session, random, stream: {"StreamName": stream, "RetentionPeriodHours": hours}


valid("IncreaseStreamRetentionPeriod", toggles=True)(retention(48))
valid("DecreaseStreamRetentionPeriod", toggles=True)(retention(24))
for operation in ("IncreaseStreamRetentionPeriod", "DecreaseStreamRetentionPeriod"):
    wrong_stream(operation, retention(24))
    wrong(
        operation,
        retention(24),
        of_23_hours={"RetentionPeriodHours": 23},
        of_8761_hours={"RetentionPeriodHours": 8761},
        no_hours={"RetentionPeriodHours": MISSING},
    )
wrong("IncreaseStreamRetentionPeriod", retention(24), to_less={"RetentionPeriodHours": 24})
wrong("DecreaseStreamRetentionPeriod", retention(24), to_more={"RetentionPeriodHours": 8760})


def mode(session, random, stream):
    return {"StreamARN": session.arn(stream), "StreamModeDetails": {"StreamMode": "ON_DEMAND"}}


wrong(
    "UpdateStreamMode",
    mode,
    no_ARN={"StreamARN": MISSING},
    ARN_of_an_unknown_stream={"StreamARN": GONE_ARN},
    text_for_an_ARN={"StreamARN": "not-an-arn"},
    no_mode={"StreamModeDetails": MISSING},
    mode_that_is_none={"StreamModeDetails": {"StreamMode": "SERVERLESS"}},
)


def size(session, random, stream):
    return {"StreamARN": session.arn(stream), "MaxRecordSizeInKiB": 1024}


wrong(
    "UpdateMaxRecordSize",
    size,
    no_ARN={"StreamARN": MISSING},
    ARN_of_an_unknown_stream={"StreamARN": GONE_ARN},
    no_size={"MaxRecordSizeInKiB": MISSING},
    of_1023_KiB={"MaxRecordSizeInKiB": 1023},
    of_10241_KiB={"MaxRecordSizeInKiB": 10241},
)


# -- tags


def tags(session, random, stream):
    return {"StreamName": stream, "Tags": {f"key{random.randrange(5)}": f"value{random.randrange(9)}", "a b": ""}}


valid("AddTagsToStream")(tags)
wrong_stream("AddTagsToStream", tags)
TOO_LONG = {
    "no_tags": {"Tags": {}},
    "tags_left_out": {"Tags": MISSING},
    "key_of_129_characters": {"Tags": {LONG: "v"}},
    "value_of_257_characters": {"Tags": {"k": "v" * 257}},
    "51_tags": {"Tags": {f"k{number}": "v" for number in range(51)}},
    "201_tags": {"Tags": {f"k{number}": "v" for number in range(201)}},
    "key_that_begins_with_aws": {"Tags": {"aws:mine": "v"}},
    "key_with_a_star": {"Tags": {"a*b": "v"}},
}
wrong("AddTagsToStream", tags, **TOO_LONG)


def tag_keys(session, random, stream):
    return {"StreamName": stream, "TagKeys": [f"key{random.randrange(5)}", "never-was"]}


valid("RemoveTagsFromStream")(tag_keys)
wrong_stream("RemoveTagsFromStream", tag_keys)
wrong(
    "RemoveTagsFromStream",
    tag_keys,
    no_keys={"TagKeys": []},
    keys_left_out={"TagKeys": MISSING},
    key_of_129_characters={"TagKeys": [LONG]},
    **{"51 keys": {"TagKeys": [f"k{number}" for number in range(51)]}},
)
valid("ListTagsForStream")(of_stream)


@valid("ListTagsForStream", "one after a key")
def tags_after(session, random, stream):
    return {"StreamName": stream, "ExclusiveStartTagKey": "a b", "Limit": 1}


wrong_stream("ListTagsForStream", of_stream)
wrong("ListTagsForStream", of_stream, limit_of_0={"Limit": 0}, limit_of_51={"Limit": 51})

NO_RESOURCE = {
    "no ARN": {"ResourceARN": MISSING},
    "ARN of an unknown stream": {"ResourceARN": GONE_ARN},
    "text for an ARN": {"ResourceARN": "not-an-arn"},
}


def resource(session, random, stream):
    return {"ResourceARN": session.arn(stream)}


@valid("TagResource")
def resource_tags(session, random, stream):
    return resource(session, random, stream) | {"Tags": tags(session, random, stream)["Tags"]}


@valid("UntagResource")
def resource_keys(session, random, stream):
    return resource(session, random, stream) | {"TagKeys": tag_keys(session, random, stream)["TagKeys"]}


valid("ListTagsForResource")(resource)
wrong("TagResource", resource_tags, **NO_RESOURCE, **TOO_LONG)
wrong("UntagResource", resource_keys, **NO_RESOURCE, no_keys={"TagKeys": []}, keys_left_out={"TagKeys": MISSING})
wrong("ListTagsForResource", resource, **NO_RESOURCE)


# -- consumers


def consumer(session, random, stream):
    return {"StreamARN": session.arn(stream), "ConsumerName": "reader"}


def consumer_arn(session, random, stream):
    body = session.ask("DescribeStreamConsumer", consumer(session, random, stream)).body
    return {"ConsumerARN": body.get("ConsumerDescription", {}).get("ConsumerARN", f"{GONE_ARN}/consumer/none:1")}


WRONG_OF_A_NEW_ONE = ("key_of_129_characters", "value_of_257_characters", "key_that_begins_with_aws", "key_with_a_star")
CONSUMER_GONE = f"{GONE_ARN}/consumer/never-was:1700000000"
wrong(
    "RegisterStreamConsumer",
    consumer,
    that_exists={},
    no_ARN={"StreamARN": MISSING},
    ARN_of_an_unknown_stream={"StreamARN": GONE_ARN},
    text_for_an_ARN={"StreamARN": "not-an-arn"},
    no_name={"ConsumerName": MISSING},
    empty_name={"ConsumerName": ""},
    name_with_a_space={"ConsumerName": "a name"},
    name_of_129_characters={"ConsumerName": LONG},
    **{name: {"ConsumerName": "tagged"} | TOO_LONG[name] for name in WRONG_OF_A_NEW_ONE},
)
valid("DescribeStreamConsumer")(consumer)
valid("DescribeStreamConsumer", "by ARN")(consumer_arn)
CONSUMER_WRONG = {
    "neither name nor ARN": {"StreamARN": MISSING, "ConsumerName": MISSING},
    "a name without its stream": {"StreamARN": MISSING},
    "a stream without a name": {"ConsumerName": MISSING},
    "unknown name": {"ConsumerName": "never-was"},
    "ARN of an unknown consumer": {"StreamARN": MISSING, "ConsumerName": MISSING, "ConsumerARN": CONSUMER_GONE},
    "text for an ARN": {"StreamARN": MISSING, "ConsumerName": MISSING, "ConsumerARN": "not-an-arn"},
}
wrong("DescribeStreamConsumer", consumer, **CONSUMER_WRONG)
wrong("DeregisterStreamConsumer", consumer, **CONSUMER_WRONG)
valid("ListStreamConsumers")(of_arn)


@valid("ListStreamConsumers", "one")
def one_consumer(session, random, stream):
    return of_arn(session, random, stream) | {"MaxResults": 1}


wrong(
    "ListStreamConsumers",
    of_arn,
    no_ARN={"StreamARN": MISSING},
    ARN_of_an_unknown_stream={"StreamARN": GONE_ARN},
    MaxResults_of_0={"MaxResults": 0},
    MaxResults_of_101={"MaxResults": 101},
    garbage_for_a_token={"NextToken": "garbage"},
)

