"""What `kinesink local` has to answer, worked out from the calls alone: a second opinion that shares no code with it.

It follows the calls that one script makes of one target, knows the streams, shards, records and consumers that these
leave behind, and says what members of an answer must be. DIFFERENCES.md says `model` where that is what counts.
"""

import bisect
import dataclasses
import hashlib
import time

HASH_KEYS = 2**128
ON_DEMAND_SHARDS = 4
SHARDS_MAX, ON_DEMAND_STREAMS_MAX = 20_000, 50
DEFAULT_KIB, DEFAULT_HOURS = 1024, 24
TAGS_MAX = 50
# How many a page has, also where more are asked for.
PAGES = {"ListShards": 1000, "DescribeStream": 100, "ListStreams": 100, "ListStreamConsumers": 100}
# Stands for whatever the target makes up.
ANY = object()


@dataclasses.dataclass
class Shard:
    number: int
    start: int
    end: int
    parent: str | None = None
    adjacent: str | None = None
    children: list = dataclasses.field(default_factory=list)
    records: list = dataclasses.field(default_factory=list)

    @property
    def id(self):
        return f"shardId-{self.number:012}"

    @property
    def is_open(self):
        return not self.children

    def range(self):
        return {"StartingHashKey": str(self.start), "EndingHashKey": str(self.end)}

    def described(self):
        numbers = {"StartingSequenceNumber": ANY, "EndingSequenceNumber": None if self.is_open else ANY}
        parents = {"ParentShardId": self.parent, "AdjacentParentShardId": self.adjacent}
        return {"ShardId": self.id, "HashKeyRange": self.range(), "SequenceNumberRange": numbers} | parents

    def as_child(self):
        parents = [parent for parent in (self.parent, self.adjacent) if parent]
        return {"ShardId": self.id, "ParentShards": parents, "HashKeyRange": self.range()}


@dataclasses.dataclass
class Stream:
    name: str
    mode: str
    shards: list
    status: str = "CREATING"
    kib: int = DEFAULT_KIB
    hours: int = DEFAULT_HOURS
    consumers: dict = dataclasses.field(default_factory=dict)
    tags: dict = dataclasses.field(default_factory=dict)
    # What is done once the change that is under way is complete.
    change: object = None

    def open(self):
        return sorted((shard for shard in self.shards if shard.is_open), key=lambda shard: shard.start)

    def shard(self, shard_id):
        return self.shards[int(shard_id.removeprefix("shardId-"))]

    def owner(self, key):
        ranges = self.open()
        return ranges[bisect.bisect_right([shard.start for shard in ranges], key) - 1]

    def add(self, start, end, parent, adjacent=None):
        child = Shard(len(self.shards), start, end, parent.id, adjacent.id if adjacent else None)
        self.shards.append(child)
        for each in (parent, adjacent):
            if each:
                each.children.append(child.id)

    def split(self, parent, key):
        start, end = parent.start, parent.end
        self.add(start, key - 1, parent)
        self.add(key, end, parent)

    def merge(self, parent, adjacent):
        self.add(min(parent.start, adjacent.start), max(parent.end, adjacent.end), parent, adjacent)

    def scale(self, count):
        """To even shards: a split wherever one of these begins, then a merge wherever none of these does."""
        wanted = starts(count)
        for key in wanted:
            if self.owner(key).start != key:
                self.split(self.owner(key), key)
        for shard in self.open():
            if shard.start not in wanted:
                self.merge(self.owner(shard.start - 1), self.owner(shard.start))


def starts(count):
    """Where even shards begin; the last one has what does not divide."""
    return [place * (HASH_KEYS // count) for place in range(count)]


def even(count):
    ends = [start - 1 for start in starts(count)[1:]] + [HASH_KEYS - 1]
    return [Shard(number, start, end) for number, (start, end) in enumerate(zip(starts(count), ends))]


def hash_key(record):
    explicit = record.get("ExplicitHashKey")
    if explicit is not None:
        return int(explicit)
    return int.from_bytes(hashlib.md5(record["PartitionKey"].encode()).digest(), "big")


def behind(body):
    """The age of the last record that was read, which has grown since the answer."""
    age_ms = 1000 * (time.time() - body["Records"][-1]["ApproximateArrivalTimestamp"].timestamp())
    given_ms = body["MillisBehindLatest"]
    return given_ms if 0 <= given_ms <= age_ms + 1 else f"from 0 to {age_ms:.0f}"


class Model:
    """Follows a target whose streams are this script's alone. `arn` makes an ARN of a stream's name."""

    def __init__(self, arn):
        self.arn = arn
        self.streams = {}
        # Of each iterator, the place it stands for; of each token, what is still to be listed.
        self.places, self.rest = {}, {}

    def settle(self, name):
        """The change of the stream is complete."""
        stream = self.streams.get(name)
        if stream is None:
            return
        if stream.status == "DELETING":
            del self.streams[name]
        elif stream.change:
            stream.change()
        stream.status, stream.change = "ACTIVE", None

    def settle_consumer(self, name, consumer):
        """The consumer is registered, or gone."""
        consumers = self.streams[name].consumers
        if consumers.get(consumer) == "DELETING":
            del consumers[consumer]
        elif consumer in consumers:
            consumers[consumer] = "ACTIVE"

    def stream(self, request):
        arn = request.get("StreamARN") or request.get("ResourceARN", "")
        name = request.get("StreamName") or arn.rsplit("stream/")[-1]
        return self.streams.get(name)

    def answered(self, operation, request, body):
        """Takes note of a call that succeeded. What its answer must have: members and their values, perhaps not all."""
        method = getattr(self, operation, None)
        return method(request, body) if method else {}

    # -- streams

    def CreateStream(self, request, body):
        mode = request.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED")
        shards = even(request.get("ShardCount", ON_DEMAND_SHARDS))
        kib = request.get("MaxRecordSizeInKiB", DEFAULT_KIB)
        tags = dict(request.get("Tags", {}))
        self.streams[request["StreamName"]] = Stream(request["StreamName"], mode, shards, kib=kib, tags=tags)
        return {}

    def DeleteStream(self, request, body):
        stream = self.stream(request)
        stream.status, stream.change = "DELETING", None
        return {}

    def begin(self, request, change):
        stream = self.stream(request)
        stream.status, stream.change = "UPDATING", change
        return {}

    def SplitShard(self, request, body):
        stream = self.stream(request)
        parent, key = stream.shard(request["ShardToSplit"]), int(request["NewStartingHashKey"])
        return self.begin(request, lambda: stream.split(parent, key))

    def MergeShards(self, request, body):
        stream = self.stream(request)
        pair = stream.shard(request["ShardToMerge"]), stream.shard(request["AdjacentShardToMerge"])
        return self.begin(request, lambda: stream.merge(*pair))

    def UpdateShardCount(self, request, body):
        stream, count = self.stream(request), request["TargetShardCount"]
        before = len(stream.open())
        if count != before:
            self.begin(request, lambda: stream.scale(count))
        counts = {"CurrentShardCount": before, "TargetShardCount": count}
        return {"StreamName": stream.name, "StreamARN": self.arn(stream.name)} | counts

    def UpdateStreamMode(self, request, body):
        stream, mode = self.stream(request), request["StreamModeDetails"]["StreamMode"]
        if mode != stream.mode:
            stream.mode = ANY
            self.begin(request, lambda: setattr(stream, "mode", mode))
        return {}

    def UpdateMaxRecordSize(self, request, body):
        self.stream(request).kib = request["MaxRecordSizeInKiB"]
        return {}

    def set_hours(self, request, body):
        self.stream(request).hours = request["RetentionPeriodHours"]
        return {}

    IncreaseStreamRetentionPeriod = DecreaseStreamRetentionPeriod = set_hours

    def described(self, stream):
        return {
            "StreamName": stream.name,
            "StreamARN": self.arn(stream.name),
            "RetentionPeriodHours": stream.hours,
            "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
            "EncryptionType": "NONE",
            "StreamModeDetails": {"StreamMode": stream.mode},
        } | self.changed(stream, StreamStatus=stream.status)

    @staticmethod
    def changed(stream, **members):
        """What a change that is under way may have done by now, or not: nothing is known of it until then."""
        return {} if stream.status in ("CREATING", "UPDATING") else members

    def DescribeStream(self, request, body):
        stream = self.stream(request)
        shards, rest = self.page(stream.shards, request, "Limit", "DescribeStream")
        shards = self.changed(stream, Shards=[shard.described() for shard in shards], HasMoreShards=bool(rest))
        return {"StreamDescription": self.described(stream) | shards}

    def DescribeStreamSummary(self, request, body):
        stream = self.stream(request)
        strategy = "USER_PARTITION_KEY" if stream.mode == "ON_DEMAND" else None
        summary = self.described(stream) | {"MaxRecordSizeInKiB": stream.kib}
        summary |= self.changed(stream, OpenShardCount=len(stream.open()), RecordDistributionStrategy=strategy)
        if "DELETING" not in stream.consumers.values():
            summary |= {"ConsumerCount": len(stream.consumers)}
        return {"StreamDescriptionSummary": summary}

    def ListStreams(self, request, body):
        if any(stream.status == "DELETING" for stream in self.streams.values()):
            return {}
        after = request.get("ExclusiveStartStreamName", "")
        names = sorted(name for name in self.streams if name > after)
        names, more = self.paged(names, request, body, "Limit", "ListStreams")
        summaries = [{"StreamName": name, "StreamARN": self.arn(name)} for name in names]
        return {"StreamNames": names, "StreamSummaries": summaries, "HasMoreStreams": more["NextToken"] is ANY} | more

    def DescribeLimits(self, request, body):
        limits = {"ShardLimit": SHARDS_MAX, "OnDemandStreamCountLimit": ON_DEMAND_STREAMS_MAX}
        if any(stream.status != "ACTIVE" for stream in self.streams.values()):
            return limits
        on_demand = sum(stream.mode == "ON_DEMAND" for stream in self.streams.values())
        shards = sum(len(stream.open()) for stream in self.streams.values())
        return limits | {"OpenShardCount": shards, "OnDemandStreamCount": on_demand}

    # -- shards

    def paged(self, chosen, request, body, limit, operation):
        """A page, and whether there is a token for the next."""
        chosen = self.rest.get(request.get("NextToken"), chosen)
        size = min(request.get(limit, PAGES[operation]), PAGES[operation])
        rest = chosen[size:]
        if rest:
            self.rest[body.get("NextToken")] = rest
        return chosen[:size], {"NextToken": ANY if rest else None}

    def page(self, shards, request, limit, operation):
        shards = [shard for shard in shards if shard.id > request.get("ExclusiveStartShardId", "")]
        size = min(request.get(limit, PAGES[operation]), PAGES[operation])
        return shards[:size], shards[size:]

    def ListShards(self, request, body):
        stream, chosen = self.stream(request), []
        if stream:
            chosen = self.filtered(stream, request.get("ShardFilter", {"Type": "FROM_TRIM_HORIZON"}))
            chosen = [shard for shard in chosen if shard.id > request.get("ExclusiveStartShardId", "")]
        shards, more = self.paged(chosen, request, body, "MaxResults", "ListShards")
        answer = {"Shards": [shard.described() for shard in shards]} | more
        return self.changed(stream, **answer) if stream else answer

    def filtered(self, stream, shard_filter):
        """No shard is older than the retention, and the scripts' times are those of the call."""
        match shard_filter["Type"]:
            case "AT_LATEST" | "AT_TIMESTAMP" | "FROM_TIMESTAMP":
                return [shard for shard in stream.shards if shard.is_open]
            case "AT_TRIM_HORIZON":
                return [shard for shard in stream.shards if not shard.parent]
            case "AFTER_SHARD_ID":
                return [shard for shard in stream.shards if shard.id > shard_filter["ShardId"]]
        return stream.shards

    # -- records

    def put(self, stream, record, answer):
        shard = stream.owner(hash_key(record))
        number = answer.get("SequenceNumber", "0")
        grows = not shard.records or int(number) > int(shard.records[-1]["SequenceNumber"])
        record = {name: record[name] for name in ("Data", "PartitionKey")}
        shard.records.append(record | {"SequenceNumber": number})
        return {"ShardId": shard.id, "SequenceNumber": number if grows else "a number above the last one's"}

    def PutRecord(self, request, body):
        return self.put(self.stream(request), request, body) | {"EncryptionType": "NONE"}

    def PutRecords(self, request, body):
        stream = self.stream(request)
        answers = [self.put(stream, *pair) for pair in zip(request["Records"], body["Records"])]
        return {"FailedRecordCount": 0, "Records": answers, "EncryptionType": "NONE"}

    def GetShardIterator(self, request, body):
        stream = self.stream(request)
        shard = stream.shard(request["ShardId"])
        numbers = [record["SequenceNumber"] for record in shard.records]
        number = request.get("StartingSequenceNumber")
        # A time in the scripts is before the first record, or its own.
        place = numbers.index(number) if number in numbers else 0
        match request["ShardIteratorType"]:
            case "LATEST":
                place = len(numbers)
            case "AFTER_SEQUENCE_NUMBER":
                place += 1
        self.places[body["ShardIterator"]] = (stream, shard, place)
        return {}

    def GetRecords(self, request, body):
        stream, shard, place = self.places[request["ShardIterator"]]
        records = shard.records[place : place + request.get("Limit", 10_000)]
        place += len(records)
        is_all = place == len(shard.records)
        answer = {"Records": records, "MillisBehindLatest": 0 if is_all else behind(body)}
        self.places[body.get("NextShardIterator")] = (stream, shard, place)
        children = [stream.shard(child).as_child() for child in shard.children] if is_all else []
        more = {"NextShardIterator": None if children else ANY, "ChildShards": children or None}
        return answer | self.changed(stream, **more)

    # -- tags

    def add_tags(self, request, body):
        self.stream(request).tags.update(request["Tags"])
        return {}

    AddTagsToStream = TagResource = add_tags

    def remove_tags(self, request, body):
        for key in request["TagKeys"]:
            self.stream(request).tags.pop(key, None)
        return {}

    RemoveTagsFromStream = UntagResource = remove_tags

    def ListTagsForStream(self, request, body):
        tags = self.stream(request).tags
        keys = [key for key in sorted(tags) if key > request.get("ExclusiveStartTagKey", "")]
        limit = request.get("Limit", TAGS_MAX)
        listed = [{"Key": key, "Value": tags[key]} for key in keys[:limit]]
        return {"Tags": listed, "HasMoreTags": len(keys) > limit}

    def ListTagsForResource(self, request, body):
        return {"Tags": [{"Key": key, "Value": value} for key, value in sorted(self.stream(request).tags.items())]}

    # -- consumers

    def RegisterStreamConsumer(self, request, body):
        stream, name = self.stream(request), request["ConsumerName"]
        stream.consumers[name] = "CREATING"
        return {"Consumer": self.consumer(stream, name, body["Consumer"]) | {"ConsumerStatus": "CREATING"}}

    def consumer(self, stream, name, described):
        arn = f"{self.arn(stream.name)}/consumer/{name}:{int(described['ConsumerCreationTimestamp'].timestamp())}"
        return {"ConsumerName": name, "ConsumerARN": arn}

    def DescribeStreamConsumer(self, request, body):
        stream, name = self.named(request)
        described = body["ConsumerDescription"]
        expected = self.consumer(stream, name, described) | {"StreamARN": self.arn(stream.name)}
        status = stream.consumers[name]
        return {"ConsumerDescription": expected | ({"ConsumerStatus": status} if status == "ACTIVE" else {})}

    def named(self, request):
        arn = request.get("ConsumerARN") or f"{request['StreamARN']}/consumer/{request['ConsumerName']}:"
        stream, consumer = arn.split(":stream/")[1].split("/consumer/")
        return self.streams[stream], consumer.split(":")[0]

    def DeregisterStreamConsumer(self, request, body):
        stream, name = self.named(request)
        stream.consumers[name] = "DELETING"
        return {}

    def ListStreamConsumers(self, request, body):
        stream = self.stream(request)
        if "DELETING" in stream.consumers.values():
            return {}
        names, more = self.paged(sorted(stream.consumers), request, body, "MaxResults", "ListStreamConsumers")
        pairs = zip(names, body["Consumers"])
        return {"Consumers": [self.consumer(stream, *pair) for pair in pairs] + names[len(body["Consumers"]) :]} | more


def wrong(expected, actual, path=""):
    """Where the answer is not what was expected. None stands for a member that is not there, or is empty."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            inner = f"{path}.{name}" if path else name
            yield from wrong(value, actual.get(name) if isinstance(actual, dict) else None, inner)
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for a, b in zip(expected, actual):
            yield from wrong(a, b, f"{path}[]")
    elif expected is ANY and actual:
        pass
    elif expected != actual and not (expected is None and not actual):
        yield f"{path} is {str(actual)[:70]} and not {str(expected)[:70]}"


def knows(expected, path):
    """Whether the model has said what that member is."""
    first, _, rest = path.partition(".")
    name, is_items = first.removesuffix("[]"), first.endswith("[]")
    if not isinstance(expected, dict) or name not in expected:
        return False
    inner = expected[name]
    if is_items and isinstance(inner, list):
        return any(not rest or knows(item, rest) for item in inner)
    return not rest or knows(inner, rest)
