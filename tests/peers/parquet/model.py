"""What the Parquet files of a pipeline have to hold, worked out from the records that were put.

Shares no code with what it judges: numbers are Python's exact ones, times its own.
"""

import base64
import datetime
import decimal
import json
import random

UTC = datetime.timezone.utc
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)
CITIES = ["Zürich", "São Paulo", "東京", "", "a/b=c", "Rock \"n\" \\ Roll\n"]
KINDS = ["click", "view/all", ""]

COLUMNS = """
[sink.columns]
id = "int64"
small = "int32"
amount = "decimal(18,2)"
little = "decimal(5,3)"
huge = "decimal(38,10)"
price = "float64"
ratio = "float32"
name = "string"
photo = "binary"
day = "date"
at = "timestamp"
seconds = "timestamp(s)"
millis = "timestamp(ms)"
ok = "boolean"
tags = "list<string>"
lines = "list<struct<sku: string, qty: int32, prices: list<decimal(9,2)>>>"
who = "struct<name: string, home: struct<city: string, zip: string>>"
raw = "json"
kind = "string"
"""

ARROW_TYPES = {
    "id": "int64",
    "small": "int32",
    "amount": "decimal128(18, 2)",
    "little": "decimal128(5, 3)",
    "huge": "decimal128(38, 10)",
    "price": "double",
    "ratio": "float",
    "name": "string",
    "photo": "binary",
    "day": "date32[day]",
    "at": "timestamp[us, tz=UTC]",
    "seconds": "timestamp[us, tz=UTC]",
    "millis": "timestamp[us, tz=UTC]",
    "ok": "bool",
    "tags": "list<element: string>",
    "lines": "list<element: struct<sku: string, qty: int32, prices: list<element: decimal128(9, 2)>>>",
    "who": "struct<name: string, home: struct<city: string, zip: string>>",
    "raw": "string",
    "kind": "string",
    "_rest": "string",
}

DUCKDB_TYPES = {
    "id": "BIGINT",
    "small": "INTEGER",
    "amount": "DECIMAL(18,2)",
    "little": "DECIMAL(5,3)",
    "huge": "DECIMAL(38,10)",
    "price": "DOUBLE",
    "ratio": "FLOAT",
    "name": "VARCHAR",
    "photo": "BLOB",
    "day": "DATE",
    "at": "TIMESTAMP WITH TIME ZONE",
    "seconds": "TIMESTAMP WITH TIME ZONE",
    "millis": "TIMESTAMP WITH TIME ZONE",
    "ok": "BOOLEAN",
    "tags": "VARCHAR[]",
    "lines": "STRUCT(sku VARCHAR, qty INTEGER, prices DECIMAL(9,2)[])[]",
    "who": 'STRUCT("name" VARCHAR, home STRUCT(city VARCHAR, zip VARCHAR))',
    "raw": "VARCHAR",
    "kind": "VARCHAR",
    "_rest": "VARCHAR",
}


def records(count, seed):
    """Records as bytes, and the row that each has to become."""
    chance = random.Random(seed)
    return [record(number, chance) for number in range(count)]


def record(number, chance):
    members, row = {"id": str(number)}, dict.fromkeys(ARROW_TYPES)
    row["id"] = number
    for name, make in MAKERS.items():
        fate = chance.random()
        if fate < 0.1:
            continue
        if fate < 0.2:
            members[name] = "null"
            continue
        members[name], row[name] = make(chance)
    rest = {}
    if chance.random() < 0.3:
        rest["new field"] = chance.choice(["1e400", '{"a": [1, 2.50]}', "null", '"x"'])
    # A field that its column does not hold in full stands in the rest column, whole.
    if row["who"] is not None and chance.random() < 0.3:
        members["who"] = members["who"][:-1] + ', "age": 7}'
        rest["who"] = members["who"]
    members.update({name: text for name, text in rest.items() if name != "who"})
    order = list(members)
    chance.shuffle(order)
    text = "{" + ", ".join(f"{json.dumps(name)}: {members[name]}" for name in order) + "}"
    kept = [name for name in order if name in rest]
    if kept:
        row["_rest"] = "{" + ",".join(f"{json.dumps(name)}:{rest[name]}" for name in kept) + "}"
    return text.encode(), row


def small(chance):
    value = chance.choice([-(2**31), 2**31 - 1, chance.randrange(-1000, 1000)])
    return chance.choice([str(value), f"{value}.0", f"{value}0e-1"]), value


def fixed(digits, scale):
    def make(chance):
        units = chance.choice([0, 10**digits - 1, 1 - 10**digits, chance.randrange(10 ** chance.randrange(1, digits))])
        value = decimal.Decimal(units).scaleb(-scale, decimal.Context(prec=40))
        text = chance.choice([f"{value:f}", f"{units}e-{scale}", f'"{value:f}"'])
        return text, value

    return make


def price(chance):
    value = chance.choice([0.1, -1e-300, 1.7976931348623157e308, chance.uniform(-1e6, 1e6), 2.0**60])
    return repr(value), value


def ratio(chance):
    eighths = chance.randrange(-8000, 8000)
    return repr(eighths / 8), eighths / 8


def name(chance):
    value = chance.choice(CITIES) + chr(chance.choice([0x41, 0xE9, 0x1F980]))
    return json.dumps(value, ensure_ascii=chance.random() < 0.5), value


def photo(chance):
    value = chance.randbytes(chance.randrange(40))
    return json.dumps(base64.b64encode(value).decode()), value


def day(chance):
    value = datetime.date.fromordinal(chance.randrange(1, datetime.date.max.toordinal()))
    return f'"{value.isoformat()}"', value


def moment(chance, unit_micros):
    span = (datetime.datetime(9998, 1, 1, tzinfo=UTC) - datetime.datetime(2, 1, 1, tzinfo=UTC)) // datetime.timedelta(
        microseconds=1
    )
    micros = chance.randrange(span) // unit_micros * unit_micros
    return datetime.datetime(2, 1, 1, tzinfo=UTC) + datetime.timedelta(microseconds=micros)


def at(chance):
    value = moment(chance, 1)
    zone = datetime.timezone(datetime.timedelta(minutes=chance.choice([0, 60, -480, 345])))
    text = value.astimezone(zone).isoformat()
    return f'"{text}"', value


def since_1970(unit_micros):
    def make(chance):
        value = moment(chance, unit_micros)
        return str((value - EPOCH) // datetime.timedelta(microseconds=unit_micros)), value

    return make


def tags(chance):
    value = [chance.choice([None, *CITIES]) for _ in range(chance.randrange(4))]
    return json.dumps(value), value


def lines(chance):
    texts, values = [], []
    for _ in range(chance.randrange(4)):
        if chance.random() < 0.2:
            texts.append("null")
            values.append(None)
            continue
        prices = [fixed(9, 2)(chance) for _ in range(chance.randrange(3))]
        quantity = chance.randrange(-5, 100)
        texts.append(f'{{"qty": {quantity}, "prices": [{", ".join(text for text, _ in prices)}]}}')
        values.append({"sku": None, "qty": quantity, "prices": [value for _, value in prices]})
    return "[" + ",".join(texts) + "]", values


def who(chance):
    home = chance.choice([None, {}, {"city": chance.choice(CITIES)}, {"zip": "1", "city": None}])
    value = {"name": chance.choice(CITIES), "home": home}
    full = None if home is None else {"city": home.get("city"), "zip": home.get("zip")}
    return json.dumps(value), {"name": value["name"], "home": full}


def raw(chance):
    text = chance.choice(['{"b" : 1.10e400}', "[1,2 , 3]", '"text"', "true", "18446744073709551616"])
    return text, text


def kind(chance):
    value = chance.choice(KINDS)
    return json.dumps(value), value


MAKERS = {
    "small": small,
    "amount": fixed(18, 2),
    "little": fixed(5, 3),
    "huge": fixed(38, 10),
    "price": price,
    "ratio": ratio,
    "name": name,
    "photo": photo,
    "day": day,
    "at": at,
    "seconds": since_1970(1_000_000),
    "millis": since_1970(1_000),
    "ok": lambda chance: chance.choice([("true", True), ("false", False)]),
    "tags": tags,
    "lines": lines,
    "who": who,
    "raw": raw,
    "kind": kind,
}
