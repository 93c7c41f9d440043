"""A real Redis server on a free port, and a client that waits for each reply."""

import socket
import subprocess

from twisted.internet.defer import Deferred, fail, succeed

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.state.redis_claims import SCHEMA_VERSION
from esxiproxy.state.redis_protocol import ServerIdentity
from esxiproxy.state.redis_replies import RedisError, ReplyReader, command
from esxiproxy.state.redis_server import failed_call, fields_of
from tests.support.programs import environment, free_ports, need

START_TIMEOUT = 20.0


def answers(port):
    """Return whether a server or a Sentinel answers at a port."""
    try:
        with socket.create_connection(("127.0.0.1", port), START_TIMEOUT) as connection:
            connection.sendall(b"PING\r\n")
            return bool(connection.recv(64))
    except ConnectionError:
        return False


class RedisServer:
    """A server that keeps nothing on the disk; ``options`` are those of its command line."""

    def __init__(self, folder, *options, port=None):
        self._program = need("redis-server", "redis-server")
        self._folder = folder
        self._options = options
        self.port = port or free_ports(1)[0]
        self.start()

    def start(self):
        """Start the program, and wait until it answers."""
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        lasting = ["--save", "", "--appendonly", "no", "--logfile", str(self._folder / "redis.log")]
        self.process = subprocess.Popen(
            [self._program, *where, *lasting, *self._options],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        while not answers(self.port):
            assert self.process.poll() is None, self.process.stdout.read()

    def stop(self):
        """Kill the program, as SIGKILL does."""
        self.process.kill()
        self.process.wait(START_TIMEOUT)
        self.process.stdout.close()


class Client:
    """A connection that waits for each reply."""

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port), START_TIMEOUT)
        self._reader = ReplyReader()

    def call(self, *words):
        """Send a command and return its reply, which may be a RedisError."""
        self._socket.sendall(command(words))
        while not (found := list(self._reader.feed(self._socket.recv(1 << 16)))):
            pass
        (reply,) = found
        return reply

    def close(self):
        self._socket.close()


PREFIX = "{esxiproxy}:"
"""The prefix of the keys of a proxy that sets none."""


def end_registration(client, since, prefix=PREFIX):
    """Let a database be one in which all processes have registered by now, so that it admits at once."""
    client.call("SET", f"{prefix}schema", SCHEMA_VERSION)
    run_id = fields_of(client.call("INFO"))["run_id"]
    origin = "since", repr(since), "ready", repr(since), "server", run_id
    client.call("HSET", f"{prefix}origin", *origin)


class ImmediateServer:
    """A stand-in for Redis, which runs the script of a state at once at the time of ``time_of_day``.

    While ``is_away`` is set, nothing is sent.
    """

    CLOCK = "local function clock() return tonumber(redis.call('GET', 'the-time-of-day')) end"

    def __init__(self, client, time_of_day):
        self._client = client
        self._time_of_day = time_of_day
        self.is_away = False
        self.identity = ServerIdentity(1)

    def start(self):
        pass

    def stop(self):
        pass

    def connected(self) -> Deferred:
        return fail(StateUnavailable("it is away")) if self.is_away else succeed(self.identity)

    def run(self, script, key, *arguments) -> Deferred:
        if self.is_away:
            return fail(StateUnavailable("it is away"))
        self._client.call("SET", "the-time-of-day", repr(self._time_of_day()))
        reply = self._client.call("EVAL", script, "1", key, *arguments)
        return fail(failed_call(reply)) if isinstance(reply, RedisError) else succeed(reply)
