"""Decides whether the ports of a worker accept, and counts the accepted connections."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.workers.shared.balancing import may_accept
from esxiproxy.workers.shared.reactor import IProcessReactor
from esxiproxy.workers.shared.scoreboard import Scoreboard
from esxiproxy.workers.shared.wakeups import wake

HEARTBEAT_INTERVAL = 0.25
"""Seconds between two heartbeats."""


class CountedConnection:
    """The owner of a stream, which counts its connection until the socket is closed."""

    __slots__ = ("_gate", "transport")

    def __init__(self, gate: AcceptGate) -> None:
        self._gate = gate
        self.transport: Any = None

    def connectionLost(self, reason: Failure) -> None:
        self.transport = None
        self._gate.connection_closed()


@implementer(IReadDescriptor)
class AcceptGate:
    """A gate for accept(), which is shut while the worker has more than its share of all connections.

    All workers share the listening sockets.  A worker that shuts its gate wakes the others, which then check
    whether to open theirs, so that no worker has to poll.  ``wakes`` has an eventfd for each worker.  The
    gate is also shut before ``open`` and after ``close``.
    """

    _log = Logger()

    def __init__(
        self,
        number: int,
        board: Scoreboard,
        wakes: Sequence[int],
        reactor: IProcessReactor,
        nanoseconds: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._number = number
        self._scoreboard = board
        self._wakes = wakes
        self._reactor = reactor
        self._nanoseconds = nanoseconds
        self._ports: tuple[Any, ...] = ()
        self._kept: tuple[Any, ...] = ()
        """The ports that accept while the gate is open: all of them, and some during a drain."""
        self._connections = 0
        self._opened = False
        self._is_shut = True
        self._heartbeat_timer = LoopingCall(self._heartbeat)
        self._heartbeat_timer.clock = reactor

    def attach(self, ports: Iterable[Any]) -> None:
        """Make this the gate of the ports, which do not accept before ``open``."""
        self._ports = self._kept = tuple(ports)
        for port in self._ports:
            port.gate = self
            port.stopReading()

    def open(self) -> None:
        """Start accepting, and start the heartbeat."""
        self._opened = True
        self._reactor.addReader(self)
        self._heartbeat_timer.start(HEARTBEAT_INTERVAL)

    def close(self) -> None:
        """Stop accepting, and keep the open connections.

        The heartbeat continues, so that the master detects when the worker hangs.
        """
        if self._opened:
            self._opened = False
            self._reactor.removeReader(self)
        self._shut_ports()
        if self._heartbeat_timer.running:
            self._heartbeat()
        else:
            self._heartbeat_timer.start(HEARTBEAT_INTERVAL)
        self._wake()

    def drain(self, ports: Iterable[Any]) -> None:
        """Accept only at these ports, which answer health checks; close the gate when there are none."""
        kept = tuple(ports)
        if not kept or not self._opened:
            self.close()
            return
        for port in self._ports:
            if port not in kept:
                port.stopReading()
        self._kept = kept

    # Called by the ports

    def may_accept(self) -> bool:
        """Return whether to accept a connection; if not, resume the ports when that changes."""
        if not self._opened or not self._is_balanced():
            self._shut_ports()
            self._wake()
            return False
        return True

    def count_connection(self) -> CountedConnection:
        """Count an accepted connection, and return the owner that has to be informed of its end."""
        self._connections += 1
        self._scoreboard.set_connections(self._number, self._connections)
        return CountedConnection(self)

    def connection_closed(self) -> None:
        """Count a closed connection, and check whether to accept again."""
        self._connections -= 1
        self._scoreboard.set_connections(self._number, self._connections)
        self._check()

    # Called by the reactor

    def fileno(self) -> int:
        return self._wakes[self._number]

    def doRead(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self.fileno())
        self._check()

    def connectionLost(self, reason: Failure) -> None:
        """Do nothing: an eventfd has no connection."""

    def logPrefix(self) -> str:
        return "gate"

    def _heartbeat(self) -> None:
        if self._opened:
            self._scoreboard.heartbeat(self._number, self._nanoseconds())
            self._check()
        else:
            self._scoreboard.heartbeat_draining(self._number, self._nanoseconds())

    def _check(self) -> None:
        if not (self._is_shut and self._opened and self._is_balanced()):
            return
        try:
            for port in self._kept:
                if port.connected:  # a drain may have closed it
                    port.startReading()
        except OSError as error:  # from Twisted's own ports; those of this package pause
            self._log.error("a worker cannot accept connections and will try again: {error}", error=error)
        else:
            self._is_shut = False

    def _is_balanced(self) -> bool:
        return may_accept(self._number, self._scoreboard.loads(), self._nanoseconds() / 1e9)

    def _shut_ports(self) -> None:
        self._is_shut = True
        for port in self._ports:
            port.stopReading()

    def _wake(self) -> None:
        wake(wake for number, wake in enumerate(self._wakes) if number != self._number)
