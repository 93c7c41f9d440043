"""The errors of a configuration: a bad value, a problem with its place, and the error with all problems."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from esxiproxy.core.redaction import redact_text


class BadValue(ValueError):
    """An invalid value of a key.  ``str()`` says which values are valid."""


def shown(text: str) -> str:
    """Return the text in quotes, cut if it is long, without the secrets that a URL may have."""
    plain = redact_text(text)
    return f"'{plain if len(plain) <= 60 else plain[:57] + '...'}'"


class Severity(Enum):
    """The severity of a problem."""

    ERROR = "error"
    """The configuration cannot be used."""
    WARNING = "warning"
    """The configuration can be used but may have an unexpected effect."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a configuration, with its place in the form that editors recognise.

    ``file`` is the path as it was given.  ``section`` is the header without its brackets.  A problem of the
    whole file has line 1, and a missing key has the line of its section's header.
    """

    file: str
    line: int
    section: str | None
    key: str | None
    text: str
    severity: Severity = Severity.ERROR

    @property
    def is_error(self) -> bool:
        """Whether the problem makes the configuration unusable."""
        return self.severity is Severity.ERROR

    def __str__(self) -> str:
        section = None if self.section is None else f"[{self.section}]"
        place = " ".join(part for part in (section, self.key) if part is not None)
        severity = "" if self.is_error else f"{self.severity.value}: "
        return f"{self.file}:{self.line}: {severity}{place}{': ' if place else ''}{self.text}"


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return these problems in the order of their lines."""
    return tuple(sorted(problems, key=lambda problem: problem.line))


class ConfigError(Exception):
    """An unusable configuration.  ``problems`` has all problems in line order, warnings included."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = in_order(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))
