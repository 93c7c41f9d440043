"""Limits on real processes: who is refused, what the host sees, and that several processes count as one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.support import config
from tests.support.programs import Proxy, until
from tests.support.scripts import echo
from tests.support.websocket import handshake_fields
from tests.support.websocket_peers import Client, ScriptedUpstream


@contextlib.contextmanager
def proxy(upstream: ScriptedUpstream, *keys: str) -> Iterator[Proxy]:
    """Run the proxy with these lines in its [proxy]."""
    text = config.ini(
        config.listener(),
        config.upstream(upstream.port),
        more="\n".join(keys),
        close_timeout="1s",
        access_log="stdout",
    )
    with Proxy(text) as program:
        yield program


def statuses(stack: contextlib.ExitStack, program: Proxy, count: int) -> list[int]:
    """Open so many clients one after another, which stay, and return their statuses."""
    clients = [stack.enter_context(Client(program.ports["one"])) for _ in range(count)]
    return [client.ask("/ticket/secret-ticket", ["binary"]).status for client in clients]


def test_a_host_never_has_more_connections_than_max_connections() -> None:
    """The next client gets 503 with the limit's name, in the answer and in the access log."""
    with (
        ScriptedUpstream(echo("binary")) as upstream,
        proxy(upstream, "max_connections = 5") as program,
        contextlib.ExitStack() as stack,
    ):
        assert statuses(stack, program, 7) == [101] * 5 + [503] * 2
        stack.close()
        until(lambda: program.log().count('"error":"LimitReached"') == 2, "both refusals are logged")
        assert "max_connections: all 5 are in use" in program.log()

        def admitted() -> bool:
            with Client(program.ports["one"]) as client:
                return client.ask("/ticket/secret-ticket", ["binary"]).status == 101

        until(admitted, "somebody is admitted when the others have left")


def test_the_rate_of_consoles_of_one_client_is_limited() -> None:
    with (
        ScriptedUpstream(echo("binary")) as upstream,
        proxy(upstream, "session_rate = 0.01", "session_burst = 3") as program,
        contextlib.ExitStack() as stack,
    ):
        assert statuses(stack, program, 5) == [101] * 3 + [503] * 2


def test_two_processes_that_share_a_state_share_its_limits(tmp_path: Path) -> None:
    """Slots of a process are free after it ends in order. Other tests kill it."""
    state = f"state = sqlite:{tmp_path}/state.db"
    with (
        ScriptedUpstream(echo("binary")) as upstream,
        proxy(upstream, state, "max_sessions = 6") as one,
        contextlib.ExitStack() as stack,
    ):
        with proxy(upstream, state, "max_sessions = 6", "drain_timeout = 500ms") as other:
            assert statuses(stack, one, 3) + statuses(stack, other, 4) == [101] * 6 + [503]
            assert statuses(stack, one, 1) == [503]
        assert statuses(stack, one, 4) == [101] * 3 + [503]


def test_a_console_waits_in_the_queue_until_another_one_ends() -> None:
    with (
        ScriptedUpstream(echo("binary")) as upstream,
        proxy(upstream, "max_sessions = 1", "queue_timeout = 20s") as program,
        Client(program.ports["one"]) as first,
        Client(program.ports["one"]) as second,
    ):
        first.open("/ticket/secret-ticket", ["binary"])
        second.send_request("GET /ticket/secret-ticket HTTP/1.1", handshake_fields(["binary"]))
        assert second.is_silent(0.5)
        first.send_close()
        assert second.recv_head().status == 101
