"""The results of the checks of a configuration, and the exit status that they give."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum


class CheckKind(Enum):
    """A kind of check; the value is its name in JSON."""

    CONFIGURATION = "configuration"
    """A problem of the file itself, as ``esxiproxy check`` reports it."""
    HOST = "host"
    CERTIFICATE = "certificate"
    """The files of certificates of the configuration."""
    FILE = "file"
    LIMIT = "limit"


class CheckVerdict(Enum):
    """The verdict of a check, from the best to the worst."""

    OK = "ok"
    WARNING = "warning"
    """Consoles open, and something should be changed."""
    ERROR = "error"
    """Consoles do not open, or will not open within days."""

    @property
    def rank(self) -> int:
        """The place among the verdicts: 0 is the best."""
        return list(CheckVerdict).index(self)

    def or_worse(self, other: CheckVerdict) -> CheckVerdict:
        """Return the worse one of two verdicts."""
        return max(self, other, key=lambda verdict: verdict.rank)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check.

    ``section`` is the header of the section without brackets.  ``name`` is the host's name or the key.
    ``address`` is an IP address with its port, a path, or a file with its line.  ``finding`` is a sentence
    that says what to do.  ``certificate_days`` are the whole days until the certificate expires.
    """

    kind: CheckKind
    verdict: CheckVerdict
    section: str
    name: str
    address: str
    finding: str
    certificate_days: int | None = None
    milliseconds: float | None = None


def worst_first(results: Iterable[CheckResult]) -> list[CheckResult]:
    """Return the results with errors first; those of one verdict keep their order."""
    return sorted(results, key=lambda result: -result.verdict.rank)


def exit_status_of(results: Sequence[CheckResult], strict: bool) -> int:
    """Return 1 for an error, or for a warning if ``strict``; 0 otherwise."""
    failing = CheckVerdict.WARNING if strict else CheckVerdict.ERROR
    return int(any(result.verdict.rank >= failing.rank for result in results))
