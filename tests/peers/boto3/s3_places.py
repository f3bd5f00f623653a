"""Where records stand in the objects of `kinesink run`, worked out here from the records and when the stream took them.

Run on the local S3, and on a server that no one here wrote.
"""

import collections
import datetime
import gzip
import json
import random

from pipelines import Pipeline

SEED = 5
UTC = datetime.timezone.utc
HOUR = datetime.timedelta(hours=1)
LATE_HOURS = 24


def sink(bucket, name, more):
    return f'[[sink]]\nname = "{name}"\ntype = "s3"\nurl = "s3://{bucket}/{name}"\npath_style = true\n{more}\n'


def behind_lengths(body):
    """Items, each behind its length: 4 bytes, the highest first."""
    items = []
    while body:
        length = int.from_bytes(body[:4], "big")
        items.append(body[4 : 4 + length])
        if len(items[-1]) != length:
            raise ValueError(f"{length} bytes are announced, and {len(items[-1])} are there")
        body = body[4 + length :]
    return items


class LengthDelimited(Pipeline):
    name = "lengths"

    def test_records_of_any_bytes_come_back_as_they_were(self):
        chance = random.Random(SEED)
        # Some empty lines, some that look like lengths, some larger than 64 KiB.
        records = [chance.randbytes(chance.choice([1, 4, 100, 70_000])) for _ in range(200)] + [b"\n", b"\0\0\0\1", b"\r\n\n"]
        records += records[:2]
        self.put(records)
        lengths = 'format = "length-delimited"'
        sinks = sink(self.name, "plain", lengths + '\ncompression = "none"')
        sinks += sink(self.name, "packed", lengths + '\ncompression = "gzip"')
        # The last window is not full: it is drained.
        self.run_until(40, sinks, lambda: len(self.listed()) == 2 * (len(records) // 40))
        for name, unpack in [("plain", bytes), ("packed", gzip.decompress)]:
            found = []
            for key, count, body in self.objects():
                if key.startswith(f"{name}/"):
                    items = behind_lengths(unpack(body))
                    self.assertEqual(len(items), count, key)
                    self.assertTrue(key.endswith(".delimited" if name == "plain" else ".delimited.gz"), key)
                    found += items
            self.assertEqual(found, records, f"{name}: keys are in the order of the stream")


class Late(Pipeline):
    name = "late"

    def test_a_record_whose_clock_is_far_from_the_streams_goes_where_the_policy_says(self):
        now = datetime.datetime.now(UTC)
        # Far enough from the limit that a slow machine changes nothing.
        skews = [hours * HOUR for hours in (-24 * 400, -49, -25, -23, -1, 0, 1, 23, 25, 24 * 400)]
        events = [now + skew for skew in skews] * 3
        texts = [event.isoformat().replace("+00:00", "Z") for event in events] + ["yesterday", None]
        self.put([json.dumps({"n": n, "at": text}).encode() for n, text in enumerate(texts)] + [b'{"n": 99}'])
        key = 'key = "day={event:%Y-%m-%d}/{shard}-{first}"\nevent_time = { field = ".at" }'
        sinks = sink(self.name, "late", f'{key}\nlate = {{ after = "{LATE_HOURS}h" }}')
        sinks += sink(self.name, "arrival", f'{key}\nlate = {{ after = "{LATE_HOURS}h", to = "arrival" }}')
        sinks += sink(self.name, "trusting", key)
        expected, arrived = self.expected()
        total = sum(len(numbers) for numbers in expected.values())
        # The last sink's objects are there once the first's are, or come with the drain.
        self.run_until(arrived, sinks, lambda: sum(count for _, count, _ in self.objects()) == total)
        found = collections.defaultdict(list)
        for key, _, body in self.objects():
            found[key.rsplit("/", 1)[0]] += [json.loads(line)["n"] for line in body.splitlines()]
        self.assertEqual(found, expected)

    def expected(self):
        """By folder, from what the stream says of itself; and how many records there are."""
        [shard] = self.kinesis.list_shards(StreamName=self.name)["Shards"]
        start = {"StreamName": self.name, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        iterator = self.kinesis.get_shard_iterator(**start)["ShardIterator"]
        folders, records = collections.defaultdict(list), self.kinesis.get_records(ShardIterator=iterator)["Records"]
        for record in records:
            fields, arrival = json.loads(record["Data"]), record["ApproximateArrivalTimestamp"].astimezone(UTC)
            try:
                event = datetime.datetime.fromisoformat(fields["at"])
            except (KeyError, TypeError, ValueError):
                event = arrival
            is_late = abs(event - arrival) > LATE_HOURS * HOUR
            folders[f"late/{'late/' if is_late else ''}day={event.astimezone(UTC):%Y-%m-%d}"].append(fields["n"])
            folders[f"arrival/day={arrival if is_late else event:%Y-%m-%d}"].append(fields["n"])
            folders[f"trusting/day={event:%Y-%m-%d}"].append(fields["n"])
        return folders, len(records)
