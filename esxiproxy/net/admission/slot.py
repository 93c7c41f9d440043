"""A unit of a limit that is in use, and is released once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from esxiproxy.core.session.session import Session


class Slot:
    """A unit of one or more limits, which is in use until ``release`` is called.

    ``on_release`` is called by the first ``release``; further calls have no effect.  ``on_connected`` is
    called when the connection that the slot is for is made.  ``names`` are the names of its claims.
    """

    __slots__ = ("_on_connected", "_on_release", "names")

    def __init__(
        self,
        on_release: Callable[[], None],
        on_connected: Callable[[], None] = lambda: None,
        names: tuple[str, ...] = (),
    ) -> None:
        self.names = names
        self._on_release: Callable[[], None] | None = on_release
        self._on_connected = on_connected

    def release(self) -> None:
        """Release the slot, if it is not released yet."""
        on_release, self._on_release = self._on_release, None
        if on_release is not None:
            on_release()

    def connected(self) -> None:
        """Note that the connection that the slot is for is made."""
        self._on_connected()


class CountedSlot(Slot):
    """A slot that counts under a name until it is released."""

    __slots__ = ("_counter", "_name")

    def __init__(self, counter: Counter[str], name: str) -> None:
        self._counter: Counter[str] | None = counter
        self._name = name

    def release(self) -> None:
        counter, self._counter = self._counter, None
        if counter is not None:
            count_down(counter, self._name)


class ConnectionSlot(Slot):
    """The slot of a connection to an address, which is counted even if it has no claims.

    ``on_release`` is called with the address, and with the name and the claims of the slot.  ``on_connected``
    is called with the session that the connection is for, if any.
    """

    __slots__ = ("_address", "_end", "_mark", "_name", "_session")

    def __init__(
        self,
        on_release: Callable[[str, str, tuple[str, ...]], None],
        on_connected: Callable[[Session], None],
        session: Session | None,
        address: str,
        name: str,
        names: tuple[str, ...],
    ) -> None:
        self.names = names
        self._end: Callable[[str, str, tuple[str, ...]], None] | None = on_release
        self._mark = on_connected
        self._session = session
        self._address = address
        self._name = name

    def release(self) -> None:
        end, self._end = self._end, None
        if end is not None:
            end(self._address, self._name, self.names)

    def connected(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._mark(session)


def count_down(counter: Counter[str], name: str) -> None:
    """Count one less, and remove the name at 0."""
    left = counter[name] - 1
    if left:
        counter[name] = left
    else:
        counter.pop(name)


class SlotOwner:
    """A mixin for protocols that release their slot when the connection is closed.

    It precedes the protocol class in the bases.  Transports close their descriptor before they call
    ``connectionLost``.  The slot of a connection that is never made is released by the connector.
    """

    __slots__ = ()

    slot: Slot | None = None

    def makeConnection(self, transport: Any) -> None:
        if self.slot is not None:
            self.slot.connected()
        super().makeConnection(transport)  # type: ignore[misc]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.slot is not None:
            self.slot.release()
        super().connectionLost(reason)  # type: ignore[misc]
