"""What a replay of dead letters makes of tables, once what was wrong with some of the records is mended: as docs/dynamodb.md says."""

from oracle import BAD, MENDED, PLACE, added_to, counted_with, journal, last_deletes, live, metrics, place


def letters_of(table, records, letters):
    """The records of a table's dead letters that it takes now, in the stream's order."""
    mended = [(sequence, record) for sequence, record in records if record.get(BAD) in MENDED]
    return [(sequence, record) for sequence, record in mended if (f"sink:{table}", sequence) in letters]


def after(table, items, marks, letters, records):
    """What was there, and what the letters make of it. Of the table without any order, what each item may be."""
    if table == "journal":
        return live(items) | journal(letters)
    if table == "metrics":
        return with_letters(live(items), metrics(letters))
    if table == "versions":
        return behind(items, marks, letters, lambda _, record: record | {}, lambda item: item["version"], "thing")
    if table in ("latest", "takeover"):
        return behind(items, marks, letters, lambda sequence, record: record | {PLACE: place(sequence)}, lambda item: item[PLACE], "id")
    if table == "never":
        return live(items) | {record["id"]: record for _, record in letters}
    return counters(items, marks, letters, last_deletes(records))


def with_letters(items, letters):
    """Each letter counts once, whatever was counted since."""
    added = dict(items)
    for key, more in letters.items():
        item = items.get(key, more | {"records": 0, "total": 0})
        added[key] = item | {
            "records": item["records"] + more["records"],
            "total": item["total"] + more["total"],
            "least": min(item["least"], more["least"]),
            "most": max(item["most"], more["most"]),
        }
    return added


def behind(items, marks, letters, item_of, order, key):
    """A letter that comes behind what is there, or behind its delete, takes its place; another is overtaken."""
    there = items | marks
    for sequence, record in letters:
        item = item_of(sequence, record)
        if record[key] not in there or order(there[record[key]]) < order(item):
            there[record[key]] = item
    return live({key: item for key, item in there.items() if item is not marks.get(key)})


def counters(items, marks, letters, deletes):
    """Each counts that is of no time before its key was deleted. What it sets is that of the last, wherever it was counted."""
    there, places = dict(items), {key: item[PLACE] for key, item in (items | marks).items()}
    for sequence, record in letters:
        id = record["id"]
        if deletes.get(id, -1) > sequence:
            continue
        if places.get(id, "") < place(sequence):
            there[id] = counted_with(there.get(id), sequence, record)
            places[id] = place(sequence)
        else:
            there[id] = added_to(there[id], record)
    return live(there)


def with_logs_sorted(items, before):
    """Where several letters of a counter are appended behind later records, their order is not said."""
    cut = lambda key: len(before.get(key, {}).get("log", ()))
    return {
        key: item | {"log": item["log"][: cut(key)] + sorted(item["log"][cut(key) :])} if "log" in item else item
        for key, item in items.items()
    }
