"""Filters, sorts and cuts the rows of a list: pure functions, for pages of the API and for event streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

MAX_WORDS = 32
"""Words of a filter that are used."""


class Listed(Protocol):
    """A row of a list, before it is written as JSON.

    ``key`` is unique in the list.  ``words`` are its texts in lower case, joined by line feeds.
    """

    @property
    def key(self) -> str:
        """The key of the row."""

    @property
    def words(self) -> str:
        """The texts of the row."""

    def column(self, name: str) -> Any:
        """Return the value of a column; None if it is unknown."""

    def fields(self, now: float) -> dict[str, Any]:
        """Return the row as the API returns it at this time of day."""


L = TypeVar("L", bound=Listed)


@dataclass(frozen=True, slots=True)
class WindowRequest:
    """The window of a list that is asked for.  ``filter`` has words; ``sort`` is the name of a column."""

    filter: str = ""
    sort: str = ""
    descending: bool = False
    offset: int = 0
    limit: int = 100

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> WindowRequest:
        """Return the window of the checked parameters of a call."""
        return cls(
            parameters.get("filter", ""),
            parameters["sort"],
            parameters["order"] == "desc",
            parameters["offset"],
            parameters["limit"],
        )

    def sorted_by(self, column: str) -> WindowRequest:
        """Return this window sorted by another column."""
        return replace(self, sort=column)


@dataclass(frozen=True, slots=True)
class Window(Generic[L]):
    """The rows of a window, the number of all rows, and of those that the filter selects."""

    rows: Sequence[L]
    total: int
    matching: int


def window(rows: Sequence[L], columns: frozenset[str], request: WindowRequest) -> Window[L]:
    """Return a window of these rows.

    Rows that are equal in the column keep their order, in both directions, and rows without a value are the
    last.  ``columns`` are those that a word of the filter may name.
    """
    matches = _filter(request.filter, columns)
    matching = [row for row in rows if matches(row)] if matches is not None else rows
    ordered = _ordered(matching, request.sort, request.descending) if request.sort else matching
    end = request.offset + request.limit
    return Window(ordered[request.offset : end], len(rows), len(matching))


def page(name: str, found: Window[L], request: WindowRequest, now: float) -> dict[str, Any]:
    """Return a window as the API returns a page; ``name`` is that of its rows."""
    return {
        name: [row.fields(now) for row in found.rows],
        "total": found.total,
        "matching": found.matching,
        "offset": request.offset,
    }


def _ordered(rows: Sequence[L], column: str, descending: bool) -> Sequence[L]:
    with_value: list[tuple[Any, L]] = []
    without: list[L] = []
    for row in rows:
        value = row.column(column)
        if value is None:
            without.append(row)
        else:
            with_value.append((value.lower() if isinstance(value, str) else value, row))
    with_value.sort(key=_value, reverse=descending)
    return [row for _value, row in with_value] + without


def _value(pair: tuple[Any, Any]) -> Any:
    return pair[0]


def _filter(text: str, columns: frozenset[str]) -> Callable[[Listed], bool] | None:
    """Return the test of a filter, None if it selects everything.

    A row needs all words.  ``column:word`` looks into one column; in front of any other colon is only text.
    """
    words = text.lower().split()[:MAX_WORDS]
    if not words:
        return None
    anywhere: list[str] = []
    placed: list[tuple[str, str]] = []
    for word in words:
        column, colon, rest = word.partition(":")
        if colon and column in columns:
            placed.append((column, rest))
        else:
            anywhere.append(word)

    def matches(row: Listed) -> bool:
        texts = row.words
        return all(word in texts for word in anywhere) and all(
            word in _text(row.column(column)) for column, word in placed
        )

    return matches


def _text(value: Any) -> str:
    return "" if value is None else str(value).lower()
