"""The terminal commands against two real workers with real consoles: seen, killed, drained and revoked."""

from __future__ import annotations

import grp
import json
import os
import signal
import tempfile
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest

from tests.support import config, issued_links
from tests.support.commands import NOBODY, CommandOnTerminal, as_user, command
from tests.support.crowd import TARGET, Crew, EchoUpstream, echoes
from tests.support.issued_links import PUBLIC_URL
from tests.support.links import key_folder
from tests.support.processes import ROOT_ONLY
from tests.support.programs import TICKET, until
from tests.support.running_admin import check
from tests.support.websocket_peers import Client

USERS = ("alice", "bob", "carol")
REASON = "Wartung: die Hosts werden neu gestartet, bitte später wieder anmelden... " + "三つの言葉" * 8


def basic(user: str) -> tuple[str, str]:
    return "Authorization", f"Basic {b64encode(f'{user}:secret'.encode()).decode()}"


@dataclass
class Scene:
    """A proxy with two workers in front of two hosts, and the consoles that a test opens."""

    crew: Crew
    links_to: int
    clients: list[Client] = field(default_factory=list)

    def console(self, listener: str, target: str = TARGET, user: str | None = None) -> Client:
        client = Client(self.crew.ports[listener], timeout=30)
        client.open(target, ["binary"], [basic(user)] if user else [])
        self.clients.append(client)
        return client

    def refused(self, listener: str, user: str) -> int:
        """Return the status of an opening handshake."""
        with Client(self.crew.ports[listener], timeout=30) as client:
            return client.ask(TARGET, ["binary"], [basic(user)]).status

    def say(self, *arguments: str, status: int = 0) -> str:
        """Return what a command prints that finds the proxy by its configuration."""
        name, *others = arguments
        done = command(name, "--config", self.crew.path, *others)
        assert done.returncode == status, (done.stdout, done.stderr)
        assert TICKET not in done.stdout + done.stderr
        return done.stdout or done.stderr

    def rows(self, schema: str, *arguments: str) -> list[dict[str, Any]]:
        """Return what a command prints as JSON, each row checked against the API's document."""
        found: list[dict[str, Any]] = json.loads(self.say(*arguments, "--json"))
        for row in found:
            check(schema, row)
        return found

    def await_listed(self, count: int) -> None:
        """Wait until so many consoles are listed."""
        until(lambda: len(self.ids()) == count, f"{count} consoles are listed")

    def ids(self, *filters: str) -> set[str]:
        return {row["id"] for row in json.loads(command(
            "sessions", "--config", self.crew.path, "--now", "--json", *filters).stdout)}  # fmt: skip


@pytest.fixture(scope="module")
def running(upstream: EchoUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("terminal")
    people = "".join(f"{name}:{{SHA}}{b64encode(sha1(b'secret').digest()).decode()}\n" for name in USERS)
    with EchoUpstream() as second:
        text = "[admin]\naudit_log = audit.log\n" + config.ini(
            config.listener("first", authenticator="staff"),
            config.listener("second", "esxi2", authenticator="staff"),
            config.listener("linked", None, router="issued", public_url=PUBLIC_URL),
            issued_links.router(key_folder(folder)),
            config.upstream(upstream.port),
            config.upstream(second.port, "esxi2"),
            config.upstream("ws://127.0.0.1:1", "esxi"),
            config.authenticator("staff", "htpasswd", file="people"),
            workers=2,
            state=f"sqlite:{folder}/state.db",
            max_connections="off",
            max_sessions_per_console="off",
            ping_interval="off",
            close_timeout="1s",
        )
        with Crew(text, {"people": people}) as crew:
            until(lambda: crew.ask("GET", "/readyz")[0] == 200, "the admin process serves")
            yield Scene(crew, second.port)
            crew.assert_clean()
            assert not any(TICKET in path.read_text() for path in crew.folder.glob("audit.log"))


@pytest.fixture
def scene(running: Scene) -> Iterator[Scene]:
    yield running
    for client in running.clients:
        client.drop()
    running.clients.clear()
    until(lambda: not running.ids(), "all consoles have ended")


def test_what_runs_is_shown_over_all_workers(scene: Scene) -> None:
    for number in range(12):
        scene.console("first", user=USERS[number % 3])
    scene.console("second", user="bob")
    assert all(map(echoes, scene.clients))
    scene.await_listed(13)
    rows = scene.rows("Session", "sessions")
    assert Counter(row["principal"] for row in rows) == {"alice": 4, "bob": 5, "carol": 4}
    assert Counter(row["host"] for row in rows) == {"esxi1": 12, "esxi2": 1}
    assert {row["worker"] for row in rows} == {"0", "1"}
    assert {(row["bytes_up"], row["bytes_down"]) for row in rows} == {(11, 7)}  # a frame with "hello"
    (status,) = scene.rows("Status", "status")
    assert (status["sessions"], status["workers"], status["ready"]) == (13, 2, True)
    hosts = {row["host"]: row for row in scene.rows("Host", "hosts")}
    assert (hosts["esxi1"]["sessions"], hosts["esxi2"]["sessions"]) == (12, 1)
    (busiest, *_) = scene.rows("Session", "top", "--filter", "host:esxi2")
    assert busiest["principal"] == "bob" and busiest["rate_down"] is not None
    assert scene.ids("--user", "staff/carol") == {row["id"] for row in rows if row["principal"] == "carol"}
    text = scene.say("status")
    assert ", ready\n13 open consoles, " in text and "first     127.0.0.1:0        12  no" in text
    assert scene.say("sessions", "--user", "nobody", status=1) == "0 open consoles\n"


def test_a_kill_ends_the_console_with_the_reason(scene: Scene) -> None:
    """The Close has at most 123 bytes of the reason, and no half character. Other consoles continue."""
    victims = [scene.console("first", user="alice") for _ in range(6)]
    other = scene.console("first", user="bob")
    scene.await_listed(7)
    (one,) = {row["id"] for row in scene.rows("Session", "sessions", "--user", "bob", "--now")}
    assert scene.say("kill", "--user", "alice", "--reason", REASON) == "6 consoles ended\n"
    sent = REASON.encode()[:123].decode(errors="ignore")
    assert len(sent.encode()) < 123 < len(REASON.encode())
    assert {victim.recv_close() for victim in victims} == {(1008, sent)}
    assert echoes(other)
    assert scene.say("kill", one, "--reason", "enough") == "1 console ended\n"
    assert other.recv_close() == (1008, "enough")
    until(lambda: one not in scene.ids(), "the console is gone")
    assert "no open console has the id" in scene.say("kill", one, "--reason", "again", status=1)
    until(lambda: "Killed (7), bob, esxi1: enough" in scene.say("status"), "the failures are shown")
    lines = [json.loads(line) for line in (scene.crew.folder / "audit.log").read_text().splitlines()]
    kills = [line for line in lines if line["reason"] == REASON]
    assert [line["outcome"] for line in kills] == ["begun", "done"]
    assert kills[0]["action_id"] == kills[1]["action_id"]
    assert kills[0]["arguments"] == {"kind": "principal", "value": "alice"}
    assert kills[0]["actor"].startswith(f"uid {os.getuid()}")


def test_a_host_is_emptied_before_maintenance(scene: Scene) -> None:
    """New consoles are refused, running ones get a Close 1001 at the end, and other hosts are not touched."""
    leaving = [scene.console("first", user="alice") for _ in range(4)]
    staying = scene.console("second", user="bob")
    scene.await_listed(5)
    text = scene.say("drain", "host", "esxi1", "--end", "5s", "--reason", "memory is replaced")
    assert text == "host esxi1 takes no new consoles; 4 open consoles there are closed in 5s\n"
    until(lambda: scene.refused("first", "carol") == 503, "new ones are refused")
    (drain,) = scene.rows("Drain", "drain")
    assert (drain["kind"], drain["name"], drain["reason"]) == ("host", "esxi1", "memory is replaced")
    assert {client.recv_close() for client in leaving} == {(1001, "memory is replaced")}
    until(lambda: not scene.ids("--host", "esxi1"), "the host is empty")
    assert echoes(staying) and scene.refused("second", "carol") == 101
    assert scene.say("undrain", "host", "esxi1") == "host esxi1 takes new consoles again\n"
    assert "is not drained; esxiproxy drain lists" in scene.say("undrain", "host", "esxi1", status=1)
    until(lambda: scene.refused("first", "carol") == 101, "new ones are admitted")
    assert scene.say("drain") == "nothing is drained\n"


def test_the_whole_proxy_is_drained_and_says_so(scene: Scene) -> None:
    """The exit status of `status` is that of a readiness check."""
    console = scene.console("second", user="bob")
    scene.await_listed(1)
    assert "takes no new consoles; 1 open console there goes on" in scene.say(
        "drain", "proxy", "--reason", "the machine is updated"
    )
    assert ", NOT READY: the proxy is drained\n" in scene.say("status", status=1)
    until(lambda: scene.refused("first", "carol") == 503, "new ones are refused")
    assert scene.say("reload") == f"{scene.crew.path}: ok; it is in force\n"
    assert ", NOT READY: the proxy is drained\n" in scene.say("status", status=1)
    scene.say("undrain", "proxy", "--reason", "done")
    until(lambda: scene.refused("first", "carol") == 101, "new ones are admitted")
    assert ", ready\n" in scene.say("status") and echoes(console)


def test_a_revoked_link_loses_its_console(scene: Scene) -> None:
    link = issued_links.link(scene.crew.path, scene.links_to, "--many")
    client = scene.console("linked", link.target)
    other = scene.console("linked", issued_links.link(scene.crew.path, scene.links_to).target)

    def listed() -> dict[str, Any]:
        return {row["id"]: row for row in scene.rows("Link", "links")}.get(link.id, {})

    until(lambda: listed().get("sessions") == 1, "the link is listed")
    assert not listed()["revoked"]
    text = scene.say("links", "--revoke", link.id, "--reason", "sent to the wrong person")
    assert text == f"link {link.id} opens no more consoles; 1 console ended\n"
    assert client.recv_close() == (1008, "sent to the wrong person")
    with Client(scene.crew.ports["linked"], timeout=30) as again:
        assert again.ask(link.target, ["binary"]).status == 404
    until(lambda: listed()["sessions"] == 0 and listed()["revoked"], "the link is revoked")
    assert echoes(other)


def test_top_shows_real_consoles_on_a_terminal(scene: Scene) -> None:
    scene.console("first", user="alice")
    (one,) = until(lambda: scene.ids("--user", "alice") or None, "it is listed")
    arguments = ("top", "--config", scene.crew.path, "--interval", "0.2")
    with CommandOnTerminal(*arguments, width=80, height=24) as terminal:
        terminal.writes(one)
        scene.clients.pop().drop()
        terminal.writes("\r\n0 open consoles, ")
        terminal.signal(signal.SIGINT)
        assert terminal.status() == 0


@ROOT_ONLY
def test_another_user_may_not_open_the_socket() -> None:
    """With socket_group the members of the group may, and the audit log has their user id."""
    people = "".join(f"{name}:{{SHA}}{b64encode(sha1(b'secret').digest()).decode()}\n" for name in USERS)
    group = grp.getgrnam("daemon")
    with EchoUpstream() as host, tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        text = config.ini(
            config.listener("one", authenticator="staff"),
            config.upstream(host.port),
            config.authenticator("staff", "htpasswd", file="people"),
            workers=2,
        )
        admin = f"[admin]\nsocket = {place}/admin.sock\naudit_log = audit.log\n"
        with Crew(admin + text, {"people": people}) as crew:
            path = place / "admin.sock"
            until(lambda: command("status", "--socket", path).returncode == 0, "root may")
            done = as_user(NOBODY, [group.gr_gid], "status", "--socket", path)
            assert done.returncode == 3 and f"{path} may not be opened by you: " in done.stderr
            crew.path.write_text(f"{admin}socket_group = {group.gr_name}\n{text}")
            assert command("reload", "--config", crew.path).returncode == 0
            assert (path.stat().st_mode & 0o777, path.stat().st_gid) == (0o660, group.gr_gid)
            client = Client(crew.ports["one"], timeout=30)
            client.open(TARGET, ["binary"], [basic("alice")])
            done = as_user(
                NOBODY, [group.gr_gid], "kill", "--user", "alice", "--reason", "by a member", "--socket", path
            )
            assert (done.returncode, done.stdout) == (0, "1 console ended\n"), done.stderr
            assert client.recv_close() == (1008, "by a member")
            assert as_user(NOBODY, [], "status", "--socket", path).returncode == 3
            last = json.loads((crew.folder / "audit.log").read_text().splitlines()[-1])
            assert (last["actor"], last["outcome"]) == (f"uid {NOBODY} (nobody)", "done")
            crew.assert_clean()
