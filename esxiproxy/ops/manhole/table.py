"""Formats tables, ages and sizes as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class PlainText(str):
    """A string that the interpreter shows without quotes and escapes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose columns are as wide as their widest cell."""
    lines = [[plain(cell) for cell in line] for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def plain(text: str) -> str:
    """Return the text with escaped control characters, which a client could use against the terminal."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def age(seconds: float) -> str:
    """Return a duration such as ``9s``, ``4m 12s``, ``3h 04m`` or ``2d 07h``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {rest:02}s" if minutes else f"{rest}s"


def size(octets: int) -> str:
    """Return a number of bytes such as ``512``, ``1.5 KiB`` or ``12 MiB``."""
    if octets < 1024:
        return str(octets)
    number = octets / 1024
    for unit in ("KiB", "MiB", "GiB"):
        if number < 999.5:
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def milliseconds(seconds: float | None) -> str:
    """Return a duration such as ``12 ms`` or ``1.5 s``, and ``-`` for None."""
    return "-" if seconds is None else f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.1f} s"


def count(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 session`` or ``2 sessions``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
