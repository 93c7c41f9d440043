"""The faults of a simulated host, for all of its requests or for one (`?fault=NAME`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final


class SimFault(Enum):
    """One misbehaviour; the value is its name in a query and on the command line."""

    SILENT_CONNECT = "silent-connect"
    """Accepts TCP and sends nothing, no TLS either. Only for a whole host, because no request is read."""
    SILENT_REQUEST = "silent-request"
    """Reads the request and never answers."""
    REFUSE = "refuse"
    """Answers with `status` and `body` instead of 101."""
    GARBAGE = "garbage"
    """Answers with bytes that are not HTTP and drops the connection."""
    ENDLESS_HEAD = "endless-head"
    """Answers 101 with an endless series of fields."""
    DELAY = "delay"
    """Delays the answer to the opening handshake by `seconds`."""
    WRONG_ACCEPT = "wrong-accept"
    """101 with a Sec-WebSocket-Accept that belongs to another key."""
    WRONG_SUBPROTOCOL = "wrong-subprotocol"
    """101 with a subprotocol that the client did not offer."""
    DROP = "drop"
    """101, then the connection is dropped without a Close."""
    DROP_MID_FRAME = "drop-mid-frame"
    """101, then the connection is dropped within a data frame."""
    CLOSE = "close"
    """101, then a Close with `code` and `reason`; the connection is closed after the client's Close."""
    CLOSE_LINGER = "close-linger"
    """101, then a Close with `code` and `reason`; the connection stays open."""
    IGNORE_CLOSE = "ignore-close"
    """Does not answer the client's Close and keeps the connection open."""
    BAD_FRAME = "bad-frame"
    """101, then a frame with a reserved opcode."""
    STALL = "stall"
    """101, then stops reading, so that it does not notice the end of the connection either."""


BEFORE_101: Final = frozenset(
    {SimFault.SILENT_REQUEST, SimFault.REFUSE, SimFault.GARBAGE, SimFault.ENDLESS_HEAD, SimFault.DELAY}
)
"""Faults before the ticket is checked. Only DELAY uses the ticket up."""

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
"""Faults `seconds` after the 101. The console works until then."""

GARBAGE: Final = b"SSH-2.0-this_is_no_HTTP\r\n\x00\xff\x16\x03\x01\r\n\r\n"
ENDLESS_START: Final = b"HTTP/1.1 101 Switching Protocols\r\n"
ENDLESS_PART: Final = b"".join(b"X-Endless-%d: %s\r\n" % (number, b"x" * 100) for number in range(32))
HALF_FRAME: Final = b"\x82\x7e\xff\xff" + bytes(100)
"""A binary frame with a length of 65,535 bytes of which 100 follow."""
BAD_FRAME: Final = b"\x83\x00"


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """A fault and its parameters; None means no fault."""

    fault: SimFault | None = None
    seconds: float = 0.0
    status: int = 503
    body: str = "refused by the simulated host\n"
    code: int = 1011
    reason: str = "fault of the simulated host"

    def __post_init__(self) -> None:
        if not 100 <= self.status <= 599:
            raise ValueError(f"status {self.status} is not an HTTP status (100 to 599)")
        if not 1000 <= self.code <= 4999:
            raise ValueError(f"code {self.code} is not a close code (1000 to 4999)")
        if len(self.reason.encode("utf-8")) > 123:
            raise ValueError("the close reason is longer than 123 bytes")
        # This form of the comparison rejects NaN too, for which a timer never fires.
        if not 0 <= self.seconds <= 86400:
            raise ValueError("seconds must be between 0 and 86400")

    def for_query(self, query: Mapping[str, list[str]]) -> FaultPlan:
        """Return this plan with the values in a request's query. Raises ValueError for invalid values."""
        if "fault" not in query:
            return self
        fault = SimFault(query["fault"][-1])
        if fault is SimFault.SILENT_CONNECT:
            raise ValueError("silent-connect applies only to a whole host")
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
    """A pull producer of fields, which keeps the memory of an endless head bounded."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def resumeProducing(self) -> None:
        self._transport.write(ENDLESS_PART)

    def stopProducing(self) -> None:
        """Ignore the end of the connection."""
