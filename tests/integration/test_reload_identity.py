"""Reloads with other routers, authenticators and keys: consoles continue, new requests have new rules."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support import config, issued_links
from tests.support.crowd import Crew, EchoUpstream, echoes, let_go
from tests.support.issued_links import PUBLIC_URL, TARGET, IssuedLink
from tests.support.processes import Reloaded
from tests.support.programs import Proxy, until
from tests.support.websocket import Field, handshake_fields
from tests.support.websocket_peers import Client

CONSOLES = 200
ISSUER, AUDIENCE = "https://login.example.com", "consoles"


class ReloadedCrew(Crew, Reloaded):
    """esxiproxy with several workers, which a reload replaces."""


class Keys:
    """A key of links and a key of logins, which a version of the files has."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.key = Ed25519PrivateKey.generate()

    def write(self, folder: Path) -> None:
        """Write the folder with the key of links, and the JWK Set with that of logins."""
        folder.mkdir()
        pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{self.name}.eddsa.pem").write_bytes(pem)
        public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(self.key.public_key()))
        (folder / "logins.json").write_text(json.dumps({"keys": [{**public, "kid": self.name}]}))

    def login(self, name: str) -> Field:
        """Return the field of a user who has logged in at the issuer."""
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": name, "iat": now, "exp": now + 600}
        token = jwt.encode(claims, self.key, "EdDSA", headers={"kid": self.name})
        return "Authorization", f"Bearer {token}"


def basic(name: str, password: str = "wonderland") -> Field:
    """Return the field of a user with a password."""
    return "Authorization", "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def password_line(name: str, password: str = "wonderland") -> str:
    """Return the line of a user in a password file, as `htpasswd -s` writes it."""
    return f"{name}:{{SHA}}{base64.b64encode(hashlib.sha1(password.encode()).digest()).decode()}"


@dataclass
class Versions:
    """A proxy, and the versions of the files that its configurations name."""

    folder: Path
    upstream: EchoUpstream
    workers: int
    keys: dict[str, Keys]

    def version(self, number: int, users: Sequence[str], hosts: Sequence[str]) -> None:
        """Write the files of a version."""
        keys = self.keys.setdefault(f"k{number}", Keys(f"k{number}"))
        keys.write(self.folder / f"keys{number}")
        self.write_users(number, users)
        rows = [f"{name},ws://127.0.0.1:{self.upstream.port}" for name in hosts]
        (self.folder / f"hosts{number}.csv").write_text("\n".join(["name,address", *rows, ""]))

    def write_users(self, number: int, users: Sequence[str]) -> None:
        """Write the password file of a version."""
        path = self.folder / f"users{number}"
        path.with_suffix(".new").write_text("\n".join([*map(password_line, users), ""]))
        path.with_suffix(".new").replace(path)

    def text(self, number: int, more: str = "", reauthenticate: str | None = None) -> str:
        """Return the configuration with the files of a version."""
        return config.ini(
            config.listener("users", None, router="fleet", authenticator="logins, users"),
            config.listener("links", None, router="issued", public_url=PUBLIC_URL),
            config.router(
                "fleet",
                "inventory",
                file=self.folder / f"hosts{number}.csv",
                template="plain",
                locate="path:/h/{host}/",
                allow="127.0.0.0/8",
            ),
            issued_links.router(self.folder / f"keys{number}", signing_key=f"k{number}", template="plain"),
            config.authenticator(
                "users", "htpasswd", file=self.folder / f"users{number}", reauthenticate=reauthenticate
            ),
            config.authenticator(
                "logins",
                "jwt",
                keys=self.folder / f"keys{number}/logins.json",
                issuer=ISSUER,
                audience=AUDIENCE,
                algorithms="EdDSA",
            ),
            config.template("plain", url="ws://127.0.0.1:1"),
            workers=self.workers,
            state=f"sqlite:{self.folder}/state.db",
            max_connections="off",
            max_sessions_per_console="off",
            head_timeout="2s",
            tls_handshake_timeout="2s",
            close_timeout="1s",
            drain_timeout="1s",
            worker_shutdown_timeout="60s",
            access_log="stdout",
            session_log="errors",
            more=more,
        )

    def proxy(self, **keys: str) -> Reloaded:
        """Return a proxy with the files of the first version."""
        return (ReloadedCrew if self.workers > 1 else Reloaded)(self.text(1, **keys))


@pytest.fixture
def scene(request: pytest.FixtureRequest, upstream: EchoUpstream, tmp_path: Path) -> Versions:
    found = Versions(tmp_path, upstream, getattr(request, "param", 1), {})
    found.version(1, ["alice", "bob"], ["esxi1", "esxi2"])
    return found


def opening(port: int, target: str, *fields: Field) -> Client:
    """Return a client that has asked for a console."""
    client = Client(port, timeout=30)
    client.send_request(f"GET {target} HTTP/1.1", handshake_fields(["binary"], fields))
    return client


def consoles(asked: Sequence[Client]) -> list[Client]:
    """Return clients whose consoles are open."""
    for client in asked:
        head = client.recv_head()
        assert head.status == 101, head.raw
    return list(asked)


def status(port: int, target: str, *fields: Field) -> int:
    """Return the status of an opening; a console that it opens is closed."""
    with opening(port, target, *fields) as client:
        return client.recv_head().status


def answers(proxy: Proxy, keys: dict[str, Keys], links: dict[str, IssuedLink]) -> dict[str, int]:
    """Return the statuses of requests that the rules allow or refuse."""
    users, host = proxy.ports["users"], f"/h/esxi1{TARGET}"
    found = {name: status(users, host, basic(name)) for name in ("alice", "bob", "carol")}
    found |= {name: status(users, f"/h/{name}{TARGET}", basic("alice")) for name in ("esxi2", "esxi3")}
    found |= {f"login {name}": status(users, host, each.login("dora")) for name, each in keys.items()}
    found |= {f"link {name}": status(proxy.ports["links"], each.target) for name, each in links.items()}
    return found


BEFORE = {"alice": 101, "bob": 101, "carol": 401, "esxi2": 101, "esxi3": 404, "login k1": 101, "link k1": 101}
AFTER = {
    **{"alice": 101, "bob": 401, "carol": 101, "esxi2": 404, "esxi3": 101},
    **{"login k1": 401, "link k1": 404, "login k2": 101, "link k2": 101},
}


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def sized(request: pytest.FixtureRequest, scene: Versions) -> Iterator[Versions]:
    scene.workers = request.param
    yield scene


def test_a_reload_with_other_rules_loses_no_console(sized: Versions) -> None:
    """A version with mistakes changes nothing. The next version holds for every request after it."""
    scene = sized
    with scene.proxy() as proxy:
        issued_links.await_state(proxy.ports["links"])
        links = {"k1": issued_links.link(proxy.path, scene.upstream.port, "--many")}
        users = proxy.ports["users"]
        asked = [opening(users, f"/h/esxi1{TARGET}", basic("alice")) for _ in range(60)]
        asked += [opening(users, f"/h/esxi2{TARGET}", basic("bob")) for _ in range(60)]
        asked += [opening(users, f"/h/esxi2{TARGET}", scene.keys["k1"].login("dora")) for _ in range(40)]
        asked += [opening(proxy.ports["links"], links["k1"].target) for _ in range(40)]
        open_ones = consoles(asked)
        assert len(open_ones) == CONSOLES and all(map(echoes, open_ones))
        keys = dict(scene.keys)
        assert answers(proxy, keys, links) == BEFORE

        scene.version(2, ["alice", "carol"], ["esxi1", "esxi3"])
        (scene.folder / "users3").write_text("dave:rqXexS6ZhobKA\n")  # a hash of crypt(3)
        proxy.reload(scene.text(2).replace("users2", "users3"), well=False)
        assert answers(proxy, keys, links) == BEFORE and all(map(echoes, open_ones))

        proxy.reload(scene.text(2))
        links["k2"] = issued_links.link(proxy.path, scene.upstream.port, "--many")
        assert answers(proxy, scene.keys, links) == AFTER
        assert all(map(echoes, open_ones)), "a console was lost"

        proxy.reload(scene.text(1))
        assert answers(proxy, keys, {"k1": links["k1"]}) == BEFORE
        assert all(map(echoes, open_ones)), "a console was lost"
        let_go(open_ones)
        proxy.assert_clean()


def test_a_reload_with_other_plugins_loses_no_console(scene: Versions) -> None:
    """The routers and the authenticators of a listener are others, of other types."""
    with scene.proxy() as proxy:
        users = proxy.ports["users"]
        running = consoles([opening(users, f"/h/esxi1{TARGET}", basic("alice")) for _ in range(20)])
        assert status(users, f"/h/esxi1{TARGET}") == 401 and status(users, TARGET, basic("alice")) == 404
        text = scene.text(1).replace("authenticator = logins, users", "authenticator = anonymous")
        text = text.replace("router = fleet", "router = fleet, rest")
        proxy.reload(
            text
            + config.router("rest", "static", upstream="echo")
            + config.upstream(scene.upstream.port, "echo")
        )
        assert status(users, f"/h/esxi1{TARGET}") == 101 and status(users, TARGET) == 101
        assert status(users, f"/h/esxi3{TARGET}") == 404, "the inventory has decided"
        assert all(map(echoes, running))
        proxy.reload(scene.text(1))
        assert status(users, f"/h/esxi1{TARGET}") == 401
        assert all(map(echoes, running))
        let_go(running)


def test_reloads_leave_nothing_behind(scene: Versions) -> None:
    """The routers and authenticators of before end with the last console of before."""
    with scene.proxy() as proxy:
        running = consoles([opening(proxy.ports["users"], f"/h/esxi1{TARGET}", basic("alice"))])
        proxy.reload()
        threads = len(list(Path(f"/proc/{proxy.pid}/task").iterdir()))
        for _ in range(4):
            proxy.reload()
        let_go(running)
        until(
            lambda: len(list(Path(f"/proc/{proxy.pid}/task").iterdir())) <= threads,
            "the threads of the plugins of before have ended",
        )
        assert status(proxy.ports["users"], f"/h/esxi1{TARGET}", basic("alice")) == 101


def test_a_console_from_before_a_reload_ends_with_its_login(scene: Versions) -> None:
    """The authenticator that knows the login is asked, and it has read the file again."""
    with scene.proxy(reauthenticate="500ms") as proxy:
        users = proxy.ports["users"]
        alice, bob = consoles([opening(users, f"/h/esxi1{TARGET}", basic(name)) for name in ("alice", "bob")])
        proxy.reload()
        time.sleep(1)
        assert echoes(alice) and echoes(bob)
        scene.write_users(1, ["alice"])
        assert bob.recv_close() == (1008, "login ended")
        assert echoes(alice)
        let_go([alice, bob])
        until(lambda: '"error":"LoginEnded"' in proxy.log(), "it is logged")
