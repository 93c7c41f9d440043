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
        self._given: Callable[[], None] | None = given
        self._connected = connected

    def give(self) -> None:
        """Somebody else may have it."""
        given, self._given = self._given, None
        if given is not None:
            given()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Given back by what is raised in the block."""
        try:
            yield
        except BaseException:
            self.give()
            raise

    def follow(self, protocol: Any) -> None:
        """Before the dial: give it back when the connection of this protocol is closed.

        Every transport closes its descriptor before it calls ``connectionLost``.  Where there will be no
        connection, it is for whoever dials to ``give`` it back.
        """
        make, lost = protocol.makeConnection, protocol.connectionLost

        def made(transport: Any) -> None:
            self._connected()
            make(transport)

        def gone(reason: Failure = connectionDone) -> None:
            self.give()
            vars(protocol).pop("makeConnection", None)  # circles
            vars(protocol).pop("connectionLost", None)
            lost(reason)

        protocol.makeConnection, protocol.connectionLost = made, gone
