"""What is wrong with a configuration, and where: a value for each thing, and the errors that carry them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


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

    def __str__(self) -> str:
        section = None if self.section is None else f"[{self.section}]"
        place = " ".join(part for part in (section, self.key) if part is not None)
        return f"{self.file}:{self.line}: {place}{': ' if place else ''}{self.text}"


class ConfigError(Exception):
    """A configuration that cannot be used; ``problems`` has everything that is wrong, in line order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


class CannotStart(Exception):
    """What ends the start, in one line that says why."""


class Unbound(CannotStart):
    """A listener's address cannot be bound."""
