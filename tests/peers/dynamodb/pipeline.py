"""The pipeline file of a seed."""

PIPELINE = """
version = 1
app = "app-{name}"
memory = "32MiB"
[source]
stream = "{name}"
start = "trim-horizon"
idle = "200ms"
[lease]
worker_id = "{worker}"
failover = "2s"
shard_sync = "1s"
[buffer]
records = {window}
age = "150ms"
[dead_letter]
url = "file://{folder}"
"""

SINK = """
[[sink]]
name = "{table}"
type = "dynamodb"
table = "{table}-{name}"
endpoint = "{endpoint}"
"""

DELETE = """
ttl = "expires"
delete = { field = ".op", is = ["delete"] }
"""

TABLES = {
    "latest": """
key = { id = ".id" }
""" + DELETE,
    "counters": """
key = { id = ".id" }
set = [".n", ".size", ".pad", ".poison"]
add = [".count", ".sum"]
append = [".log"]
""" + DELETE,
    "journal": """
key = { id = ".id", at = "{position}" }
guard = "never"
""",
    "takeover": """
key = { id = ".id" }
guard = "takeover"
""" + DELETE,
    # Of one thing there are records in all shards.
    "versions": """
key = { thing = ".thing" }
ordered_by = ".version"
""" + DELETE,
    "never": """
key = { id = ".id" }
guard = "never"
""" + DELETE,
    "metrics": """
key = { shop = ".shop", minute = "{window}" }
[sink.aggregate]
window = "1m"
event_time = { field = ".ts" }
count = "records"
sum = { total = ".sum" }
min = { least = ".sum" }
max = { most = ".sum" }
""",
}


def pipeline(tables, name, worker, window, endpoint, folder):
    text = PIPELINE.format(name=name, worker=worker, window=window, folder=folder)
    return text + "".join(SINK.format(table=table, name=name, endpoint=endpoint) + TABLES[table] for table in tables)
