"""The output of results: a table for people, and a list of objects for scripts."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from esxiproxy.doctor.configuration.result import CheckKind, CheckResult, CheckVerdict
from esxiproxy.doctor.sanitize import printable_line

_HEADER = ("VERDICT", "NAME", "ADDRESS", "DAYS", "MS", "FINDING")
_TO_THE_RIGHT = (3, 4)
_GAP = "  "
_NARROW_FINDING = 32
"""With less than this many columns left, a finding has a line of its own."""
_INDENT = "    "
_LONGEST = 1000
"""Maximum number of characters of a finding; a host may cause a long one."""


def as_object(result: CheckResult) -> dict[str, Any]:
    """Return a result as a JSON object.  Scripts may rely on the names."""
    milliseconds = result.milliseconds
    return {
        "check": result.kind.value,
        "verdict": result.verdict.value,
        "section": _shown(result.section),
        "name": _shown(result.name),
        "address": _shown(result.address),
        "certificate_days": result.certificate_days,
        "milliseconds": None if milliseconds is None else round(milliseconds, 3),
        "finding": _shown(result.finding),
    }


def table_lines(results: Sequence[CheckResult], width: int | None) -> Iterator[str]:
    """Yield the lines of a table, which fit into ``width`` columns.

    With a width, long names and addresses are cut in the middle, and findings are wrapped.  Without one, each
    result is one line.
    """
    rows = [_HEADER, *map(_cells, results)]
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    if width is not None:
        longest = max(12, width // 4)
        sizes[1], sizes[2] = min(sizes[1], longest), min(sizes[2], longest)
    left = None if width is None else width - sum(sizes) - len(_GAP) * len(sizes)
    for *cells, finding in rows:
        start = _GAP.join(_column(cell, number, sizes[number]) for number, cell in enumerate(cells))
        yield from _with_finding(start, finding, left, width)


def summary(source: str, results: Sequence[CheckResult], hosts: int, checked: int) -> str:
    """Return the last line: how many hosts were checked, and the numbers of verdicts."""
    of_hosts = _counted(result for result in results if result.kind is CheckKind.HOST)
    others = _counted(result for result in results if result.kind is not CheckKind.HOST)
    part = (
        f"{_number(hosts, 'host')}" if checked == hosts else f"{checked} of {_number(hosts, 'host')} checked"
    )
    return (
        f"{printable_line(source)}: {part}: {of_hosts}; configuration, certificates, files, limits: {others}"
    )


def _with_finding(start: str, finding: str, left: int | None, width: int | None) -> Iterator[str]:
    if left is None or width is None:
        yield f"{start}{_GAP}{finding}"
    elif left < _NARROW_FINDING:
        yield start.rstrip()
        indent = _INDENT
        yield from textwrap.wrap(
            finding, max(20, width), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
        )
    else:
        first, *rest = textwrap.wrap(finding, left, break_on_hyphens=False) or [""]
        yield f"{start}{_GAP}{first}".rstrip()
        for line in rest:
            yield f"{' ' * (width - left)}{line}"


def _cells(result: CheckResult) -> tuple[str, ...]:
    days, milliseconds = result.certificate_days, result.milliseconds
    return (
        result.verdict.value,
        _shown(_title(result)),
        _shown(result.address) or "-",
        "-" if days is None else str(days),
        "-" if milliseconds is None else f"{milliseconds:.0f}",
        _shown(result.finding),
    )


def _title(result: CheckResult) -> str:
    """Return the name of a host, or the section and the key of another result."""
    if result.kind is CheckKind.HOST:
        return result.name
    return " ".join(part for part in (f"[{result.section}]" if result.section else "", result.name) if part)


def _column(cell: str, number: int, size: int) -> str:
    if len(cell) > size:  # the key and the port are at the end
        end = (size - 3) // 2
        cell = f"{cell[: size - 3 - end]}...{cell[len(cell) - end :]}"
    return cell.rjust(size) if number in _TO_THE_RIGHT else cell.ljust(size)


def _shown(text: str) -> str:
    return printable_line(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}...")


def _counted(results: Iterable[CheckResult]) -> str:
    counts = Counter(result.verdict for result in results)
    parts = [f"{counts[CheckVerdict.OK]} ok"] if counts[CheckVerdict.OK] else []
    parts += [
        _number(counts[verdict], verdict.value)
        for verdict in (CheckVerdict.WARNING, CheckVerdict.ERROR)
        if counts[verdict]
    ]
    return ", ".join(parts) or "no finding"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
