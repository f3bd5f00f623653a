"""What tables have to hold, by a replay of a stream's records in their order. Knows nothing of how kinesink writes."""

import json
from decimal import Decimal

from boto3.dynamodb.types import TypeDeserializer

MARK, PLACE, EXPIRES = "_deleted", "_position", "expires"


def read_stream(kinesis, name):
    """All records, parents before children, each shard's in order: (sequence number, record)."""
    shards = {shard["ShardId"]: shard for shard in kinesis.list_shards(StreamName=name)["Shards"]}
    records, read = [], set()
    while len(read) < len(shards):
        parents = lambda shard: {shard.get("ParentShardId"), shard.get("AdjacentParentShardId")} & shards.keys()
        ready = [shard for id, shard in shards.items() if id not in read and parents(shard) <= read]
        for shard in ready:
            records += read_shard(kinesis, name, shard["ShardId"])
            read.add(shard["ShardId"])
    return records


def read_shard(kinesis, name, shard):
    reply = kinesis.get_shard_iterator(StreamName=name, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    iterator, records = reply["ShardIterator"], []
    while iterator:
        reply = kinesis.get_records(ShardIterator=iterator)
        for record in reply["Records"]:
            value = json.loads(record["Data"], parse_float=Decimal, parse_int=Decimal)
            records.append((int(record["SequenceNumber"]), value))
        at_tip = not reply["Records"] and reply["MillisBehindLatest"] == 0
        iterator = None if at_tip else reply.get("NextShardIterator")
    return records


def latest(records):
    """Each key's last record, unless that deletes."""
    items = {}
    for sequence, record in records:
        if record["op"] == "delete":
            items.pop(record["id"], None)
        else:
            items[record["id"]] = record | {PLACE: place(sequence)}
    return items


def counters(records):
    """Of each key since it was last deleted: what was last said, sums, and all that was logged."""
    items = {}
    for sequence, record in records:
        if record["op"] == "delete":
            items.pop(record["id"], None)
            continue
        new = {"id": record["id"], "count": Decimal(0), "sum": Decimal(0), "log": []}
        item = items.setdefault(record["id"], new)
        item["n"], item["size"], item[PLACE] = record["n"], record["size"], place(sequence)
        item["count"] += record["count"]
        item["sum"] += record["sum"]
        item["log"] = item["log"] + record["log"]
    return items


def metrics(records):
    """Of each shop and minute: how many records, and the sum, the least and the most of their numbers."""
    items = {}
    for _, record in records:
        shop, minute, number = record["shop"], record["ts"][:-3] + "00Z", record["sum"]
        new = {"shop": shop, "minute": minute, "records": 0, "total": 0, "least": number, "most": number}
        item = items.setdefault((shop, minute), new)
        item["records"] += 1
        item["total"] += number
        item["least"], item["most"] = min(item["least"], number), max(item["most"], number)
    return items


def place(sequence):
    return f"{sequence:056d}.{0:08d}.{0:010d}"


def scanned(dynamodb, table):
    """All items of a table; none if there is no table yet."""
    deserializer, items = TypeDeserializer(), []
    try:
        for page in dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
            for stored in page["Items"]:
                items.append({name: deserializer.deserialize(value) for name, value in stored.items()})
    except dynamodb.exceptions.ResourceNotFoundException:
        return []
    return items


def live(dynamodb, table):
    """The items of a table by their key, without those that are marked as deleted."""
    items = {}
    for item in scanned(dynamodb, table):
        if MARK not in item:
            items[item["id"]] = item
        else:
            assert item.keys() == {"id", MARK, PLACE, EXPIRES}, f"no mark: {item}"
    return items


def counted(dynamodb, table):
    """The items of a table by shop and minute."""
    return {(item["shop"], item["minute"]): item for item in scanned(dynamodb, table)}
