"""The findings of the doctor: one for each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Step(Enum):
    """The steps of a console's connection, in order; the value is the step's name in the output."""

    DNS = "dns"
    TCP = "tcp"
    TLS = "tls"
    HANDSHAKE = "handshake"
    SUBPROTOCOL = "subprotocol"
    FIRST_FRAME = "first frame"
    PING = "ping"
    CLOSE = "close"

    @property
    def exit_status(self) -> int:
        """The command's exit status if this step fails.  A failure of the last two steps gives 0."""
        return _EXIT_STATUS.get(self, 0)


_EXIT_STATUS = {
    Step.DNS: 10,
    Step.TCP: 11,
    Step.TLS: 12,
    Step.HANDSHAKE: 13,
    Step.SUBPROTOCOL: 14,
    Step.FIRST_FRAME: 15,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one step and its duration in seconds.

    ``facts`` has JSON values.  ``sentence`` says what happened, where, and what to change.
    """

    step: Step
    ok: bool
    seconds: float
    sentence: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def failed(findings: Sequence[Finding]) -> Finding | None:
    """Return the first step that failed.  Failures of later steps may be consequences of it."""
    return next((finding for finding in findings if not finding.ok), None)


def exit_status(findings: Sequence[Finding]) -> int:
    """Return 0, or the exit status of the first step that failed."""
    first = failed(findings)
    return 0 if first is None else first.step.exit_status
