"""The example that resolves console tokens of Nova: a console opens through it and the router `resolver`."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support import config
from tests.support.certificates import Authority
from tests.support.programs import ROOT, Program, Proxy
from tests.support.scripts import echo
from tests.support.websocket import BINARY
from tests.support.websocket_peers import Client, ScriptedUpstream


class Service(Program):
    """`examples/nova_tokens.py`."""

    name = "nova_tokens"
    port = 0

    def __init__(self, nova: int) -> None:
        super().__init__()
        self._nova = f"http://127.0.0.1:{nova}/v2.1"

    def command(self) -> Sequence[str | Path]:
        program = [sys.executable, ROOT / "examples" / "nova_tokens.py", "--port", "0", "--nova", self._nova]
        return ["env", "OS_TOKEN=the-token-of-keystone", *program]

    def is_ready(self) -> bool:
        found = re.search(r"tokens are resolved on port (\d+)", self.log())
        self.port = int(found[1]) if found else 0
        return bool(found)


@pytest.fixture
def nova() -> Iterator[tuple[int, dict[str, object]]]:
    """Run a server that answers as Nova does, with the consoles that the test adds."""
    consoles: dict[str, object] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = consoles.get(self.path.removeprefix("/v2.1/os-console-auth-tokens/"))
            allowed = self.headers["X-Auth-Token"] == "the-token-of-keystone"
            self.send_response(200 if found and allowed else 404 if allowed else 401)
            body = json.dumps({"console": found}).encode()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, consoles
    server.shutdown()
    server.server_close()


def test_a_console_opens_by_a_token_of_nova(
    nova: tuple[int, dict[str, object]], authority: Authority
) -> None:
    port, consoles = nova
    own = authority.server("esxi")
    with ScriptedUpstream(echo(), own.server_context()) as host, Service(port) as service:
        mks = {"ticket": "52d1-secret", "cfgFile": "[datastore] vm/vm.vmx", "thumbprint": own.sha1}
        consoles["token-1"] = {
            "host": "127.0.0.1",
            "port": host.port,
            "instance_uuid": "u",
            "internal_access_path": json.dumps(mks),
        }
        consoles["token-2"] = {"host": "127.0.0.1", "port": host.port, "internal_access_path": "no JSON"}
        text = config.ini(
            config.listener(upstream=None, router="nova"),
            "[router nova]\ntype = resolver\ntemplate = fleet\nallow = 127.0.0.1\n"
            f"url = http://127.0.0.1:{service.port}/consoles/{{token}}\n",
            "[upstream fleet]\nverify = pin\n",
        )
        with Proxy(text) as proxy:
            with Client(proxy.ports["one"]) as client:
                assert client.ask("/?token=token-1", ["binary"]).status == 101
                client.send_frame(BINARY, b"hello")
                assert client.recv_frame().payload == b"hello"
            assert host.connection(0).request.line == "GET /ticket/52d1-secret HTTP/1.1"
            for token, status in (("token-3", 404), ("token-2", 502), ("..%2Ftoken-1", 404)):
                with Client(proxy.ports["one"]) as client:
                    assert client.ask(f"/?token={token}", ["binary"]).status == status, token
            assert "52d1-secret" not in proxy.log() + service.log()
            assert "token-1" not in proxy.log() + service.log()
