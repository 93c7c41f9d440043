"""Text for a person at a terminal: tables, ages, sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class PlainText(str):
    """A text that an interactive session shows as it is, and not as a Python string."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns that are as wide as their widest cell."""
    lines = [[plain(cell) for cell in line] for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def plain(text: str) -> str:
    """The text without what a terminal would obey: a name may come from a stranger."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def age(seconds: float) -> str:
    """``9s``, ``4m 12s``, ``3h 04m``, ``2d 07h``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {rest:02}s" if minutes else f"{rest}s"


def size(octets: int) -> str:
    """``512``, ``1.5 KiB``, ``12 MiB``."""
    if octets < 1024:
        return str(octets)
    number = octets / 1024
    for unit in ("KiB", "MiB", "GiB"):
        if number < 999.5:
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def milliseconds(seconds: float | None) -> str:
    """``12 ms``; ``-`` when nothing is known."""
    return "-" if seconds is None else f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.1f} s"


def count(number: int, noun: str) -> str:
    """``1 session``, ``2 sessions``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
