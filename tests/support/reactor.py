"""A fake reactor with a fake clock, ports that are bound once, and calls from threads that a test runs."""

import os
import queue
import socket

from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock

SECONDS = 30
"""The timeout of each wait for a thread, which no passing test reaches."""
FREE = 49152
"""The first number of a port that is bound to 0."""


class FakePort:
    """A bound port, whose descriptor is its number and 1000; that of a unix socket has a file and a path."""

    def __init__(self, reactor, number, factory=None):
        self.reactor, self.number, self.factory = reactor, number, factory
        self.reads = True
        reactor.bound[number] = self

    def getHost(self):
        return IPv4Address("TCP", "127.0.0.1", self.number)

    def fileno(self):
        return 1000 + self.number

    def startReading(self):
        self.reads = True

    def stopReading(self):
        self.reads = False

    def stopListening(self):
        del self.reactor.bound[self.number]
        if not isinstance(self.number, int):
            os.unlink(self.number)
        return deferLater(self.reactor, 0, lambda: None)


class FakeReactor(MemoryReactorClock):
    """A reactor whose turns the test makes.

    With `runs_calls` the calls from threads run at once. A port cannot be bound while it is in `bound` or in
    `taken`. `order` has the numbers that were to be bound.
    """

    def __init__(self, now=0.0, runs_calls=True, has_run=False):
        super().__init__()
        del self.nameResolver  # it would answer names by itself
        self.rightNow, self.hasRun, self.runs_calls = now, has_run, runs_calls
        self.bound, self.taken, self.order = {}, set(), []
        self.threaded = []
        """The functions that threads have called."""
        self._calls = queue.Queue()

    def callFromThread(self, call, *arguments):
        self.threaded.append(call)
        if self.runs_calls:
            call(*arguments)
        else:
            self._calls.put((call, arguments))

    def run_call(self):
        """Wait for the next call from a thread, and run it."""
        call, arguments = self._calls.get(timeout=SECONDS)
        call(*arguments)

    def run_until(self, condition):
        """Run calls from threads until a condition holds."""
        while not condition():
            self.run_call()

    def listenTCP(self, port, factory, backlog=50, interface=""):
        self.order.append(port)
        if port in self.taken or port in self.bound:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        return FakePort(self, port or FREE + len(self.order), factory)

    def listenUNIX(self, address, factory, backlog=50, mode=0o666, wantPID=0):
        with socket.socket(socket.AF_UNIX) as unbound:
            unbound.bind(address)
        os.chmod(address, mode)
        return FakePort(self, address, factory)

    def adoptStreamPort(self, descriptor, family, factory):
        return FakePort(self, descriptor, factory)

    def stop(self):
        if self.hasStopped:
            raise ReactorNotRunning
        super().stop()
