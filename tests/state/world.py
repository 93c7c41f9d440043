"""Simulated processes that share a state, on a clock that the test advances."""

from __future__ import annotations

import itertools
import sqlite3

from twisted.internet.task import Clock
from twisted.python.failure import Failure

from esxiproxy.core.config.state_url import RedisAddress, SentinelService
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.state.memory import Memory, MemoryState
from esxiproxy.state.redis import RedisState
from esxiproxy.state.redis_connection import RedisConnection
from esxiproxy.state.redis_lists import script
from esxiproxy.state.sqlite import SqliteState
from esxiproxy.state.times import Times
from tests.state.redis_process import BlockingServer
from tests.support.outcome import result as result
from tests.support.redis_sentinels import SERVICE
from tests.support.redis_server import ImmediateServer, end_registration


class Process(Clock):
    """The reactor of one simulated process: a clock that stops when the process is killed."""

    def callFromThread(self, call, *args):
        call(*args)


class Immediate:
    """A thread pool that makes each call at once, in the calling thread."""

    running = False

    def start(self):
        self.running = True

    def stop(self):
        self.running = False

    def callInThreadWithCallback(self, done, call, *args):
        try:
            result = call(*args)
        except Exception:
            done(False, Failure())
        else:
            done(True, result)


class Held(Immediate):
    """A thread pool that makes the queued calls when the test calls ``run``."""

    def __init__(self):
        self.calls = []

    def callInThreadWithCallback(self, done, call, *args):
        self.calls.append((done, call, args))

    def run(self, count=None):
        for _ in range(len(self.calls) if count is None else count):
            done, call, args = self.calls.pop(0)
            super().callInThreadWithCallback(done, call, *args)


class World:
    """The simulated processes: ``new`` starts one, ``advance`` advances the clocks of those that run."""

    def __init__(self):
        self._processes = {}
        self._now = 1_000_000.0
        self.day = 1_700_000_000.0
        """The time of day of the boot, which the test sets."""
        self.obeyed = []
        self._numbers = itertools.count()

    def new(self):
        process = Process()
        process.rightNow = self._now
        state = self.make(process)
        started = state.start(lambda command: self.obeyed.append((state.instance_id, command)))
        started.addErrback(lambda failure: failure.trap(StateUnavailable))
        self._processes[state] = process
        return state

    def make(self, process):
        raise NotImplementedError

    def kill(self, state):
        """Kill the process, as SIGKILL does."""
        del self._processes[state]

    def freeze(self, state):
        """Stop the process, as SIGSTOP does, and return what ``thaw`` takes."""
        return self._processes.pop(state)

    def thaw(self, state, process):
        self._processes[state] = process
        process.advance(self._now - process.rightNow)

    def advance(self, seconds):
        for _ in range(int(seconds * 4)):
            self._now += 0.25
            for process in list(self._processes.values()):
                process.advance(0.25)

    def leap(self, seconds):
        """Advance all clocks in one step, as after a suspend of the machine."""
        self._now += seconds
        for process in list(self._processes.values()):
            process.advance(seconds)

    def time_of_day(self):
        return self.day + self._now

    def timers(self, state):
        return self._processes[state].getDelayedCalls()

    def entry(self, state, **changed):
        """Return a new session entry of this process."""
        fields = {
            "session": f"session{next(self._numbers)}",
            "holder": state.instance_id,
            "listener": "secure",
            "client": "198.51.100.7:4711",
            "principal": "alice",
            "target": "/ticket/***",
            "upstream": "esxi1",
            "since": self._now,
        }
        return SessionEntry(**{**fields, **changed})


class MemoryWorld(World):
    def __init__(self, folder):
        super().__init__()
        self._memory = Memory(self.time_of_day)

    def make(self, process):
        return MemoryState(process, self._memory)


class SqliteWorld(World):
    def __init__(self, folder):
        super().__init__()
        self.path = folder / "state.sqlite"
        self.pool = Immediate
        self.boot = "a boot"

    def make(self, process):
        return SqliteState(self.path, process, self.pool(), self.times(process))

    def restart(self, seconds, uptime=1_000_000.0):
        """Reboot the machine, which takes ``seconds``; the new time since boot is ``uptime``."""
        day = self.day + self._now
        self._processes.clear()
        self.boot += ", and another"
        self._now = uptime
        self.day = day + seconds - uptime

    def times(self, process):
        return Times(self.boot, process.seconds, lambda: process.seconds() + self.day)

    def another_program(self):
        """Return a connection of another program."""
        return sqlite3.connect(self.path, isolation_level=None)


class RedisWorld(World):
    """Processes that share a real server, whose clock is that of this world.

    Its registration of all processes is over.
    """

    def __init__(self, client):
        super().__init__()
        self.client = client
        self.servers = {}
        self.admits_when_down = False
        self.skew = 0.0
        """Seconds by which the clock of the server is ahead of that of the processes."""
        end_registration(client, self.time_of_day())

    def make(self, process):
        server = ImmediateServer(self.client, lambda: self.time_of_day() + self.skew)
        clock = script(ImmediateServer.CLOCK)
        admits = self.admits_when_down
        state = RedisState(
            server, process, script=clock, admits_when_down=admits, time_of_day=self.time_of_day
        )
        self.servers[state] = server
        return state


class SentinelWorld(RedisWorld):
    """A Redis world with a real connection to the primary that a real Sentinel names, without timeouts."""

    def __init__(self, client, reactor, sentinel):
        super().__init__(client)
        self._reactor = reactor
        self._address = RedisAddress("", 0, service=SentinelService(SERVICE, (("127.0.0.1", sentinel),)))

    def make(self, process):
        connection = RedisConnection(self._address, self._reactor.reactor, Clock())
        server = BlockingServer(connection, self._reactor, self.client, self.time_of_day)
        clock = script(ImmediateServer.CLOCK)
        state = RedisState(server, process, script=clock, time_of_day=self.time_of_day)
        self.servers[state] = server
        return state

    def close(self):
        for server in self.servers.values():
            server.stop()
