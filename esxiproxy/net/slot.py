"""Something taken under a limit, which is given back once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

T = TypeVar("T")


class Slot:
    """Taken, until ``give`` is called; after that it does nothing."""

    def __init__(self, given: Callable[[], None]) -> None:
        self._given: Callable[[], None] | None = given
        self._connected = False

    def give(self) -> None:
        """Somebody else may have it."""
        given, self._given = self._given, None
        if given is not None:
            given()

    def follow(
        self, protocol: Any, dialling: Deferred[T], connected: Callable[[], None] = lambda: None
    ) -> Deferred[T]:
        """Give it back when the protocol's connection is closed, or when no connection came of the dial.

        A failed dial may have left a connection that is being closed: an ESXi host counts it until it is, and
        so do we.  Every transport closes its descriptor before it calls ``connectionLost``.
        """
        make, lost = protocol.makeConnection, protocol.connectionLost

        def made(transport: Any) -> None:
            self._connected = True
            connected()
            make(transport)

        def gone(reason: Failure = connectionDone) -> None:
            self.give()
            lost(reason)

        protocol.makeConnection, protocol.connectionLost = made, gone
        return dialling.addBoth(self._dialled)

    def _dialled(self, outcome: T) -> T:
        if not self._connected:
            self.give()
        return outcome
