"""What the doctor found: one value a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Step(Enum):
    """The steps of the way to a console, in their order; the value is the step's name in the output."""

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
        """The command's exit status when this step failed; the last two only inform."""
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
    """One step: whether it went well, how long it took, what was seen, and what that means in a sentence.

    ``facts`` hold what JSON can hold.  ``sentence`` says what happened, where, and what to change.
    """

    step: Step
    ok: bool
    seconds: float
    sentence: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def failed(findings: Sequence[Finding]) -> Finding | None:
    """The first step that went wrong: what comes after it may be its consequence."""
    return next((finding for finding in findings if not finding.ok), None)


def exit_status(findings: Sequence[Finding]) -> int:
    """0, or the status of the first step that went wrong."""
    first = failed(findings)
    return 0 if first is None else first.step.exit_status
