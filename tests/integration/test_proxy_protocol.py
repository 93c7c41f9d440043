"""A console behind a proxy that announces its clients, plain and over TLS, on every kind of transport."""

from __future__ import annotations

import json
import socket

import pytest

from tests.support import config
from tests.support.certificates import Certificate
from tests.support.programs import Proxy, until
from tests.support.scripts import echo
from tests.support.websocket import BINARY
from tests.support.websocket_peers import Client, ScriptedUpstream

HEADERS = {
    "v1": b"PROXY TCP4 192.0.2.7 203.0.113.1 5555 443\r\n",
    "v2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
    + socket.inet_aton("192.0.2.7")
    + socket.inet_aton("203.0.113.1")
    + (5555).to_bytes(2)
    + (443).to_bytes(2),
}


@pytest.mark.usefixtures("transports")
@pytest.mark.parametrize("version", HEADERS)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_console_of_an_announced_client_carries_both_ways(
    tls: bool, version: str, listener_certificate: Certificate
) -> None:
    """The header may come in pieces, and with what follows it in one segment."""
    encrypted = config.listener(tls=listener_certificate if tls else None, proxy_protocol=True)
    with (
        ScriptedUpstream(echo("binary")) as upstream,
        Proxy(config.ini(encrypted, config.upstream(upstream.port), access_log="stdout")) as proxy,
    ):
        header = HEADERS[version]
        for cut in (0, 5, len(header)):
            before = (header[:cut], header[cut:])
            with Client(proxy.ports["one"], tls=tls, before=before) as client:
                client.open("/ticket/secret-ticket", ["binary"])
                for size in (1, 5000, 200_000):
                    client.send_frame(BINARY, bytes(size))
                    assert client.recv_frame().payload == bytes(size)
                client.send_close()
                client.recv_close()
        lines = until(lambda: _lines(proxy) if len(_lines(proxy)) == 3 else None, "three records")
        assert {(line["client"], line["client_port"], line["error"]) for line in lines} == {
            ("192.0.2.7", 5555, None)
        }


def _lines(proxy: Proxy) -> list[dict[str, object]]:
    return [json.loads(line) for line in proxy.log().splitlines() if line.startswith("{")]
