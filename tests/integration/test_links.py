"""Links of the command `esxiproxy link` and a running proxy: how often each works, and what is refused."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support import config, issued_links
from tests.support.certificates import Certificate
from tests.support.crowd import echoes
from tests.support.issued_links import PUBLIC_URL, TARGET, IssuedLink, kill, revoke
from tests.support.links import claims, key_folder, token
from tests.support.programs import TICKET, Proxy, until
from tests.support.scripts import echo
from tests.support.websocket import Head
from tests.support.websocket_peers import Client, ScriptedUpstream

PLACES = {
    "issued": {"locate": "path:/c/{link}"},
    "hidden": {"locate": "query:link", "opaque": True},
    "offered": {"locate": "subprotocol"},
    "baked": {"locate": "cookie:console"},
}
"""The routers, each of which is that of the listener with its name."""
VARYING = ("date", "x-request-id")


@dataclass
class LinkScene:
    """A proxy with a listener for each place of links, and the host that links lead to."""

    proxy: Proxy
    host: ScriptedUpstream
    pin: str

    def link(self, *options: str, router: str = "issued") -> IssuedLink:
        """Make a link to the host."""
        pinned = ("--pin", self.pin)
        return issued_links.link(self.proxy.path, self.host.port, *pinned, *options, router=router)

    def signed(self, **changed: Any) -> IssuedLink:
        """Return a link of the same issuer with other claims."""
        to = {"host": "127.0.0.1", "port": self.host.port, "path": TARGET}
        whole = claims(time.time(), **{"to": to, "pin": [self.pin], **changed})
        return IssuedLink("link-1", f"/c/{token(whole).decode()}", "", whole["exp"])

    def client(self, router: str = "issued", address: str = "127.0.0.1") -> Client:
        """Return a client of the listener of a router."""
        return Client(self.proxy.ports[router], timeout=20, address=address)

    def console(self, link: IssuedLink, router: str = "issued") -> Client:
        """Open the console of a link."""
        client = self.client(router)
        client.open(link.target, ["binary"])
        assert echoes(client)
        return client

    def ask(self, link: IssuedLink) -> tuple[int, bytes]:
        """Return the status and every other byte of an answer that says anything of the link."""
        with self.client() as client:
            client.send_opening(link.target, ["binary"])
            head, body = client.recv_answer()
        return head.status, kept(head) + body

    def get(self, link: IssuedLink, *fields: tuple[str, str], router: str = "issued") -> tuple[Head, bytes]:
        """Return the answer to a plain GET of a link."""
        with self.client(router) as client:
            client.get(link.target, *fields)
            return client.recv_answer()

    def is_used(self, link: IssuedLink) -> bool:
        """Return whether an opening of the link is refused since it was used."""
        before = self.proxy.log().count('"error":"LinkUsed"')
        status, _rest = self.ask(link)
        if status != 404:
            return False
        until(lambda: self.proxy.log().count('"error":"LinkUsed"') > before, "it is logged as used")
        return True


def kept(head: Head) -> bytes:
    """Return a head without what is different in every answer."""
    return repr([(name, value) for name, value in head.fields if name.lower() not in VARYING]).encode()


@pytest.fixture(scope="module")
def scene(upstream_certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LinkScene]:
    keys = key_folder(tmp_path_factory.mktemp("links"))
    text = config.ini(
        config.template(verify="pin"),
        *(
            config.listener(name, None, router=name, public_url=PUBLIC_URL)
            + issued_links.router(keys, name, **place)
            for name, place in PLACES.items()
        ),
        state="sqlite:state.db",
        access_log="stdout",
        close_timeout="1s",
        decision_timeout="5s",
    )
    with (
        ScriptedUpstream(echo(), tls=upstream_certificate.server_context()) as host,
        Proxy(text) as proxy,
    ):
        issued_links.await_state(proxy.ports["issued"])
        yield LinkScene(proxy, host, f"sha256:{upstream_certificate.sha256}")
        proxy.assert_clean()


def test_a_link_opens_its_console_once(scene: LinkScene) -> None:
    """The host is asked for the target in the link; a second client is refused meanwhile and afterwards."""
    link = scene.link()
    client = scene.console(link)
    request = scene.host.connection().request
    assert request is not None and request.target == TARGET
    assert request.one("Host") == f"127.0.0.1:{scene.host.port}"
    dialled = len(scene.host.connections)
    assert scene.is_used(link)
    client.drop()
    assert scene.is_used(link) and scene.is_used(link)
    assert len(scene.host.connections) == dialled
    assert link.target.rpartition("/")[2] not in scene.proxy.log()


@pytest.mark.parametrize("router", ["hidden", "offered", "baked"])
def test_a_link_opens_its_console_from_any_place(scene: LinkScene, router: str) -> None:
    """A link in the query, among the subprotocols or in a cookie opens its console.

    The host does not get it.
    """
    link = scene.link(router=router)
    fields = [("Cookie", f"theme=dark; {link.field}")] if router == "baked" else []
    subprotocols = ["binary", *([link.field] if router == "offered" else [])]
    answers = []
    for _ in range(2):
        with scene.client(router) as client:
            answers.append(client.ask(link.target, subprotocols, fields))
    assert [answer.status for answer in answers] == [101, 404]
    assert answers[0].one("Sec-WebSocket-Protocol") == "binary"
    request = scene.host.connection().request
    assert request is not None and request.target == TARGET
    assert request.one("Sec-WebSocket-Protocol") == "binary"
    assert request.one("Cookie") == ("theme=dark" if router == "baked" else None)
    secret = link.field.partition("=")[2] or link.field or link.target.partition("=")[2]
    assert secret and secret not in scene.proxy.log()


def test_an_opaque_link_is_short_and_says_nothing(scene: LinkScene) -> None:
    link = scene.link(router="hidden")
    text = link.target.partition("=")[2]
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", text)
    stored = (scene.proxy.folder / "state.db").read_bytes()
    stored += (scene.proxy.folder / "state.db-wal").read_bytes()
    for secret in (text, link.id, TICKET):
        assert secret.encode() not in stored


def test_every_link_that_does_not_work_gets_the_same_answer(scene: LinkScene) -> None:
    """Unknown, altered, expired, used and revoked ones; the log has the true name of each."""
    used, revoked, good = scene.link(), scene.link(), scene.link()
    scene.console(used).drop()
    revoke(scene.proxy.path, revoked)
    head, payload, signature = good.target.removeprefix("/c/").split(".")
    other = "B" if signature[0] == "A" else "A"
    altered = IssuedLink("", f"/c/{head}.{payload}.{other}{signature[1:]}", "", 0)
    expired = scene.signed(exp=time.time() - 10)
    until(lambda: scene.is_used(used), "the console has ended")
    before = len(scene.proxy.log())
    dialled = len(scene.host.connections)
    links = [IssuedLink("", "/c/nothing", "", 0), altered, expired, used, revoked]
    answers = [scene.ask(link) for link in links]
    assert {status for status, _ in answers} == {404}
    assert len(set(answers)) == 1, answers
    assert b"RouteNotFound" not in answers[0][1] and b"ink" not in answers[0][1]
    names = ["LinkInvalid", "LinkInvalid", "LinkExpired", "LinkUsed", "LinkRevoked"]
    found = until(
        lambda: (
            said
            if len(said := re.findall(r'"error":"(\w+)"', scene.proxy.log()[before:])) >= len(names)
            else None
        ),
        "all are logged",
    )
    assert found == names
    assert len(scene.host.connections) == dialled
    scene.console(good).drop()


def test_a_plain_get_gives_the_reason_and_spends_nothing(scene: LinkScene) -> None:
    """A script in a browser sees neither the status nor the body of a refused opening handshake."""
    link, json_wanted = scene.link(), ("Accept", "application/json")
    dialled = len(scene.host.connections)
    for _ in range(3):
        head, body = scene.get(link, json_wanted)
        assert head.status == 426 and json.loads(body)["error"] == "UpgradeRequired"
    assert scene.get(link)[0].one("Content-Type") == "text/plain; charset=utf-8"
    assert len(scene.host.connections) == dialled
    scene.console(link).drop()
    until(lambda: scene.is_used(link), "the console has ended")
    head, body = scene.get(link, json_wanted)
    assert head.status == 404 and json.loads(body)["error"] == "RouteNotFound"
    head, body = scene.get(IssuedLink("", "/?link=AAAAAAAAAAAAAAAAAAAAAA", "", 0), router="hidden")
    assert head.status == 404 and body == b"404 Not Found: No upstream belongs to this request.\n"


def test_a_client_that_offers_only_its_link_gets_an_error(scene: LinkScene) -> None:
    link = scene.link(router="offered")
    with scene.client("offered") as client:
        client.send_opening(link.target, [link.field])
        head, body = client.recv_answer()
    assert head.status == 400 and b"beside the subprotocol" in body
    with scene.client("offered") as client:
        client.open(link.target, ["binary", link.field])


def test_revoking_a_link_ends_its_console(scene: LinkScene) -> None:
    link, other = scene.link("--many"), scene.link("--many")
    clients = [scene.console(link), scene.console(link)]
    bystander = scene.console(other)
    revoke(scene.proxy.path, link)
    assert {client.recv_close() for client in clients} == {(1008, "the link was revoked")}
    assert scene.ask(link)[0] == 404
    until(lambda: '"error":"LinkRevoked"' in scene.proxy.log(), "it is logged as revoked")
    assert echoes(bystander)
    bystander.drop()


@pytest.mark.parametrize("use", [(), ("--reuse", "60s")], ids=["once", "reuse"])
def test_a_console_that_an_operator_kills_spends_its_link(scene: LinkScene, use: tuple[str, ...]) -> None:
    link = scene.link(*use)
    client = scene.console(link)
    kill(scene.proxy.folder / "state.db", link)
    assert client.recv_close() == (1008, "maintenance")
    client.drop()
    for _ in range(3):
        assert scene.is_used(link)


def test_a_second_opening_replaces_the_first(scene: LinkScene) -> None:
    """The old client answers nothing. The link works again after a disconnect, for its reuse time."""
    link = scene.link("--reuse", "2s")
    first = scene.console(link)
    second = scene.console(link)
    assert first.recv_close() == (1008, "replaced")
    assert echoes(second)
    second.drop()
    third = scene.console(link)
    third.send_close(1000)
    assert third.recv_close()[0] == 1000
    time.sleep(2.5)
    assert scene.is_used(link)


def test_a_link_for_many_works_until_it_expires(scene: LinkScene) -> None:
    link = scene.link("--many", "--ttl", "1h")
    clients = [scene.console(link) for _ in range(5)]
    assert all(map(echoes, clients))
    for client in clients:
        client.drop()
    scene.console(link).drop()


def test_the_subject_of_a_link_is_the_principal(scene: LinkScene) -> None:
    link = scene.link("--subject", "alice@example.com")
    scene.console(link).drop()

    def logged() -> dict[str, Any] | None:
        for line in scene.proxy.log().splitlines():
            if "alice@example.com" in line and line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        return None

    line = until(logged, "the session is in the access log")
    assert (line["principal"], line["status"], line["host"]) == ("alice@example.com", 101, "127.0.0.1")
    assert (line["listener"], line["upstream"]) == ("issued", "esxi")


def test_a_link_is_for_the_clients_of_its_network(scene: LinkScene) -> None:
    """A client of another network does not spend it."""
    link = scene.link("--net", "127.0.0.2/32")
    assert scene.ask(link)[0] == 404
    until(
        lambda: '"detail":"the link is for clients of another network"' in scene.proxy.log(), "it is logged"
    )


def test_a_host_with_another_certificate_gets_no_request(scene: LinkScene) -> None:
    """The link of such a host is not used up."""
    link = issued_links.link(scene.proxy.path, scene.host.port, "--pin", "sha256:" + "00" * 32)
    for _ in range(2):
        assert scene.ask(link)[0] == 502
    until(lambda: scene.proxy.log().count('"error":"UpstreamUntrusted"') == 2, "both are logged")


def test_the_lifetime_in_a_link_ends_its_console(scene: LinkScene) -> None:
    client = scene.console(scene.signed(ttl=1, jti="short"))
    code, reason = client.recv_close()
    assert code == 1008 and "lasted for 1 s" in reason


def test_the_command_makes_a_link_and_revokes_it(scene: LinkScene) -> None:
    """The command reads the host from its standard input, because other users see the arguments."""
    typed = f"127.0.0.1:{scene.host.port}{TARGET}\n"
    arguments = ("--to", "-", "--pin", scene.pin, "--json")
    said = issued_links.run(scene.proxy.path, "issued", *arguments, typed=typed)
    assert said.returncode == 0 and not said.stderr
    found = json.loads(said.stdout)
    assert found["url"].startswith(f"{PUBLIC_URL}/c/") and 290 < found["expires"] - time.time() <= 300
    client = scene.console(IssuedLink(found["id"], found["url"].removeprefix(PUBLIC_URL), "", 0))
    said = issued_links.run(scene.proxy.path, "issued", "--revoke", found["id"])
    assert (said.returncode, said.stdout) == (0, f"revoked {found['id']}\n")
    assert client.recv_close() == (1008, "the link was revoked")


def test_the_command_names_its_error(scene: LinkScene) -> None:
    said = issued_links.run(scene.proxy.path, "issued", "--to", "192.0.2.1:443", "--pin", scene.pin)
    assert said.returncode == 1 and "is not in `allow`" in said.stderr
    said = issued_links.run(scene.proxy.path, "nobody", "--to", "127.0.0.1:443")
    assert said.returncode == 1 and "no [router nobody]" in said.stderr
