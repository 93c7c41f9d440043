"""A state on a real reactor, whose turns a test runs, connected to a real Redis server."""

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from esxiproxy.core.config.state_url import RedisAddress
from esxiproxy.state.factory import open_state
from tests.support.real_reactor import TurnedReactor


class BlockingServer:
    """A connection on a real reactor, whose turns run until each call has its reply.

    The script has the time of ``time_of_day``.
    """

    def __init__(self, connection, reactor, client, time_of_day):
        self._connection = connection
        self._reactor = reactor
        self._client = client
        self._time_of_day = time_of_day

    def start(self):
        self._connection.start()

    def stop(self):
        self._connection.stop()

    def connected(self):
        return self._wait(self._connection.connected())

    def run(self, script, key, *arguments):
        self._client.call("SET", "the-time-of-day", repr(self._time_of_day()))
        return self._wait(self._connection.run(script, key, *arguments))

    def _wait(self, waiting):
        found = self._reactor.outcome(waiting)
        return fail(found) if isinstance(found, Exception) else succeed(found)


class Reactor(TurnedReactor):
    """The reactor of one test, on which several states may run."""

    def __init__(self):
        super().__init__()
        self.reactor = self.core
        self.obeyed = []
        self._states = []

    def state(self, port, **more):
        """Start a state, without waiting until it is connected."""
        return self.state_at(RedisAddress("127.0.0.1", port, **more))

    def state_at(self, address):
        """Start a state at an address, without waiting until it is connected."""
        state = open_state(address, self.reactor, self.reactor)
        self._states.append(state)
        state.start(self.obeyed.append).addErrback(lambda _: None)
        return state

    def outcome(self, waiting):
        """Run the reactor until there is a result or a failure, and return it."""
        found = []
        waiting.addBoth(found.append)
        self.until(lambda: found)
        return found[0].value if isinstance(found[0], Failure) else found[0]

    def admitted(self, state, slot, claims):
        """Run the reactor until a ``take`` is answered, and return the answer; retry what fails."""
        answer = []

        def retry():
            def done(value):
                if isinstance(value, Failure):
                    self.reactor.callLater(0.05, retry)
                else:
                    answer.append(value)

            waiting: Deferred = state.take(slot, claims)
            waiting.addBoth(done)

        retry()
        self.until(lambda: answer)
        return answer[0]

    def close(self):
        for state in self._states:
            self.outcome(state.stop())
        super().close()
