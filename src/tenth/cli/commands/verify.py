"""`tenth verify`: whether tenth made a picture, and whether it is as it was written."""

from __future__ import annotations

from tenth.cli.parameters import Json, Pictures
from tenth.core.console import print_message, print_records
from tenth.core.errors import DataError
from tenth.core.wording import printable

# Of several files, the first of these that is found. 1 and 2 are the command line's own: a bad file, wrong usage.
EXIT_CODES = {"unreadable": 1, "changed": 3, "stripped": 4, "foreign": 5}


def verify(files: Pictures, json: Json = False) -> int:
    """Check the marks by which pictures say that a model made them.

    marked: tenth made it, and it is as it was written. changed: edited, cut off or written anew since. stripped: its signed
    manifest is gone, but not all of tenth's marks. foreign: nothing of tenth's is in it. Exits with 0 if all are marked, 1 if
    a file cannot be read, 3 if one is changed, 4 if one is stripped, 5 if one is foreign: the first of these that is so.
    """
    from tenth.core.marks.verify import verify as read_mark

    rows = []
    for path in files:
        row = {"name": printable(str(path)), "own_key": False}
        try:
            mark = read_mark(path)
        except DataError as problem:
            rows.append(row | {"mark": "unreadable", "text": str(problem)})
            print_message(f"tenth: {problem}")
        else:
            rows.append(row | {"mark": mark.state.value, "text": mark.text, "own_key": mark.own_key})
    readable = [row for row in rows if row["mark"] != "unreadable"]
    if readable or json:
        print_records("files", rows if json else readable, lambda row: f"{row['mark']}: {row['text']}", json)
    found = {row["mark"] for row in rows}
    return next((code for mark, code in EXIT_CODES.items() if mark in found), 0)
