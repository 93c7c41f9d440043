"""A state in a real Redis server: logins, TLS, outages, and a server that was emptied."""

import signal
import time
from contextlib import closing, contextmanager

import pytest

from esxiproxy.core.config.state_url import StateDown
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.claim import OnceClaim, SlotClaim
from esxiproxy.core.session.command import Command, CommandKind, Selector, SelectorKind
from esxiproxy.state.redis_connection import CALL_TIMEOUT
from tests.state.redis_process import Reactor
from tests.support.certificates import Authority
from tests.support.logs import process_log
from tests.support.real_reactor import TURN
from tests.support.redis_server import Client, RedisServer, end_registration

ONE = SlotClaim("max_connections", "host 192.0.2.10", 1)
FOUR = SlotClaim("max_sessions", "listener a", 4)


@contextmanager
def server(folder, *options, login=(), database="0", prefix="{esxiproxy}:"):
    """Start a server that admits at once."""
    running = RedisServer(folder, *options)
    try:
        with closing(Client(running.port)) as client:
            for command in (*login, ("SELECT", database)):
                client.call(*command)
            end_registration(client, time.time(), prefix)
        yield running
    finally:
        running.stop()


@pytest.fixture
def here():
    reactor = Reactor()
    yield reactor
    reactor.close()


def is_logged(lines, text):
    return any(text in (line or "") for line in lines)


def test_two_processes_share_a_limit_and_commands(tmp_path, here):
    with server(tmp_path) as redis:
        one, other = here.state(redis.port), here.state(redis.port)
        assert here.admitted(one, "a", [ONE]) is None
        assert here.outcome(other.take("b", [ONE])) == ONE
        assert here.outcome(other.in_use([ONE.name])) == {ONE.name: 1}
        kill = Command(CommandKind.KILL, reason="at noon", selector=Selector(SelectorKind.ALL))
        before = here.turns
        assert here.outcome(one.tell(kill)) is True
        here.until(lambda: len(here.obeyed) == 2)
        assert here.obeyed == [kill, kill] and (here.turns - before) * TURN < 2
        here.close()
        with closing(Client(redis.port)) as client:
            assert client.call("EXISTS", f"{{esxiproxy}}:c:{ONE.name}") == 0, "a stop releases everything"


def test_a_thousand_attempts_on_a_link_give_one_console(tmp_path, here):
    with server(tmp_path) as redis:
        one, other = here.state(redis.port), here.state(redis.port)
        here.admitted(one, "first", [FOUR])
        here.admitted(other, "second", [FOUR])
        link, won = OnceClaim("link", time.time() + 600), []
        for number in range(500):
            for state in (one, other):
                state.take(f"{state.instance_id}-{number}", [link]).addCallback(won.append)
        here.until(lambda: len(won) == 1000)
        assert won.count(None) == 1


def test_a_server_that_is_away_is_a_failure_at_once_and_heals(tmp_path, here):
    with server(tmp_path) as redis, process_log() as lines:
        state = here.state(redis.port)
        assert here.admitted(state, "a", [ONE]) is None
        redis.process.send_signal(signal.SIGSTOP)
        before, turns = time.monotonic(), here.turns
        assert isinstance(here.outcome(state.take("b", [FOUR])), StateUnavailable)
        assert time.monotonic() - before > 1.5 and (here.turns - turns) * TURN < 3
        turns = here.turns
        for number in range(100):
            assert isinstance(here.outcome(state.take(f"c{number}", [FOUR])), StateUnavailable)
        assert here.turns == turns, "at once, since it is known"
        assert here.outcome(state.give("a")) is None
        redis.process.send_signal(signal.SIGCONT)
        assert here.admitted(state, "d", [ONE]) is None, "what was given meanwhile is free"
        assert here.outcome(state.in_use([FOUR.name])) == {FOUR.name: 0}, "no attempt has left a slot"
    assert is_logged(lines, "did not answer within 2 s") and is_logged(lines, "available again")


def test_a_server_that_is_away_stops_no_console_if_they_are_to_be_admitted(tmp_path, here):
    with server(tmp_path) as redis, process_log() as lines:
        one, other = (here.state(redis.port, when_down=StateDown.ADMIT) for _ in range(2))
        assert here.admitted(one, "a", [FOUR]) is None and here.admitted(other, "b", [ONE]) is None
        redis.process.send_signal(signal.SIGSTOP)
        before, turns = time.monotonic(), here.turns
        assert here.outcome(one.take("c", [FOUR])) is None
        assert time.monotonic() - before > 1.5 and (here.turns - turns) * TURN < 3
        turns = here.turns
        for number in range(2):
            assert here.outcome(one.take(f"d{number}", [FOUR])) is None
        assert here.outcome(one.take("e", [FOUR])) == FOUR, "the limit holds for this process"
        assert isinstance(
            here.outcome(one.take("e", [OnceClaim("link", time.time() + 60)])), StateUnavailable
        )
        assert here.turns == turns, "at once, since it is known"
        redis.process.send_signal(signal.SIGCONT)
        here.until(lambda: here.outcome(other.in_use([FOUR.name])) == {FOUR.name: 4})
        assert here.outcome(other.take("f", [FOUR])) == FOUR
    assert is_logged(lines, "new consoles are admitted except by links that work once")


def test_an_emptied_server_is_filled_before_anything_is_admitted(tmp_path, here):
    with server(tmp_path) as redis, process_log() as lines:
        one, other = here.state(redis.port), here.state(redis.port)
        link = OnceClaim("link", time.time() + 600)
        assert here.admitted(one, "a", [ONE, link]) is None
        assert here.admitted(other, "b", [FOUR]) is None
        since = one.since
        redis.stop()
        redis.start()
        emptied = time.monotonic()
        assert here.admitted(one, "c", [FOUR]) is None
        assert time.monotonic() - emptied >= 1.9, "nobody is admitted for 2 s"
        assert here.outcome(other.take("d", [ONE])) == ONE, "it was registered again"
        assert here.outcome(other.take("e", [link])) == link
        assert here.outcome(one.in_use([ONE.name, FOUR.name])) == {ONE.name: 1, FOUR.name: 2}
        assert one.since > since
    assert is_logged(lines, "the Redis database was emptied")


def test_a_lease_that_was_lost_is_taken_again_by_force(tmp_path, here):
    with server(tmp_path) as redis, process_log() as lines:
        state, other = here.state(redis.port), here.state(redis.port)
        assert here.admitted(state, "a", [ONE]) is None
        assert here.outcome(other.reclaim(state.instance_id)) == []
        here.until(lambda: is_logged(lines, "lease_lost"))
        assert here.outcome(other.in_use([ONE.name])) == {ONE.name: 1}


def test_a_wrong_password_is_named_and_heals_without_a_restart(tmp_path, here):
    password = tmp_path / "password"
    password.write_text("wr0ng\n")
    with (
        server(tmp_path, "--requirepass", "pa55word", login=[("AUTH", "pa55word")]) as redis,
        process_log() as lines,
    ):
        state = here.state(redis.port, password_file=password)
        refused = here.outcome(state.take("a", [ONE]))
        assert isinstance(refused, StateUnavailable)
        password.write_text("pa55word\n")
        assert here.admitted(state, "a", [ONE]) is None
    assert is_logged(lines, "Redis refuses the user or the password")
    assert "pa55word" not in f"{lines} {refused}" and "wr0ng" not in f"{lines} {refused}"


def test_a_server_without_a_password_is_named(tmp_path, here):
    password = tmp_path / "password"
    password.write_text("pa55word\n")
    with server(tmp_path) as redis:
        refused = here.outcome(here.state(redis.port, password_file=password).take("a", [ONE]))
    assert "Redis has no password" in str(refused.detail)


def test_a_user_and_a_database_are_used(tmp_path, here):
    password = tmp_path / "password"
    password.write_text("pa55word\n")
    acl = "proxy", "on", ">pa55word", "~{lab}:*", "+@all", "-@dangerous", "+info"
    with server(tmp_path, database="3", prefix="{lab}:") as redis, closing(Client(redis.port)) as client:
        client.call("ACL", "SETUSER", *acl)
        state = here.state(redis.port, user="proxy", password_file=password, database=3, prefix="lab")
        assert here.admitted(state, "a", [ONE]) is None
        client.call("SELECT", "3")
        assert client.call("EXISTS", "{lab}:origin") == 1
        here.close()


@pytest.mark.parametrize(
    ("broken", "healed", "text"),
    [
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "read-only replica"),
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "Redis is full"),
        (("SET", "{esxiproxy}:schema", "0"), ("SET", "{esxiproxy}:schema", "1"), "schema version 0"),
    ],
)
def test_a_server_that_refuses_is_named_and_heals(tmp_path, here, broken, healed, text):
    with server(tmp_path) as redis, closing(Client(redis.port)) as client, process_log() as lines:
        state = here.state(redis.port)
        assert here.admitted(state, "a", [FOUR]) is None
        client.call(*broken)
        assert isinstance(here.outcome(state.take("b", [ONE])), StateUnavailable)
        here.until(lambda: is_logged(lines, text))
        here.outcome(state.get("s", "a"))  # which a full server does
        assert not is_logged(lines, "available again")
        client.call(*healed)
        assert here.admitted(state, "b", [ONE]) is None
        assert here.outcome(state.in_use([FOUR.name])) == {FOUR.name: 1}


def test_a_script_error_is_named_and_heals(tmp_path, here):
    with server(tmp_path) as redis, closing(Client(redis.port)) as client, process_log() as lines:
        state = here.state(redis.port)
        assert here.admitted(state, "a", [FOUR]) is None
        client.call("SET", f"{{esxiproxy}}:c:{ONE.name}", "of another program")
        assert isinstance(here.outcome(state.take("b", [ONE])), StateUnavailable)
        client.call("DEL", f"{{esxiproxy}}:c:{ONE.name}")
        assert here.admitted(state, "b", [ONE]) is None
    assert is_logged(lines, "WRONGTYPE")


def test_an_evicting_server_is_named(tmp_path, here):
    options = "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"
    with server(tmp_path, *options) as redis, process_log() as lines:
        assert here.admitted(here.state(redis.port), "a", [ONE]) is None
    assert is_logged(lines, "set maxmemory-policy noeviction")


def test_tls_is_verified(tmp_path, here):
    (tmp_path / "ca").mkdir(), (tmp_path / "other").mkdir()
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    own = authority.server(addresses=["127.0.0.1"])
    files = "--tls-cert-file", str(own.path), "--tls-key-file", str(own.key_path)
    with server(tmp_path) as plain:
        port = plain.port
    options = "--tls-port", str(port), *files, "--tls-auth-clients", "no"
    with server(tmp_path, *options):
        state = here.state(port, secure=True, ca=authority.path)
        assert here.admitted(state, "a", [ONE]) is None
        refused = here.outcome(here.state(port, secure=True, ca=other.path).take("b", [FOUR]))
        assert isinstance(refused, StateUnavailable)
        assert "certificate verify failed" in str(refused.detail)


def test_a_reply_that_arrived_while_the_reactor_was_busy_is_no_timeout(tmp_path, here):
    with server(tmp_path) as redis, process_log() as lines:
        state = here.state(redis.port)
        assert here.admitted(state, "a", [FOUR]) is None
        asked = state.take("b", [FOUR])
        busy = time.monotonic()
        while time.monotonic() < busy + CALL_TIMEOUT + 0.2:
            pass
        assert here.outcome(asked) is None
    assert not is_logged(lines, "did not answer")
