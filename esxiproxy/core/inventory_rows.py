"""The rows of an inventory, read from CSV with a header or from JSON, with their lines."""

from __future__ import annotations

import csv
import io
import json
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn

from esxiproxy.core.config.errors import shown
from esxiproxy.core.config.key import Key, SectionKind
from esxiproxy.core.config.schema import keys_of

MAX_HOSTS = 100_000
"""Maximum number of rows."""
MAX_MISTAKES = 1000
"""Maximum number of mistakes that are reported."""

_ELSEWHERE = {
    "url": "write the column address",
    "pin": "write the column pins",
    "verify": "it is the same for all hosts, and belongs to the template",
    "ca": "it is the same for all hosts, and belongs to the template",
}
UPSTREAM_KEYS: Mapping[str, Key] = {
    name: key for name, key in keys_of(SectionKind.UPSTREAM).items() if name not in _ELSEWHERE
}
"""The keys of [upstream] that a row may have, by name."""
_OWN = ("name", "address", "pins", "labels")
_REQUIRED = ("name", "address")
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class RowMistake:
    """A mistake in a file, with its line."""

    line: int
    text: str


class RowMistakes:
    """The mistakes that were found in a file.  ``is_full`` is whether no more of them are collected."""

    def __init__(self) -> None:
        self.found: list[RowMistake] = []

    @property
    def is_full(self) -> bool:
        """Whether the maximum number of mistakes was found."""
        return len(self.found) >= MAX_MISTAKES

    def add(self, line: int, text: str) -> None:
        """Add a mistake, unless there are too many already.  Its text becomes one line."""
        if not self.is_full:
            text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
            self.found.append(RowMistake(line, text))


@dataclass(frozen=True, slots=True)
class Row:
    """One host of a file: its first line, and the texts of its cells by column.  No cell is empty."""

    line: int
    cells: Mapping[str, str]


def rows(content: bytes, mistakes: RowMistakes) -> Iterator[Row]:
    """Yield the rows of a file, and add its mistakes to ``mistakes``.

    A file that begins with a bracket is JSON, and every other file is CSV.
    """
    text = _text(content, mistakes)
    if text is None:
        return
    read = _json_rows if text.lstrip()[:1] in ("[", "{") else _csv_rows
    for number, row in enumerate(read(text, mistakes), start=1):
        if number > MAX_HOSTS:
            mistakes.add(row.line, f"is one row too many: an inventory has at most {MAX_HOSTS} hosts")
            return
        if mistakes.is_full:
            return
        yield row


def _text(content: bytes, mistakes: RowMistakes) -> str | None:
    if content.startswith((BOM_UTF16_BE, BOM_UTF16_LE)):
        mistakes.add(1, "the file is UTF-16: save it as UTF-8")
        return None
    content = content.removeprefix(BOM_UTF8)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        mistakes.add(1 + content.count(b"\n", 0, error.start), "has a byte that is not UTF-8")
        return None


# CSV


def _csv_rows(text: str, mistakes: RowMistakes) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: Sequence[str] | None = None
    for line, cells in _csv_lines(reader, mistakes):
        if not any(cells):
            continue
        if header is None:
            header = cells
            faults = [fault for column in dict.fromkeys(header) if (fault := _column_fault(column))]
            faults += [f"the column {shown(name)} is there twice" for name in _repeated(header)]
            faults += [f"has no column {name}" for name in _REQUIRED if name not in header]
            if faults:
                for text in faults:
                    mistakes.add(line, text)
                return
        elif len(cells) > len(header):
            mistakes.add(line, f"has {len(cells)} cells, and the header has {len(header)}")
        else:
            named = zip(header, cells, strict=False)
            yield Row(line, {column: cell for column, cell in named if cell})
    if header is None:
        mistakes.add(1, "is empty: write a header as in name,address,pins,labels")


def _csv_lines(reader: Any, mistakes: RowMistakes) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line and the cells of each row, and add rows that are no CSV to the mistakes."""
    while not mistakes.is_full:
        line = reader.line_num + 1
        try:
            yield line, [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            mistakes.add(line, f"is no CSV: {error}")


def _column_fault(column: str) -> str | None:
    """Return why a file cannot have a column of this name; None if it can."""
    if column in _OWN or column in UPSTREAM_KEYS:
        return None
    if column in _ELSEWHERE:
        return f"{column} is no column: {_ELSEWHERE[column]}"
    close = get_close_matches(column.lower(), (*_OWN, *UPSTREAM_KEYS), n=1)
    meant = (
        f"did you mean {close[0]}?" if close else "write name, address, pins, labels or a key of [upstream]"
    )
    return f"{shown(column)} is no column: {meant}"


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]


# JSON


class _Object(dict[str, Any]):
    """An object of a JSON file.  ``repeated`` are the names that it has more than once."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated = _repeated([name for name, _ in pairs]) if len(self) < len(pairs) else []


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _json_rows(text: str, mistakes: RowMistakes) -> Iterator[Row]:
    known: dict[str, str | None] = {}
    for line, found in _json_elements(text, mistakes):
        if not isinstance(found, _Object):
            mistakes.add(line, "is no object: write a list of objects with name and address")
            continue
        faults = [f"{shown(name)} is there twice" for name in found.repeated]
        cells = {}
        for name, value in found.items():
            if name not in known:
                known[name] = _column_fault(name)
            cell = _cell(name, value)
            if (fault := known[name]) is not None:
                faults.append(fault)
            elif cell is None:
                faults.append(f"{name} has a value of a wrong type: write {_wanted(name)}")
            elif cell:
                cells[name] = cell
        for fault in faults:
            mistakes.add(line, fault)
        if not faults:
            yield Row(line, cells)


def _json_elements(text: str, mistakes: RowMistakes) -> Iterator[tuple[int, Any]]:
    """Yield the elements of the list in a JSON text with their lines.

    Reading ends at the first place that is no JSON.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_Object, parse_constant=_no_constant)
    place = counted = _skip(text, 0)
    line = 1 + text.count("\n", 0, place)
    if text[place] != "[":
        mistakes.add(line, "is no list: write a list of objects with name and address")
        return
    place = _skip(text, place + 1)
    if text[place : place + 1] != "]":
        while True:
            line, counted = line + text.count("\n", counted, place), place
            try:
                found, place = decoder.raw_decode(text, place)
            except json.JSONDecodeError as error:
                mistakes.add(error.lineno, f"is no JSON: {error.msg}")
                return
            except (ValueError, RecursionError) as error:  # a number that is too long, or too many brackets
                mistakes.add(line, f"is no JSON that can be read: {str(error).partition(';')[0]}")
                return
            yield line, found
            place = _skip(text, place)
            if text[place : place + 1] != ",":
                break
            place = _skip(text, place + 1)
    line += text.count("\n", counted, place)
    if text[place : place + 1] != "]":
        mistakes.add(line, "is no JSON: a comma or the end of the list is missing")
    elif _skip(text, place + 1) != len(text):
        mistakes.add(line, "has text behind the end of the list")


def _skip(text: str, place: int) -> int:
    """Return the place behind white space."""
    found = _SPACE.match(text, place)
    return place if found is None else found.end()


def _cell(name: str, value: Any) -> str | None:
    """Return the text that a CSV file would have for a value; None for a value of a wrong type."""
    if value is None:
        return ""
    if name == "pins" and isinstance(value, list) and all(isinstance(pin, str) for pin in value):
        return " ".join(value)
    if name == "labels" and isinstance(value, dict):
        pairs = [f"{key}={text}" for key, text in value.items() if isinstance(text, str)]
        plain = all(len(pair.split()) == 1 for pair in pairs) and not getattr(value, "repeated", ())
        return " ".join(pairs) if plain and len(pairs) == len(value) else None
    if name not in _OWN and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() if isinstance(value, str) else None


def _wanted(name: str) -> str:
    return {
        "pins": "a list of thumbprints",
        "labels": "an object with texts as values, without spaces",
    }.get(name, "a text" if name in _OWN else "a text or a whole number")
