"""What tables have to hold, by a replay of a stream's records in their order. Knows nothing of how kinesink writes."""

import json
from decimal import Decimal

from boto3.dynamodb.types import TypeDeserializer

MARK, PLACE, EXPIRES = "_deleted", "_position", "expires"
# What an item says of records that were refused.
NOTES = {"_refused", "_refused_to"}
# Why a record is one that some table does not take: see run.py.
BAD = "bad"
WHOLE = {"latest", "takeover", "never", "journal", "versions"}
REFUSED_BY = {
    "empty key": WHOLE - {"versions"} | {"counters"},
    "39 digits": WHOLE | {"counters", "metrics"},
    "too large": WHOLE | {"counters"},
    "poison": WHOLE | {"counters"},
    "poisoned shop": WHOLE | {"metrics"},
}
# What only the service finds, and takes once it is mended.
MENDED = {"poison", "poisoned shop"}
# The other writes of an item may take the place of one that only the service would refuse, and it is not looked for then.
REPLACING = WHOLE - {"journal"}


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


def takes(table, record):
    return table not in REFUSED_BY.get(record.get(BAD), ())


def taken(table, records):
    """Those that the table takes."""
    return [(sequence, record) for sequence, record in records if takes(table, record)]


def refused(records, tables):
    """What the dead letters have to say, and what they may: (sink, sequence number)."""
    needed, allowed = set(), set()
    deletes = last_deletes(records)
    for sequence, record in records:
        for table in [table for table in tables if not takes(table, record)]:
            allowed.add((f"sink:{table}", sequence))
            # What is mended while workers run, the next may count.
            is_mended = table == "metrics" and record[BAD] in MENDED
            # Of what counts, a delete alone takes another's place.
            is_replaced = table in REPLACING or table == "counters" and deletes.get(record["id"], -1) > sequence
            if record[BAD] not in MENDED or not is_replaced and not is_mended:
                needed.add((f"sink:{table}", sequence))
    return needed, allowed


def last_deletes(records):
    """Of each counter, the sequence number of the record that deleted it last."""
    return {record["id"]: sequence for sequence, record in taken("counters", records) if record["op"] == "delete"}


def journal(records):
    """Every record, whatever came later."""
    items = {}
    for sequence, record in records:
        items[record["id"], place(sequence)] = record | {"at": place(sequence)}
    return items


def latest(records):
    """Each key's last record, unless that deletes."""
    items = {}
    for sequence, record in records:
        if record["op"] == "delete":
            items.pop(record["id"], None)
        else:
            items[record["id"]] = record | {PLACE: place(sequence)}
    return items


def versions(records):
    """The record of each thing that has the highest version, wherever it stands, unless that deletes."""
    items = {}
    for _, record in sorted(records, key=lambda record: record[1]["version"]):
        items[record["thing"]] = record
    return {thing: record for thing, record in items.items() if record["op"] != "delete"}


def counters(records):
    """Of each key since it was last deleted: what was last said, sums, and all that was logged."""
    items = {}
    for sequence, record in records:
        if record["op"] == "delete":
            items.pop(record["id"], None)
        else:
            items[record["id"]] = counted_with(items.get(record["id"]), sequence, record)
    return items


def counted_with(item, sequence, record):
    said = {name: record[name] for name in ("n", "size", "pad", "poison") if name in record}
    return added_to(item or {"id": record["id"], "count": Decimal(0), "sum": Decimal(0), "log": []}, record) | said | {
        PLACE: place(sequence)
    }


def added_to(item, record):
    count, total, log = item["count"] + record["count"], item["sum"] + record["sum"], item["log"] + record["log"]
    return item | {"count": count, "sum": total, "log": log}


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


EXPECTED = {
    "latest": latest,
    "takeover": latest,
    "never": latest,
    "counters": counters,
    "journal": journal,
    "versions": versions,
}


def expected(table, records, letters):
    """What the table has to hold, and of metrics what is no dead letter: a record is one, or it counts."""
    if table == "metrics":
        counted = [(sequence, record) for sequence, record in records if takes(table, record) or record[BAD] in MENDED]
        return metrics([record for record in counted if ("sink:metrics", record[0]) not in letters])
    items = EXPECTED[table](taken(table, records))
    if table == "never":
        items = {key: {name: value for name, value in item.items() if name != PLACE} for key, item in items.items()}
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


KEYS = {"journal": ("id", "at"), "metrics": ("shop", "minute"), "versions": ("thing",)}
MARKS = {"versions": {"thing", MARK, "version", EXPIRES}}


def found(dynamodb, table, stored):
    """The items of a table by their key, without those that are marked as deleted; those of all of them by their key alone."""
    items, marks = {}, {}
    names = KEYS.get(table, ("id",))
    for item in scanned(dynamodb, stored):
        key = item[names[0]] if len(names) == 1 else tuple(item[name] for name in names)
        if table == "counters" and item.keys() - NOTES == {"id"}:
            continue  # No record of it counts so far.
        if MARK in item:
            noted = NOTES if table == "counters" else set()
            assert item.keys() - noted == MARKS.get(table, {"id", MARK, PLACE, EXPIRES}), f"no mark: {item}"
            marks[key] = item
        else:
            items[key] = item
    return items, marks


def live(items):
    """As they are for readers."""
    return {key: {name: value for name, value in item.items() if name not in NOTES} for key, item in items.items()}
