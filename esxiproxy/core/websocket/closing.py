"""How a session ends: the transition table from the first sign of it to two closed connections.

A Close or a fault is *carried through*: the leg that shows it sends nothing more of its own, the other leg
gets its Close first, what still comes from there is delivered, and the first leg gets its answer after that.
So neither peer learns of an end before the other one has had its say (RFC 6455 7.1.2), as if no proxy stood
between them.  Two stages, each with half of ``close_timeout``; then whatever is left is aborted.

No I/O in here: events go in, actions come out, and :mod:`esxiproxy.net.console.relay` carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from esxiproxy.core.errors import ClientLost, SessionError, UpstreamLost


class Side(Enum):
    """One of the two legs of a session."""

    CLIENT = "client"
    UPSTREAM = "upstream"

    __hash__ = object.__hash__  # Enum's own is Python, and each session asks for it fifty times

    @property
    def other(self) -> Side:
        return Side.UPSTREAM if self is Side.CLIENT else Side.CLIENT


class ClosingPhase(Enum):
    """How far the end has come."""

    OPEN = auto()
    CARRYING = auto()
    """One leg has shown its end; the other leg has been told and may still speak."""
    ANSWERING = auto()
    """Nobody has anything more to say; the connections are being closed."""
    CLOSED = auto()


class LegAction(Enum):
    """What is done to a leg."""

    SEND_CLOSE = auto()
    DROP = auto()
    """Close the connection in order, what is queued first."""
    LINGER = auto()
    """Say that nothing more will come, and read to the end: the peer may still be sending."""
    ABORT = auto()


_RESERVED_CLOSE_CODES = frozenset({1004, 1005, 1006, 1015})


def may_be_sent(code: int) -> bool:
    """Whether a Close frame may carry this code (RFC 6455 7.4, and IANA's registry up to 1014)."""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in _RESERVED_CLOSE_CODES)


@dataclass(frozen=True, slots=True)
class Close:
    """What a Close frame carries: a code and a reason of at most 123 bytes, or neither (``code`` None)."""

    code: int | None = None
    reason: bytes = b""

    @classmethod
    def of(cls, error: SessionError, code: int | None = None) -> Close:
        """The Close that tells a peer of this failure."""
        return cls(error.close_code if code is None else code, truncated(error.detail))


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to be done to one leg."""

    action: LegAction
    side: Side
    close: Close | None = None


def truncated(reason: str, limit: int = 123) -> bytes:
    """A close reason in UTF-8 that fits a control frame (RFC 6455 5.5), cut between characters."""
    return reason.encode("utf-8")[:limit].decode("utf-8", "ignore").encode("utf-8")


def peer_notice(side: Side, error: SessionError) -> Close:
    """What the other peer is told when this side was lost or broke the protocol.

    An upstream learns that its client is going away (1001), a client that its server failed (1011).
    """
    return Close.of(error, 1001 if side is Side.CLIENT else 1011)


_NOBODY: frozenset[Side] = frozenset()


class Closing:
    """The end of one session, as a state machine.

    Each event returns the actions that follow from it, in order.  ``expired`` is called when the time of a
    stage is up: ``close_timeout`` / 2 after ``phase`` changed to CARRYING and again to ANSWERING.
    """

    __slots__ = ("_answer", "_close_received", "_close_sent", "_disconnected", "_first", "phase")

    def __init__(self) -> None:
        self.phase = ClosingPhase.OPEN
        self._first: Side | None = None
        self._answer = Close()
        self._close_sent = _NOBODY
        self._close_received = _NOBODY
        self._disconnected = _NOBODY

    def forwards_from(self, side: Side) -> bool:
        """Whether data of this side still goes to the other one."""
        if self.phase is ClosingPhase.OPEN:
            return True
        return self.phase is ClosingPhase.CARRYING and side is not self._first

    def is_gone(self, side: Side) -> bool:
        """Whether the connection of this side has ended."""
        return side in self._disconnected

    def close_received(self, side: Side, close: Close) -> list[Action]:
        """A Close frame came from this side."""
        self._close_received |= {side}
        if self.phase is ClosingPhase.OPEN:
            return self._carry(side, answer=close, notice=close)
        if self.phase is ClosingPhase.CARRYING and side is not self._first:
            if (
                self._first in self._close_received
            ):  # it began with a Close: the answer is the other peer's own
                self._answer = close
            return self._settle()
        return self._drop(side)

    def faulted(self, side: Side, error: SessionError) -> list[Action]:
        """This side broke the protocol: nothing that it sends from here on can be read."""
        if self.phase is ClosingPhase.OPEN:
            return self._carry(side, answer=Close.of(error), notice=peer_notice(side, error))
        if self.phase is ClosingPhase.CARRYING and side is not self._first:
            return self._settle()
        return self._drop(side)

    def lost(self, side: Side) -> list[Action]:
        """The connection of this side has ended."""
        self._disconnected |= {side}
        if len(self._disconnected) == 2:
            self.phase = ClosingPhase.CLOSED
            return []
        if self.phase is ClosingPhase.OPEN:
            error: SessionError = ClientLost("the client is gone")
            if side is Side.UPSTREAM:
                error = UpstreamLost("the host is gone")
            self.phase = ClosingPhase.ANSWERING
            return self._send_close(side.other, Close.of(error))
        if self.phase is ClosingPhase.CARRYING and side is not self._first:
            return self._settle()
        return []

    def demanded(self, error: SessionError) -> list[Action]:
        """We end the session ourselves.  Once an end has begun, it is left to take its course."""
        if self.phase is not ClosingPhase.OPEN:
            return []
        self.phase = ClosingPhase.ANSWERING
        close = Close.of(error)
        return [*self._send_close(Side.CLIENT, close), *self._send_close(Side.UPSTREAM, close)]

    def expired(self) -> list[Action]:
        """The time of this stage is up."""
        if self.phase is ClosingPhase.CARRYING:
            assert self._first is not None
            return [*self._abort(self._first.other), *self._settle()]
        return [*self._abort(Side.CLIENT), *self._abort(Side.UPSTREAM)]

    def _carry(self, side: Side, answer: Close, notice: Close) -> list[Action]:
        self.phase = ClosingPhase.CARRYING
        self._first = side
        self._answer = answer
        return self._send_close(side.other, notice)

    def _settle(self) -> list[Action]:
        """The other leg has had its say: answer the first one, and part from both."""
        assert self._first is not None
        self.phase = ClosingPhase.ANSWERING
        first = self._first
        return [*self._send_close(first, self._answer), *self._drop(first), *self._drop(first.other)]

    def _send_close(self, side: Side, close: Close) -> list[Action]:
        if side in self._close_sent or side in self._disconnected:
            return []
        self._close_sent |= {side}
        return [Action(LegAction.SEND_CLOSE, side, close)]

    def _drop(self, side: Side) -> list[Action]:
        """After a full closing handshake the server closes (RFC 6455 7.1.1): we to the client, they to us."""
        if side in self._disconnected:
            return []
        if side in self._close_received and side in self._close_sent:
            return [Action(LegAction.DROP, side)] if side is Side.CLIENT else []
        return [Action(LegAction.LINGER, side)]

    def _abort(self, side: Side) -> list[Action]:
        return [] if side in self._disconnected else [Action(LegAction.ABORT, side)]
