"""What is wrong with a configuration: a value, a problem with its place, and the error that has all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class BadValue(ValueError):
    """A text that is no such value; ``str()`` says what would be one."""


def shown(text: str) -> str:
    """The text in quotes, cut short where it is long."""
    return f"'{text if len(text) <= 60 else text[:57] + '...'}'"


class Severity(Enum):
    """How bad a problem is."""

    ERROR = "error"
    """The configuration cannot be used."""
    WARNING = "warning"
    """The configuration can be used, and its author may not know what it means."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, said so that an editor can jump to it.

    ``file`` is the path as it was given.  ``section`` is the header without its brackets.  What concerns the
    whole file stands at line 1, and what is missing from a section at the line of its header.
    """

    file: str
    line: int
    section: str | None
    key: str | None
    text: str
    severity: Severity = Severity.ERROR

    @property
    def is_error(self) -> bool:
        """Whether the configuration cannot be used because of it."""
        return self.severity is Severity.ERROR

    def __str__(self) -> str:
        section = None if self.section is None else f"[{self.section}]"
        place = " ".join(part for part in (section, self.key) if part is not None)
        severity = "" if self.is_error else f"{self.severity.value}: "
        return f"{self.file}:{self.line}: {severity}{place}{': ' if place else ''}{self.text}"


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return these problems as a reader of the file meets them."""
    return tuple(sorted(problems, key=lambda problem: problem.line))


class ConfigError(Exception):
    """A configuration that cannot be used; ``problems`` has everything that is wrong, in line order.

    Warnings are among them, and at least one error.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = in_order(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))
