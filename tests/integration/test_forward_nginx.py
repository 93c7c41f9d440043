"""Debian's nginx is the service of the authenticator `forward`, asked by the real HTTP client."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger

from esxiproxy.authenticators.forward import TYPE, ForwardAuthenticator
from esxiproxy.core.config.key import SectionKind
from esxiproxy.core.config.plugin_type import settings_of
from esxiproxy.core.errors import AccessDenied, ServiceUnavailable
from esxiproxy.core.http.head import parse
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.routing import Principal
from esxiproxy.plugins import Context
from tests.support.certificates import Authority, Certificate
from tests.support.programs import TICKET, Nginx, free_ports, until
from tests.support.web_server import Web

SERVER = """
    log_format told '$uri $http_x_original_url $http_x_forwarded_uri $http_x_original_method '
                    '$http_x_forwarded_host $http_x_real_ip';
    map $cookie_user $allowed {{ default 401; alice 200; bob 200; mallory 403; broken 500; page 302; }}
    map $cookie_user $groups {{ default ""; alice "admins,dev"; }}
    server {{
        listen 127.0.0.1:{plain};
        listen 127.0.0.1:{secure} ssl;
        listen unix:{folder}/auth.sock;
        ssl_certificate {certificate}; ssl_certificate_key {key};
        access_log {folder}/told.log told;
        location = /cookie {{
            if ($allowed = 401) {{ return 401; }}
            if ($allowed = 403) {{ return 403; }}
            if ($allowed = 500) {{ return 500; }}
            if ($allowed = 302) {{ return 302 https://sso.example.com/; }}
            add_header Remote-User $cookie_user;
            add_header Remote-Groups $groups;
            add_header Set-Cookie "seen=1; Path=/; HttpOnly";
            return 200 "welcome";
        }}
        location = /basic {{
            auth_basic "the consoles";
            auth_basic_user_file {folder}/users;
            add_header X-Auth-Request-User $remote_user;
            try_files /users =404;
            root {folder};
        }}
    }}
"""


@dataclass
class AuthService:
    """nginx, and the client that asks it."""

    folder: Path
    plain: int
    secure: int
    authority: Authority
    web: Web

    def forward(self, **texts: str) -> ForwardAuthenticator:
        """Return the authenticator of a section with these keys."""
        settings = settings_of(TYPE, SectionKind.AUTHENTICATOR, texts, self.folder, "authenticator sso")
        nothing: Any = None
        context = Context(
            section="authenticator sso",
            clock=self.web.reactor,
            state=nothing,
            upstreams={},
            http=self.web.client,
            log=Logger(),
            previous=None,
            in_thread=nothing,
            watch=nothing,
            end_sessions=nothing,
        )
        return TYPE.create(settings, context)

    def ask(self, found: ForwardAuthenticator, asking: Request) -> Principal | None:
        principal: Principal | None = self.web.result(found.authenticate(asking))
        return principal

    def told(self) -> list[str]:
        return (self.folder / "told.log").read_text().splitlines()


@pytest.fixture
def scene(tmp_path: Path, authority: Authority, upstream_certificate: Certificate) -> Iterator[AuthService]:
    plain, secure = free_ports(2)
    (tmp_path / "users").write_text("carol:{PLAIN}secret\n")
    tmp_path.chmod(0o755)
    shown = upstream_certificate
    text = SERVER.format(
        plain=plain, secure=secure, certificate=shown.path, key=shown.key_path, folder=tmp_path
    )
    with Nginx(text):
        web = Web()
        yield AuthService(tmp_path, plain, secure, authority, web)
        web.close()


def request(*fields: str, target: str = f"/ticket/{TICKET}") -> Request:
    """Return the opening handshake of a client with these fields."""
    lines = ["Host: consoles.example.com", "Upgrade: websocket", "Connection: Upgrade", *fields]
    head = parse(f"GET {target} HTTP/1.1\r\n".encode() + "\r\n".join([*lines, "", ""]).encode())
    return Request("s1", "one", PeerAddress("192.0.2.7", 40000), True, head)


def basic(name: str, password: str) -> str:
    return "Authorization: Basic " + b64encode(f"{name}:{password}".encode()).decode()


def test_cookies_that_the_service_allows_and_refuses(scene: AuthService) -> None:
    found = scene.forward(url=f"http://127.0.0.1:{scene.plain}/cookie")
    alice = scene.ask(found, request("Cookie: user=alice", "Remote-User: root", "Remote_Groups: root"))
    assert alice is not None
    assert (alice.name, alice.groups) == ("alice", {"admins", "dev"})
    assert alice.response_fields == ((b"Set-Cookie", b"seen=1; Path=/; HttpOnly"),)
    bob = scene.ask(found, request("Cookie: user=bob"))
    assert bob is not None and (bob.name, bob.groups) == ("bob", frozenset())
    for fields in ((), ("Cookie: user=nobody",), ("Cookie: user=page",), ("Remote-User: alice",)):
        assert scene.ask(found, request(*fields)) is None
    with pytest.raises(AccessDenied):
        scene.ask(found, request("Cookie: user=mallory"))
    with pytest.raises(ServiceUnavailable, match="answered with status 500"):
        scene.ask(found, request("Cookie: user=broken"))


def test_a_password_that_nginx_checks(scene: AuthService) -> None:
    found = scene.forward(url=f"http://127.0.0.1:{scene.plain}/basic")
    carol = scene.ask(found, request(basic("carol", "secret")))
    assert carol is not None and carol.name == "carol" and b"authorization" in carol.consumed
    asking = request(basic("carol", "wrong"))
    assert scene.ask(found, asking) is None
    answer = found.challenge(asking)
    assert answer is not None
    assert answer.fields == ((b"WWW-Authenticate", b'Basic realm="the consoles"'),)


def test_over_tls_and_over_a_unix_socket(scene: AuthService) -> None:
    url, ca = f"https://localhost:{scene.secure}/cookie", str(scene.authority.path)
    asking = request("Cookie: user=alice")
    for texts in ({"url": url, "ca": ca}, {"url": "http://auth/cookie", "socket": "auth.sock"}):
        alice = scene.ask(scene.forward(**texts), asking)
        assert alice is not None and alice.name == "alice"
    with pytest.raises(ServiceUnavailable, match="certificate verify failed"):
        scene.ask(scene.forward(url=url), asking)


def test_the_service_gets_no_ticket(scene: AuthService) -> None:
    found = scene.forward(url=f"http://127.0.0.1:{scene.plain}/cookie")
    for target in (f"/ticket/{TICKET}", f"/ui?ticket={TICKET}&x=1"):
        scene.ask(found, request("Cookie: user=alice", target=target))
    # nginx writes its line when it has answered.
    until(lambda: len(scene.told()) >= 2, "nginx wrote a line for each request")
    assert scene.told() == [
        f"/cookie https://consoles.example.com{shown} {shown} GET consoles.example.com 192.0.2.7"
        for shown in ("/ticket/***", "/ui?ticket=***&x=1")
    ]


def test_a_login_is_checked_again_until_the_service_is_gone(scene: AuthService) -> None:
    found = scene.forward(url=f"http://127.0.0.1:{scene.plain}/basic")
    asking = request(basic("carol", "secret"))
    carol = scene.ask(found, asking)
    assert carol is not None
    kept = found.remember(asking, carol)
    assert scene.web.result(found.reauthenticate(kept)).name == "carol"
    (scene.folder / "users").write_text("carol:{PLAIN}changed\n")
    assert scene.web.result(found.reauthenticate(kept)) is None
    gone = scene.forward(url="http://auth/basic", socket="no.sock")
    with pytest.raises(ServiceUnavailable):
        scene.web.result(gone.reauthenticate(gone.remember(asking, carol)))
