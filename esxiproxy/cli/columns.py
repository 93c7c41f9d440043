"""Tables of the terminal commands, which are made to fit a narrow terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esxiproxy.ops.manhole.table import plain, size

_GAP = "  "
_CUT = "…"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: ``text`` returns the cell of a row.

    ``least`` is the width to which a cell may be cut, 0 if it is never cut.  In a narrow terminal, columns
    whose cells are all ``usual`` are left out first, and then those with the largest ``rank``.  A column of
    the rank 0 is never left out.
    """

    title: str
    text: Callable[[Mapping[str, Any]], str]
    rank: int = 0
    least: int = 0
    usual: str = "-"
    is_number: bool = False


def terminal_width() -> int | None:
    """Return the width of the terminal that standard output is, None for a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def fitted_table(
    columns: Sequence[Column], rows: Iterable[Mapping[str, Any]], width: int | None = None
) -> list[str]:
    """Return the lines of a table with a header.

    With a ``width``, columns are left out and cells are cut until it fits.
    """
    known = list(rows)
    cells = {column.title: [plain(column.text(row)) for row in known] for column in columns}
    shown = list(columns)
    widths = {title: max(map(display_width, (title, *texts))) for title, texts in cells.items()}
    if width is not None:
        _leave_out(shown, cells, widths, width)
        _narrow(shown, widths, width)
    header = [_padded(column.title, widths[column.title], column.is_number) for column in shown]
    lines = [
        [_padded(cells[column.title][number], widths[column.title], column.is_number) for column in shown]
        for number in range(len(known))
    ]
    return [_GAP.join(line).rstrip() for line in (header, *lines)]


def display_width(text: str) -> int:
    """Return the number of places that a text takes in a terminal."""
    if text.isascii():
        return len(text)
    return sum(map(_letter_width, text))


def wrapped(text: str, indent: int, width: int | None) -> list[str]:
    """Return a text in lines of at most this width, all but the first with an indent."""
    if width is None:
        return [text]
    return textwrap.wrap(
        text,
        max(width, 2 * indent),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def cut(text: str, width: int) -> str:
    """Return a text that takes at most so many places; one that was longer ends with an ellipsis."""
    if display_width(text) <= width:
        return text
    left = width - len(_CUT)
    kept = 0
    for letter in text:
        left -= _letter_width(letter)
        if left < 0:
            break
        kept += 1
    return text[:kept] + _CUT if width > 0 else ""


def bytes_or_dash(octets: float | None) -> str:
    """Return a number of bytes as text, and ``-`` for None."""
    return "-" if octets is None else size(int(octets))


def _letter_width(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _padded(text: str, width: int, is_number: bool) -> str:
    text = cut(text, width)
    space = " " * (width - display_width(text))
    return space + text if is_number else text + space


def _leave_out(
    shown: list[Column], cells: Mapping[str, Sequence[str]], widths: Mapping[str, int], width: int
) -> None:
    """Remove columns until the rest fits a width when its cells are cut."""

    def is_usual(column: Column) -> bool:
        return all(text == column.usual for text in cells[column.title])

    def order(column: Column) -> tuple[bool, int]:
        return is_usual(column), column.rank

    while sum(_least(column, widths) + len(_GAP) for column in shown) - len(_GAP) > width:
        candidates = [column for column in shown if column.rank]
        if not candidates:
            return
        shown.remove(max(candidates, key=order))


def _least(column: Column, widths: Mapping[str, int]) -> int:
    full = widths[column.title]
    return min(full, max(column.least, len(column.title))) if column.least else full


def _narrow(shown: Sequence[Column], widths: dict[str, int], width: int) -> None:
    """Cut the widest columns first until the table fits a width, as far as their cells may be cut."""
    excess = sum(widths[column.title] + len(_GAP) for column in shown) - len(_GAP) - width
    while excess > 0:
        wide = [column for column in shown if widths[column.title] > _least(column, widths)]
        if not wide:
            return
        widths[max(wide, key=lambda column: widths[column.title]).title] -= 1
        excess -= 1
