"""`http = portal` with one worker: a login outlives the admin process and a reload."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support import config
from tests.support.crowd import EchoUpstream
from tests.support.programs import Proxy, until


class PortalProxy(Proxy):
    """A proxy that is ready when its worker and its admin process are."""

    def is_ready(self) -> bool:
        return super().is_ready() and "all workers are ready" in self.log()

    def ask(self, method: str, path: str, body: str = "", **fields: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["people"], timeout=20)
        connection.request(method, path, body or None, {key.replace("_", "-"): fields[key] for key in fields})
        answer = connection.getresponse()
        fields = dict(reversed(answer.getheaders()))  # the first of each name
        return answer.status, fields, answer.read()

    def admin(self) -> int:
        """Return the pid of the admin process."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    line = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"esxiproxy.workers" in line and b"admin" in line and str(self.path).encode() in line:
                    return int(entry.name)
        raise AssertionError("there is no admin process")


@pytest.fixture
def proxy(upstream: EchoUpstream) -> Iterator[PortalProxy]:
    text = config.ini(
        config.listener("people", http="portal", authenticator="login", public_url="https://c.example.com"),
        config.upstream(upstream.port),
        config.authenticator("login", "session", providers="staff"),
        config.authenticator("staff", "htpasswd", file="users"),
    )
    made = PortalProxy(text)
    (made.folder / "users").write_text("ada:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")  # password
    (made.folder / "users").chmod(0o600)
    with made as running:
        yield running
        running.assert_clean()


def test_a_login_outlives_the_admin_process_and_a_reload(proxy: PortalProxy) -> None:
    status, fields, page = proxy.ask("GET", "/login")
    (token,) = re.findall(rb'name="token" value="([^"]+)"', page)
    form = {"name": "ada", "password": "password", "token": token.decode(), "next": "/vm/dc1/x"}
    sent = {
        "Content_Type": "application/x-www-form-urlencoded",
        "Cookie": f"__Host-esxiproxy-form={token.decode()}",
    }
    assert proxy.ask("POST", "/login", urlencode({**form, "password": "x"}), **sent)[0] == 403
    status, fields, _ = proxy.ask("POST", "/login", urlencode(form), **sent)
    assert (status, fields["Location"]) == (303, "/vm/dc1/x")
    cookie = fields["Set-Cookie"].partition(";")[0]

    def machines() -> int:
        status, _, body = proxy.ask("GET", "/api/machines", Cookie=cookie, X_Esxiproxy_Principal="staff/root")
        assert status != 200 or json.loads(body)["user"] == "ada"
        return status

    assert machines() == 200
    assert proxy.ask("GET", "/api/machines", X_Esxiproxy_Principal="staff/ada")[0] == 401, (
        "nobody is believed"
    )
    first = proxy.admin()
    os.kill(first, signal.SIGKILL)
    until(lambda: machines() == 200, "the login is there again")
    os.kill(proxy.pid, signal.SIGHUP)
    until(lambda: "is in force" in proxy.log(), "the reload has ended")
    assert machines() == 200
    status, fields, _ = proxy.ask("POST", "/api/logout", "{}", Cookie=cookie, Content_Type="application/json")
    assert status == 200 and machines() == 401
    assert cookie.partition("=")[2] not in proxy.log() and "password" not in proxy.log()
