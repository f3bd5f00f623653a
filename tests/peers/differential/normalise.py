"""Answers of different services, in the same words: whatever each makes up for itself becomes a symbol."""

import datetime
import re

TOKENS = {"ShardIterator": "<iterator>", "NextShardIterator": "<iterator>", "NextToken": "<token>", "ContinuationSequenceNumber": "<continuation>", "StreamId": "<id>"}
SEQUENCE_NUMBERS = {"StartingSequenceNumber", "EndingSequenceNumber"}
# Their order is not promised.
SORTED_BY = {"Tags": "Key", "Consumers": "ConsumerName", "ChildShards": "ShardId", "ParentShards": None}


class Normaliser:
    """Knows a record's sequence number again: `#1` is the first that the target named for a shard."""

    def __init__(self, script):
        # Streams are named after the script.
        self.prefix = f"{script}-"
        self.records = {}

    def body(self, value, stream, shard=None):
        return self.value(value, None, (stream, shard))

    def value(self, value, member, place):
        if isinstance(value, dict):
            place = (place[0], value.get("ShardId", place[1]))
            return {name: self.value(inner, name, place) for name, inner in value.items()}
        if isinstance(value, list):
            values = [self.value(inner, member, place) for inner in value]
            if member not in SORTED_BY:
                return values
            key = SORTED_BY[member]
            return sorted(values, key=lambda value: str(value.get(key) if key else value))
        if member in TOKENS and value:
            return TOKENS[member]
        if member == "SequenceNumber":
            known = self.records.setdefault(place, {})
            return known.setdefault(value, f"#{len(known) + 1}")
        if member == "MillisBehindLatest" and value:
            return "<behind>"
        if member in SEQUENCE_NUMBERS:
            return "<sequence number>" if str(value).isdigit() else value
        if isinstance(value, datetime.datetime) or (member or "").endswith("Timestamp"):
            return "<time>"
        if isinstance(value, bytes):
            return f"{len(value)} bytes {value[:16]!r}"
        if isinstance(value, str) and value.startswith("arn:"):
            value = re.sub(r"^arn:aws:kinesis:us-east-1:\d{12}:", "arn:", value)
            value = re.sub(r"(/consumer/[^:]+):\d{10}$", r"\1:<seconds>", value)
        return value.replace(self.prefix, "") if isinstance(value, str) else value
