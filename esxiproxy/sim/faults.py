"""What a simulated host does wrong on demand, for a whole host or for one request (`?fault=NAME`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final


class SimFault(Enum):
    """One misbehaviour; the value is its name in a query and on the command line."""

    SILENT_CONNECT = "silent-connect"
    """Accepts TCP and says nothing, not even TLS. Of a whole host only: no request is ever read."""
    SILENT_REQUEST = "silent-request"
    """Reads the request and never answers."""
    REFUSE = "refuse"
    """Answers with `status` and `body` instead of 101."""
    GARBAGE = "garbage"
    """Answers with bytes that are no HTTP, and drops the connection."""
    ENDLESS_HEAD = "endless-head"
    """Answers 101 with fields that never end."""
    DELAY = "delay"
    """Holds the opening handshake for `seconds`, then goes on as usual."""
    WRONG_ACCEPT = "wrong-accept"
    """101 with a Sec-WebSocket-Accept that belongs to another key."""
    WRONG_SUBPROTOCOL = "wrong-subprotocol"
    """101 with a subprotocol that nobody offered."""
    DROP = "drop"
    """101, then TCP is dropped without a Close."""
    DROP_MID_FRAME = "drop-mid-frame"
    """101, then TCP is dropped within a data frame."""
    CLOSE = "close"
    """101, then a Close with `code` and `reason`; TCP is dropped when it was answered."""
    CLOSE_LINGER = "close-linger"
    """The same, but TCP stays open for good."""
    IGNORE_CLOSE = "ignore-close"
    """Never answers the client's Close and keeps TCP open."""
    BAD_FRAME = "bad-frame"
    """101, then a frame with a reserved opcode."""
    STALL = "stall"
    """101, then stops reading. (It does not see its client leave either.)"""


BEFORE_101: Final = frozenset(
    {SimFault.SILENT_REQUEST, SimFault.REFUSE, SimFault.GARBAGE, SimFault.ENDLESS_HEAD, SimFault.DELAY}
)
"""These act before the ticket is looked at; except for DELAY it is not used up."""

AFTER_101: Final = frozenset(
    {
        SimFault.DROP,
        SimFault.DROP_MID_FRAME,
        SimFault.CLOSE,
        SimFault.CLOSE_LINGER,
        SimFault.BAD_FRAME,
        SimFault.STALL,
    }
)
"""These act `seconds` after the 101; until then the console works."""

GARBAGE: Final = b"SSH-2.0-this_is_no_HTTP\r\n\x00\xff\x16\x03\x01\r\n\r\n"
ENDLESS_START: Final = b"HTTP/1.1 101 Switching Protocols\r\n"
ENDLESS_PART: Final = b"".join(b"X-Endless-%d: %s\r\n" % (number, b"x" * 100) for number in range(32))
HALF_FRAME: Final = b"\x82\x7e\xff\xff" + bytes(100)
"""A binary frame that announces 65,535 bytes and brings 100."""
BAD_FRAME: Final = b"\x83\x00"


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """A fault and its numbers; without a fault the host behaves."""

    fault: SimFault | None = None
    seconds: float = 0.0
    status: int = 503
    body: str = "refused by the simulated host\n"
    code: int = 1011
    reason: str = "fault of the simulated host"

    def __post_init__(self) -> None:
        if not 100 <= self.status <= 599:
            raise ValueError(f"status {self.status} is no HTTP status")
        if not 1000 <= self.code <= 4999:
            raise ValueError(f"code {self.code} is no close code")
        if len(self.reason.encode("utf-8")) > 123:
            raise ValueError("a close reason has 123 bytes at most")
        # Written this way round it refuses NaN too, which the reactor would take and never fire.
        if not 0 <= self.seconds <= 86400:
            raise ValueError("seconds must lie between 0 and 86400")

    def for_query(self, query: Mapping[str, list[str]]) -> FaultPlan:
        """A request's plan: this one, with what the query says instead. ValueError if it says nonsense."""
        if "fault" not in query:
            return self
        fault = SimFault(query["fault"][-1])
        if fault is SimFault.SILENT_CONNECT:
            raise ValueError("silent-connect is a fault of a whole host")
        plan = replace(self, fault=fault)
        if "seconds" in query:
            plan = replace(plan, seconds=float(query["seconds"][-1]))
        if "status" in query:
            plan = replace(plan, status=int(query["status"][-1]))
        if "code" in query:
            plan = replace(plan, code=int(query["code"][-1]))
        if "body" in query:
            plan = replace(plan, body=query["body"][-1])
        if "reason" in query:
            plan = replace(plan, reason=query["reason"][-1])
        return plan


NO_FAULT: Final = FaultPlan()


class EndlessHead:
    """A pull producer of fields, so that the endless head takes no more memory than the transport's."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def resumeProducing(self) -> None:
        self._transport.write(ENDLESS_PART)

    def stopProducing(self) -> None:
        """The client left; there is nothing to give back."""
