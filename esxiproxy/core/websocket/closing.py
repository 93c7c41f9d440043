"""The close handshake through the proxy, as a state machine.

A Close or a fault of one peer is carried to the other peer first.  The first leg sends nothing more
meanwhile, and data from the other leg is still delivered.  The first peer gets its answer after the other
peer has closed, so each peer sees the closing handshake of RFC 6455 7.1.2 as without a proxy.  There are two
stages, each with half of ``close_timeout``.  After them the remaining connections are aborted.

This module has no I/O: it turns events into actions, and :mod:`esxiproxy.net.console.relay` performs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from esxiproxy.core.errors import ClientLost, SessionError, UpstreamLost


class Side(Enum):
    """One of the two legs of a session."""

    CLIENT = "client"
    UPSTREAM = "upstream"

    __hash__ = object.__hash__  # Enum's own is slow, and each session calls it fifty times

    @property
    def other(self) -> Side:
        return UPSTREAM if self is CLIENT else CLIENT


# A member of an Enum costs 700 instructions to look up in Python 3.11, and a global variable costs 5.
CLIENT, UPSTREAM = Side.CLIENT, Side.UPSTREAM


class ClosingPhase(Enum):
    """A stage of the closing handshake."""

    OPEN = auto()
    CARRYING = auto()
    """One leg has ended.  The other leg got its Close and may still send data."""
    ANSWERING = auto()
    """Both legs have ended, and their connections are being closed."""
    CLOSED = auto()


class LegAction(Enum):
    """An action on a leg."""

    SEND_CLOSE = auto()
    DROP = auto()
    """Send the queued bytes and close the connection."""
    LINGER = auto()
    """Send the queued bytes and a FIN, and read until the peer's end, since it may still be sending."""
    ABORT = auto()


_RESERVED_CLOSE_CODES = frozenset({1004, 1005, 1006, 1015})


def may_be_sent(code: int) -> bool:
    """Return whether a Close frame may carry this code (RFC 6455 7.4, and IANA's registry up to 1014)."""
    if code == 1000:  # the code of nearly every Close
        return True
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in _RESERVED_CLOSE_CODES)


@dataclass(frozen=True, slots=True)
class Close:
    """The content of a Close frame: a code and a reason of at most 123 bytes, or neither (``code`` None)."""

    code: int | None = None
    reason: bytes = b""

    @classmethod
    def of(cls, error: SessionError, code: int | None = None) -> Close:
        """Return the Close for this failure, with its own code or the given one."""
        return cls(error.close_code if code is None else code, truncated(error.detail))


class Action(NamedTuple):
    """An action on one leg, with the Close to send for SEND_CLOSE."""

    action: LegAction
    side: Side
    close: Close | None = None


def truncated(reason: str, limit: int = 123) -> bytes:
    """Return a close reason in UTF-8, cut between characters to ``limit`` bytes (RFC 6455 5.5)."""
    return reason.encode("utf-8")[:limit].decode("utf-8", "ignore").encode("utf-8")


def peer_notice(side: Side, error: SessionError) -> Close:
    """Return the Close for the other peer when this side was lost or violated the protocol.

    An upstream gets 1001 (its client is going away), a client gets 1011 (its server failed).
    """
    return Close.of(error, 1001 if side is CLIENT else 1011)


_NO_CLOSE = Close()
_OPEN, _CARRYING = ClosingPhase.OPEN, ClosingPhase.CARRYING
_ANSWERING, _CLOSED = ClosingPhase.ANSWERING, ClosingPhase.CLOSED
_SEND_CLOSE, _DROP = LegAction.SEND_CLOSE, LegAction.DROP
_LINGER, _ABORT = LegAction.LINGER, LegAction.ABORT


class Closing:
    """The state machine of the end of one session.

    Each event returns the actions that follow from it, in order.  The caller calls ``expired`` when a stage
    has lasted for ``close_timeout`` / 2 since ``phase`` changed to CARRYING, and again since it changed to
    ANSWERING.
    """

    __slots__ = ("_answer", "_close_received", "_close_sent", "_disconnected", "_first", "phase")

    def __init__(self) -> None:
        self.phase = _OPEN
        self._first: Side | None = None
        self._answer = _NO_CLOSE
        self._close_sent: set[Side] = set()
        self._close_received: set[Side] = set()
        self._disconnected: set[Side] = set()

    def forwards_from(self, side: Side) -> bool:
        """Return whether data of this side is still forwarded."""
        if self.phase is _OPEN:
            return True
        return self.phase is _CARRYING and side is not self._first

    def is_gone(self, side: Side) -> bool:
        """Return whether the connection of this side has ended."""
        return side in self._disconnected

    def close_received(self, side: Side, close: Close) -> list[Action]:
        """Handle a Close frame from this side."""
        self._close_received.add(side)
        if self.phase is _OPEN:
            return self._pass_on(side, answer=close, notice=close)
        if self.phase is _CARRYING and side is not self._first:
            if self._first in self._close_received:  # the first peer gets the answer of the other peer
                self._answer = close
            return self._answer_and_close()
        return self._drop(side)

    def faulted(self, side: Side, error: SessionError) -> list[Action]:
        """Handle a protocol violation of this side, after which its data cannot be parsed."""
        if self.phase is _OPEN:
            return self._pass_on(side, answer=Close.of(error), notice=peer_notice(side, error))
        if self.phase is _CARRYING and side is not self._first:
            return self._answer_and_close()
        return self._drop(side)

    def lost(self, side: Side) -> list[Action]:
        """Handle the end of this side's connection."""
        self._disconnected.add(side)
        if len(self._disconnected) == 2:
            self.phase = _CLOSED
            return []
        if self.phase is _OPEN:
            error: SessionError = ClientLost("the client is gone")
            if side is UPSTREAM:
                error = UpstreamLost("the host is gone")
            self.phase = _ANSWERING
            return self._send_close(side.other, Close.of(error))
        if self.phase is _CARRYING and side is not self._first:
            return self._answer_and_close()
        return []

    def demanded(self, error: SessionError) -> list[Action]:
        """End the session from the proxy.  Do nothing if its end has begun."""
        if self.phase is not _OPEN:
            return []
        self.phase = _ANSWERING
        close = Close.of(error)
        return [*self._send_close(CLIENT, close), *self._send_close(UPSTREAM, close)]

    def expired(self) -> list[Action]:
        """Handle the timeout of the current stage."""
        if self.phase is _CARRYING:
            assert self._first is not None
            return [*self._abort(self._first.other), *self._answer_and_close()]
        return [*self._abort(CLIENT), *self._abort(UPSTREAM)]

    def _pass_on(self, side: Side, answer: Close, notice: Close) -> list[Action]:
        self.phase = _CARRYING
        self._first = side
        self._answer = answer
        return self._send_close(side.other, notice)

    def _answer_and_close(self) -> list[Action]:
        """Answer the first leg after the end of the other leg, and close both connections."""
        assert self._first is not None
        self.phase = _ANSWERING
        first = self._first
        return [*self._send_close(first, self._answer), *self._drop(first), *self._drop(first.other)]

    def _send_close(self, side: Side, close: Close) -> list[Action]:
        if side in self._close_sent or side in self._disconnected:
            return []
        self._close_sent.add(side)
        return [Action(_SEND_CLOSE, side, close)]

    def _drop(self, side: Side) -> list[Action]:
        """Return the action that ends this side's connection.

        After a full closing handshake the server closes the connection (RFC 6455 7.1.1): the proxy towards
        the client, and the upstream towards the proxy.
        """
        if side in self._disconnected:
            return []
        if side in self._close_received and side in self._close_sent:
            return [Action(_DROP, side)] if side is CLIENT else []
        return [Action(_LINGER, side)]

    def _abort(self, side: Side) -> list[Action]:
        return [] if side in self._disconnected else [Action(_ABORT, side)]
