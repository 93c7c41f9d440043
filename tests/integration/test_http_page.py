"""A page that is served through esxiproxy opens its console on the port that it came from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.support.browser import Chromium
from tests.support.certificates import Certificate
from tests.support.listeners import SCHEMES, Listeners, forwarding
from tests.support.peer import NotInTime, StreamEnded
from tests.support.programs import TICKET, until
from tests.support.websocket_peers import Connection, ScriptedUpstream

PAGE = b"""<!doctype html><meta charset=utf-8><title>loading</title>
<link rel=icon href=/icon.png><script src=/ui/console.js defer></script><p id=said></p>
"""
SCRIPT = f"""
const scheme = location.protocol == 'https:' ? 'wss' : 'ws'
const console_ = new WebSocket(`${{scheme}}://${{location.host}}/ticket/{TICKET}`, ['binary'])
console_.binaryType = 'arraybuffer'
const bytes = Uint8Array.from({{length: 100000}}, (_, number) => number % 251)
console_.onopen = () => {{ document.title = 'open ' + console_.protocol; console_.send(bytes) }}
console_.onmessage = async event => {{
    const same = new Uint8Array(event.data).every((byte, number) => byte == bytes[number])
    const answer = await fetch('/sdk', {{ method: 'POST', body: 'who' }})
    const said = [event.data.byteLength, same, await answer.text()]
    document.getElementById('said').textContent = said.join(' ')
    console_.close(1000, 'seen')
}}
console_.onclose = event => {{ document.title = `closed ${{event.code}} ${{event.wasClean}}` }}
""".encode()
FILES = {
    "/ui/": ("text/html", PAGE),
    "/ui/console.js": ("text/javascript", SCRIPT),
    "/sdk": ("text/plain", b"the host"),
}


def host(connection: Connection) -> None:
    """Serve pages and a console on one port, as an ESXi host does."""
    with contextlib.suppress(StreamEnded, NotInTime):
        while True:
            request = connection.read_request()
            if request.one("Upgrade"):
                connection.accept()
                connection.serve()
                break
            connection.recv_exactly(int(request.one("Content-Length") or 0))
            kind, body = FILES.get(request.target, ("text/plain", b""))
            status = "200 OK" if request.target in FILES else "404 Not Found"
            connection.send_head(status, [("Content-Type", kind), ("Content-Length", str(len(body)))], body)
    connection.close()


@pytest.fixture(scope="module")
def upstreams(upstream_certificate: Certificate) -> Iterator[tuple[ScriptedUpstream, ScriptedUpstream]]:
    with (
        ScriptedUpstream(host) as plain,
        ScriptedUpstream(host, upstream_certificate.server_context()) as secure,
    ):
        yield plain, secure


@pytest.fixture(scope="module")
def listeners(
    upstreams: tuple[ScriptedUpstream, ScriptedUpstream],
    upstream_certificate: Certificate,
    listener_certificate: Certificate,
) -> Iterator[Listeners]:
    plain, secure = upstreams
    with forwarding(plain.port, secure.port, upstream_certificate, listener_certificate) as running:
        yield running


@pytest.mark.parametrize("name", SCHEMES)
def test_a_page_opens_its_console(
    name: str,
    listeners: Listeners,
    upstreams: tuple[ScriptedUpstream, ScriptedUpstream],
    chromium: Chromium,
) -> None:
    """The page's files, requests and WebSocket all use the port of its own address."""
    upstream = upstreams[name != "one"]
    upstream.forget()
    page = chromium.open(f"{SCHEMES[name]}://127.0.0.1:{listeners.ports[name]}/ui/")
    try:
        until(lambda: page.evaluate("document.title").startswith("closed"), "the console was used and closed")
        assert page.evaluate("document.getElementById('said').textContent") == "100000 true the host"
        assert page.evaluate("document.title") == "closed 1000 true"
    finally:
        page.close()
    requests = [connection.request for connection in upstream.connections if connection.request]
    (opening,) = [request for request in requests if request.one("Upgrade")]
    scheme = "https" if upstream.tls else "http"
    assert opening.one("Origin") == f"{scheme}://127.0.0.1:{upstream.port}"
