"""The primary that Sentinels name: a real failover, and Sentinels that are away or out of date."""

import time
from contextlib import closing, contextmanager
from itertools import permutations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock

from esxiproxy.core.config.state_url import RedisAddress, SentinelService
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.claim import OnceClaim, SlotClaim
from esxiproxy.state.redis_replies import command
from esxiproxy.state.redis_sentinel import ANSWER_TIMEOUT, Sentinels
from tests.state.redis_process import Reactor
from tests.support.certificates import Authority
from tests.support.logs import process_log
from tests.support.programs import free_port
from tests.support.real_reactor import TURN
from tests.support.redis_sentinels import PASSWORD, SENTINEL_PASSWORD, SERVICE, ReplicatedRedis, Sentinel
from tests.support.redis_server import Client, RedisServer, end_registration

FOUR = SlotClaim("max_sessions", "listener a", 4)


@pytest.fixture
def here():
    reactor = Reactor()
    yield reactor
    reactor.close()


@pytest.fixture
def patient(monkeypatch):
    """Let no Sentinel answer too late on a busy machine."""
    monkeypatch.setattr("esxiproxy.state.redis_sentinel.ANSWER_TIMEOUT", 20.0)
    monkeypatch.setattr("esxiproxy.state.redis_connection.FAILOVER_TIMEOUT", 20.0)


@contextmanager
def started(make, *arguments):
    running = make(*arguments)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def redis(tmp_path):
    (tmp_path / "redis").mkdir()
    with started(RedisServer, tmp_path / "redis") as running:
        admit(running)
        yield running


def admit(server, *login):
    """Let a server admit at once."""
    with closing(Client(server.port)) as client:
        for command in login:
            client.call(*command)
        end_registration(client, time.time())


def wait_for_copy(primary):
    """Wait until the replica has all that was written, so that it is no older copy."""
    with closing(Client(primary.port)) as client:
        assert client.call("AUTH", PASSWORD) == b"OK"
        assert client.call("SET", "the-last-write", "1") == b"OK"
        assert client.call("WAIT", "1", "10000") == 1


class Scripted(Protocol):
    """A Sentinel that names a primary with the reply of its factory; without one it says nothing."""

    def connectionMade(self):
        self.factory.made += 1

    def connectionLost(self, reason=connectionDone):
        self.factory.ended += 1

    def dataReceived(self, data):
        if b"\r\nMASTER\r\n" in data:
            self.transport.write(self.factory.details)
        elif b"\r\nSENTINEL\r\n" in data and self.factory.reply:
            self.factory.asked += 1
            self.transport.write(self.factory.reply)


@contextmanager
def scripted(here, reply, details=b"-NOPERM no\r\n"):
    """Run a scripted Sentinel; the value has its port and the numbers of questions and of connections."""
    factory = Factory.forProtocol(Scripted)
    factory.details = details
    factory.reply, factory.noisy = reply, False
    factory.asked = factory.made = factory.ended = 0
    port = here.reactor.listenTCP(0, factory, interface="127.0.0.1")
    factory.port = port.getHost().port
    try:
        yield factory
    finally:
        here.outcome(port.stopListening())


def naming(port):
    return command(("127.0.0.1", str(port)))


def epoch(number):
    return command(("name", SERVICE, "flags", "master", "config-epoch", str(number), "odd"))


def service(*ports, name=SERVICE, **more):
    return SentinelService(name, tuple(("127.0.0.1", port) for port in ports), **more)


def address(*ports, **more):
    return RedisAddress("", 0, service=service(*ports), **more)


def is_logged(lines, text):
    return any(text in (line or "") for line in lines)


def test_a_failover_moves_the_state_and_keeps_the_limits(tmp_path, here):
    with (
        started(ReplicatedRedis, tmp_path, 30.0) as redis,
        scripted(here, b"") as hanging,
        process_log() as lines,
    ):
        ports = free_port(), hanging.port, redis.sentinel.port
        files = service(*ports, password_file=redis.sentinel_password_file)
        place = RedisAddress("", 0, password_file=redis.password_file, service=files)
        admit(redis.servers[0], ("AUTH", PASSWORD))
        one, other = here.state_at(place), here.state_at(place)
        link = OnceClaim("link", time.time() + 600)
        assert here.admitted(one, "a", [FOUR, link]) is None
        assert here.admitted(other, "b", [FOUR]) is None and here.admitted(other, "c", [FOUR]) is None

        wait_for_copy(redis.servers[0])
        asked = time.monotonic()
        here.until(lambda: redis.sentinel.call("SENTINEL", "FAILOVER", SERVICE) == b"OK")
        here.until(lambda: redis.sentinel.primary() != redis.servers[0].port)
        here.until(lambda: is_logged(lines, "restarted or replaced by another one"))
        assert here.admitted(one, "d", [FOUR]) is None
        assert time.monotonic() - asked >= 2.0, "all processes register for 2 s first"
        for state in (one, other):
            assert here.outcome(state.take("e", [FOUR])) == FOUR
        assert here.outcome(other.take("e", [link])) == link
    assert PASSWORD not in f"{lines}" and SENTINEL_PASSWORD not in f"{lines} {place!r} {place}"


def test_a_sentinel_that_is_out_of_date_is_believed_last(tmp_path, here, redis):
    (tmp_path / "replica").mkdir()
    with (
        started(RedisServer, tmp_path / "replica", "--replicaof", "127.0.0.1", str(redis.port)) as replica,
        scripted(here, naming(replica.port)) as stale,
        scripted(here, naming(redis.port)) as right,
        process_log() as lines,
    ):
        state = here.state_at(address(stale.port, right.port))
        assert here.admitted(state, "a", [FOUR]) is None
        assert stale.asked >= 1 and right.asked >= 1
        assert is_logged(
            lines, f"a Sentinel names 127.0.0.1:{replica.port} as the primary, and it is a replica"
        )

        # It is watched: the Sentinel names another primary while the connection is open.
        with closing(Client(replica.port)) as client:
            assert client.call("REPLICAOF", "NO", "ONE") == b"OK"
        right.reply = naming(replica.port)
        here.until(lambda: is_logged(lines, "the Sentinels name another primary"))
        assert here.admitted(state, "b", [FOUR]) is None
        with closing(Client(replica.port)) as client:
            assert client.call("HLEN", f"{{esxiproxy}}:c:{FOUR.name}") == 2

        # Without a Sentinel the connection stays.
        stale.reply = right.reply = b"-ERR busy\r\n"
        here.until(lambda: is_logged(lines, "the connection to the primary continues"))
        assert here.outcome(state.take("c", [FOUR])) is None
        right.reply = naming(replica.port)
        here.until(lambda: is_logged(lines, "a Sentinel answers again"))


def test_the_newest_configuration_is_believed(here):
    with (
        scripted(here, naming(1), epoch(3)) as stale,
        scripted(here, naming(2), epoch(12)) as newest,
        scripted(here, naming(3), b"*2\r\n$12\r\nconfig-epoch\r\n$2\r\nxx\r\n") as odd,
        scripted(here, b"") as hanging,
        scripted(here, b"") as silent,
    ):
        clock = Clock()

        def asking(*sentinels):
            found = service(*(each.port for each in sentinels))
            sentinels = Sentinels(RedisAddress("", 0, service=found), found, here.reactor, clock)
            return Deferred.fromCoroutine(sentinels.primary())

        def primary(*sentinels):
            return here.outcome(asking(*sentinels))

        for order in permutations((stale, newest)):
            assert primary(*order) == ("127.0.0.1", 2)
        assert primary(odd, stale) == ("127.0.0.1", 1), "an epoch that is unknown is the oldest"
        assert primary(hanging, stale, newest) == ("127.0.0.1", 2), "two of three have answered"
        here.until(lambda: stale.ended == stale.made)
        waiting, before = asking(stale, hanging, silent), stale.ended
        here.until(lambda: stale.ended > before)
        assert not waiting.called
        clock.advance(ANSWER_TIMEOUT)
        assert here.outcome(waiting) == ("127.0.0.1", 1), "there is no other answer"


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (b"*-1\r\n", f"does not know the service {SERVICE}"),
        (b"-NOAUTH Authentication required.\r\n", "demands a password: name its file as state_sentinel_"),
        (b"-NOPERM no\r\n", "it needs the command SENTINEL"),
        (b"-ERR unknown command 'SENTINEL', with args beginning with: ...\r\n", "unknown command 'SENTINEL'"),
        (b"+OK\r\n", "does not answer as a Sentinel does"),
        (b"*1\r\n$1\r\nx\r\n", "does not answer as a Sentinel does"),
        (b"*2\r\n$1\r\nx\r\n$1\r\ny\r\n", "does not answer as a Sentinel does"),
        (b"HTTP/1.1 400\r\n", " the server sends a length that is no number"),
        (b"", "did not answer within 0.4 s"),
    ],
)
def test_a_sentinel_that_names_no_primary_is_named(here, reply, text, request):
    if reply:
        request.getfixturevalue("patient")
    with scripted(here, reply) as broken:
        state = here.state_at(address(broken.port))
        before = here.turns
        refused = here.outcome(state.take("a", [FOUR]))
        assert isinstance(refused, StateUnavailable) and (here.turns - before) * TURN < 3
        assert f"no Sentinel names a primary of {SERVICE}: 127.0.0.1:{broken.port}" in refused.detail
        assert text in refused.detail


def test_a_missing_password_file_is_named(tmp_path, here):
    files = service(free_port(), password_file=tmp_path / "none")
    refused = here.outcome(here.state_at(RedisAddress("", 0, service=files)).take("a", [FOUR]))
    assert f"state_sentinel_password_file: {tmp_path / 'none'}: No such file" in refused.detail


def test_a_state_is_stopped_while_a_sentinel_hangs(here):
    with scripted(here, b"") as hanging, scripted(here, b"") as second:
        state = here.state_at(address(hanging.port, second.port))
        assert here.outcome(state.stop()) is None
        assert isinstance(here.outcome(state.take("a", [FOUR])), StateUnavailable)


@pytest.mark.usefixtures("patient")
def test_a_wrong_password_of_a_sentinel_is_named_and_heals(tmp_path, here, redis):
    password = tmp_path / "password"
    password.write_text("wr0ng\n")
    with started(Sentinel, tmp_path, redis.port, "", SENTINEL_PASSWORD) as sentinel, process_log() as lines:
        state = here.state_at(RedisAddress("", 0, service=service(sentinel.port, password_file=password)))
        refused = here.outcome(state.take("a", [FOUR]))
        assert "refuses the password in state_sentinel_password_file" in refused.detail
        password.write_text(f"{SENTINEL_PASSWORD}\n")
        assert here.admitted(state, "a", [FOUR]) is None
    assert SENTINEL_PASSWORD not in f"{lines}{refused}" and "wr0ng" not in f"{lines}{refused}"


@pytest.mark.usefixtures("patient")
def test_a_user_needs_one_command_more_with_sentinels(tmp_path, here, redis):
    password = tmp_path / "password"
    password.write_text(f"{PASSWORD}\n")
    acl = "proxy", "on", f">{PASSWORD}", "~{esxiproxy}:*", "+@all", "-@dangerous", "+info"
    with closing(Client(redis.port)) as client, scripted(here, naming(redis.port)) as sentinel:
        client.call("ACL", "SETUSER", *acl)
        state = here.state_at(address(sentinel.port, user="proxy", password_file=password))
        refused = here.outcome(state.take("a", [FOUR]))
        assert "with Sentinels ROLE" in refused.detail and PASSWORD not in refused.detail
        client.call("ACL", "SETUSER", "proxy", "+role")
        assert here.admitted(state, "a", [FOUR]) is None


@pytest.mark.usefixtures("patient")
def test_tls_of_the_sentinels_and_of_the_server_is_verified(tmp_path, here):
    authority = Authority(tmp_path)
    own = authority.server(addresses=["127.0.0.1"])
    files = "--tls-cert-file", str(own.path), "--tls-key-file", str(own.key_path)
    tls = free_port()
    (tmp_path / "redis").mkdir()
    options = "--tls-port", str(tls), *files, "--tls-auth-clients", "no"
    with (
        started(RedisServer, tmp_path / "redis", *options) as server,
        started(Sentinel, tmp_path, tls, "", "", (own, authority)) as sentinel,
    ):
        admit(server)
        state = here.state_at(address(sentinel.tls_port, secure=True, ca=authority.path))
        assert here.admitted(state, "a", [FOUR]) is None
        refused = here.outcome(here.state_at(address(sentinel.tls_port, secure=True)).take("b", [FOUR]))
        assert "certificate verify failed" in refused.detail
