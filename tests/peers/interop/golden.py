"""Makes the golden rows of the Java KCLs anew, in crates/consumer/tests/golden/rows/.

    kinesink local -- python tests/peers/interop/golden.py BUILD_DIR kcl1 kcl2 kcl3

For each KCL `KCL-prepared-and-ended.json`: a worker prepares a checkpoint in each of two shards, with a state where it
knows one; then the first is split, read to its end and checkpointed there.
And `KCL-took-ours.json`: it takes, renews and checkpoints the leases of `ours.json`, which our own tests wrote.
Tables are dumped as DynamoDB describes and scans them, rows and names sorted.
"""

import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import boto3

from dynamodb_local import dynamodb_local

ROWS = pathlib.Path("crates/consumer/tests/golden/rows")
NAMES = {"kcl1": "kcl-1.x", "kcl2": "kcl-2.x", "kcl3": "kcl-3.x"}
STATE = "the state of a prepared checkpoint"
# 56 digits, as the service's are; and greater than any that is in the rows.
CHECKPOINT = "9" * 56
WAIT_SECONDS_MAX = 120
DESCRIBED = ("TableName", "KeySchema", "AttributeDefinitions")


def typed(value):
    """As JSON has it on the wire: boto3 gives bytes and sets."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: typed(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [typed(inner) for inner in value]
    return value


def untyped(row):
    """The other way round."""
    return {
        name: {kind: base64.b64decode(value) if kind == "B" else value for kind, value in typed_value.items()}
        for name, typed_value in row.items()
    }


def dump(dynamodb, table, path):
    described = dynamodb.describe_table(TableName=table)["Table"]
    rows = [typed(row) for row in dynamodb.scan(TableName=table, ConsistentRead=True)["Items"]]
    rows.sort(key=lambda row: row["leaseKey"]["S"])
    for row in rows:
        for value in row.values():
            value.update({"SS": sorted(value["SS"])} if "SS" in value else {})
    tables = {table: {"description": {name: described[name] for name in DESCRIBED}, "rows": rows}}
    path.write_text(json.dumps(tables, indent=2, sort_keys=True) + "\n")


def create_table(dynamodb, table):
    dynamodb.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )


def fill(dynamodb, table, file):
    """A new table with the rows of a dump."""
    create_table(dynamodb, table)
    (dumped,) = json.loads(file.read_text()).values()
    for row in dumped["rows"]:
        dynamodb.put_item(TableName=table, Item=untyped(row))


def java(build, module, program, *arguments):
    command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    command += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]
    command += ["-cp", f"{build}/{module}/classes:{build}/{module}/lib/*", f"kinesink.interop.{program}"]
    return [*command, *(str(argument) for argument in arguments)]


def until(what, is_true):
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not is_true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"it did not come true that {what}")
        time.sleep(0.2)


def prepared_and_ended(build, module, environment, kinesis, dynamodb):
    name = f"{module}-prepared"
    kinesis.create_stream(StreamName=name, ShardCount=2)
    is_active = lambda: kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamStatus"]
    until("the stream is active", lambda: is_active() == "ACTIVE")
    for number in range(20):
        kinesis.put_record(StreamName=name, PartitionKey=f"{number}", Data=b"record")

    def rows():
        try:
            return {row["leaseKey"]["S"]: row for row in dynamodb.scan(TableName=name)["Items"]}
        except dynamodb.exceptions.ResourceNotFoundException:
            return {}

    first = "shardId-000000000000"
    with tempfile.NamedTemporaryFile() as journal:
        command = java(build, module, "Worker", name, name, "java", journal.name, 5_000, STATE)
        with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as worker:
            prepared = lambda: sum("pendingCheckpoint" in row for row in rows().values())
            until("both shards are prepared", lambda: prepared() == 2)
            kinesis.split_shard(StreamName=name, ShardToSplit=first, NewStartingHashKey="1000")
            ended = lambda: rows()[first]["checkpoint"]["S"] == "SHARD_END" and "childShardIds" in rows()[first]
            until("the first is read to its end", ended)
            worker.communicate(timeout=60)
    dump(dynamodb, name, ROWS / f"{NAMES[module]}-prepared-and-ended.json")


def took_ours(build, module, environment, dynamodb):
    name = f"{module}-took-ours"
    fill(dynamodb, name, ROWS / "ours.json")
    subprocess.run(java(build, module, "Rows", name, "java", CHECKPOINT), env=environment, check=True)
    dump(dynamodb, name, ROWS / f"{NAMES[module]}-took-ours.json")


def main():
    build, *modules = sys.argv[1:]
    with dynamodb_local(build) as url:
        environment = os.environ | {"AWS_ENDPOINT_URL_DYNAMODB": url, "AWS_EC2_METADATA_DISABLED": "true"}
        kinesis, dynamodb = boto3.client("kinesis"), boto3.client("dynamodb", endpoint_url=url)
        for module in modules:
            prepared_and_ended(build, module, environment, kinesis, dynamodb)
            if (ROWS / "ours.json").exists():
                took_ours(build, module, environment, dynamodb)


if __name__ == "__main__":
    main()
