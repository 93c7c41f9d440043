"""The garbage that a session leaves to the collector, which stops every console while it runs."""

from __future__ import annotations

import pytest

from tests.support.certificates import Certificate
from tests.support.listeners import KINDS, Upstreams, three_listeners
from tests.support.probe import ProbedProxy
from tests.support.programs import dead_port, until
from tests.support.scripts import echo
from tests.support.websocket import BINARY
from tests.support.websocket_peers import Client, ScriptedUpstream

SESSIONS = 100
MOST = 1
"""Objects a session that may be in circles: none is what there are."""


@pytest.mark.parametrize("name", KINDS)
def test_an_ended_session_is_freed_without_the_garbage_collector(
    name: str, upstream_certificate: Certificate, listener_certificate: Certificate
) -> None:
    """Sessions that clients close or reset leave almost nothing to the garbage collector."""
    context = upstream_certificate.server_context()
    with (
        ScriptedUpstream(echo("binary")) as plain,
        ScriptedUpstream(echo("binary"), tls=context) as secure,
        dead_port() as nobody,
    ):
        text = three_listeners(
            Upstreams(plain.port, secure.port, upstream_certificate, nobody),
            listener_certificate,
            services="probe",
            max_connections="off",
        )
        with ProbedProxy(text, PROBE_COLLECTS="alone") as proxy:

            def one(number: int) -> None:
                client = Client(proxy.ports[name], tls=name == "three")
                with client:
                    client.open("/ticket/secret-ticket", ["binary"])
                    client.send_frame(BINARY, bytes(100))
                    client.recv_frame()
                    if number % 2:
                        client.reset()
                    else:
                        client.send_close()
                        client.recv_close()

            def all_over() -> dict[str, int] | None:
                inside = proxy.inside()
                garbage.append(inside["garbage"])
                return inside if not inside.get("Frontend") else None

            garbage: list[int] = []
            for number in range(20):
                one(number)
            until(all_over, "the first sessions are over")
            garbage.clear()
            for number in range(SESSIONS):
                one(number)
            until(all_over, "the sessions are over")
            assert sum(garbage) <= MOST * SESSIONS, f"{sum(garbage) / SESSIONS} objects a session"
