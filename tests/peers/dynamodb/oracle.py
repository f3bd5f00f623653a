"""What tables have to hold, by a replay of a stream's records in their order. Knows nothing of how kinesink writes."""

import json
from decimal import Decimal

from boto3.dynamodb.types import TypeDeserializer

MARK, PLACE, REFUSED, EXPIRES = "_deleted", "_position", "_refused", "expires"
BAD = "bad"
DIGITS_39 = 10**38


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


def good(records):
    """Those that a table takes."""
    return [(sequence, record) for sequence, record in records if BAD not in record]


def refused(records, sinks):
    """What the dead letters have to say, and what they may: (sink, sequence number)."""
    needed, allowed = set(), set()
    deletes = {record["id"]: sequence for sequence, record in good(records) if record["op"] == "delete"}
    for sequence, record in records:
        for sink in sinks if BAD in record else []:
            if sink == "metrics" and is_counted(record):
                continue
            allowed.add((f"sink:{sink}", sequence))
            # What only the service finds is not looked for where a later write of the item takes its place: of what counts, a delete alone.
            is_replaced = sink == "latest" or sink == "counters" and deletes.get(record["id"], -1) > sequence
            if "poison" not in record or not is_replaced:
                needed.add((f"sink:{sink}", sequence))
    return needed, allowed


def is_counted(record):
    """What is neither key nor number of a metric may be what it likes, if it can be read."""
    return record["n"] < DIGITS_39


def journal(records):
    """Every record, whatever came later."""
    items = {}
    for sequence, record in good(records):
        items[record["id"], place(sequence)] = record | {"at": place(sequence)}
    return items


def latest(records):
    """Each key's last record, unless that deletes."""
    items = {}
    for sequence, record in good(records):
        if record["op"] == "delete":
            items.pop(record["id"], None)
        else:
            items[record["id"]] = record | {PLACE: place(sequence)}
    return items


def counters(records):
    """Of each key since it was last deleted: what was last said, sums, and all that was logged."""
    items = {}
    for sequence, record in good(records):
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
    for record in (record for _, record in records if is_counted(record)):
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
        item.pop(REFUSED, None)
        if MARK not in item:
            items[item["id"]] = item
        else:
            assert item.keys() == {"id", MARK, PLACE, EXPIRES}, f"no mark: {item}"
    return items


def journaled(dynamodb, table):
    """The items of a table by key and place."""
    return {(item["id"], item["at"]): item for item in scanned(dynamodb, table)}


def counted(dynamodb, table):
    """The items of a table by shop and minute."""
    return {(item["shop"], item["minute"]): item for item in scanned(dynamodb, table)}
