"""Makes the aggregates in this folder with another implementation of the format.

    pip install aws_kinesis_agg==1.2.3 six==1.17.0 protobuf==7.36.2
    python make.py

NAME.bin is the data of one Kinesis record. NAME.tsv holds the user records that went in: partition key, explicit hash
key (empty: none), data in hex. The keys contain no tab and no newline.
"""

from pathlib import Path

from aws_kinesis_agg.aggregator import AggRecord

CASES = {
    "one": [("sensor-1", None, b'{"temperature":21.5}')],
    "many": [(f"sensor-{i % 7}", None, f"reading {i}".encode()) for i in range(200)],
    "explicit_hash_keys": [
        ("a", "0", b"smallest"),
        ("a", "340282366920938463463374607431768211455", b"largest"),
        ("b", None, b"none"),
        ("b", "0", b"smallest again"),
    ],
    "empty_data": [("a", None, b""), ("b", None, b"between"), ("a", None, b"")],
    "unicode_keys": [
        ("clé", None, "élan".encode()),
        ("鍵", "7", "値".encode()),
        ("🔑", None, b"\xf0\x9f\x94\x91"),
    ],
    # Indexes, lengths and data that need varints of two bytes and more, and bytes that are no text.
    "wide": [(f"key-{i:04}", str(i), bytes([i % 256]) * i) for i in range(0, 300, 2)],
}

here = Path(__file__).parent
for name, records in CASES.items():
    aggregate = AggRecord()
    for partition_key, explicit_hash_key, data in records:
        assert aggregate.add_user_record(partition_key, data, explicit_hash_key)
    (here / f"{name}.bin").write_bytes(aggregate.get_contents()[2])
    rows = (f"{key}\t{hash_key or ''}\t{data.hex()}\n" for key, hash_key, data in records)
    (here / f"{name}.tsv").write_text("".join(rows), encoding="utf-8")
