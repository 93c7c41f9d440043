"""Something taken under a limit, which is given back once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure


class Slot:
    """Taken, until ``give`` is called; after that it does nothing.

    ``names`` are the names of the claims under which it is taken.
    """

    def __init__(
        self,
        given: Callable[[], None],
        connected: Callable[[], None] = lambda: None,
        names: tuple[str, ...] = (),
    ) -> None:
        self.names = names
        self._on_release: Callable[[], None] | None = given
        self._on_connected = connected

    def release(self) -> None:
        """Somebody else may have it."""
        given, self._on_release = self._on_release, None
        if given is not None:
            given()

    @contextmanager
    def released_on_error(self) -> Iterator[None]:
        """Given back by what is raised in the block."""
        try:
            yield
        except BaseException:
            self.release()
            raise

    def connected(self) -> None:
        """Note that the connection for which it was taken is made."""
        self._on_connected()


class SlotOwner:
    """A protocol that releases its slot when its connection is closed; to be mixed in before the protocol.

    Every transport closes its descriptor before it calls ``connectionLost``.  The caller that dials releases
    the slot of a connection that is never made.
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
