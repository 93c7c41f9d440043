"""Consoles of a simulated vCenter by name: with workers and an admin process, moved, refused, restarted."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha1

import pytest

from tests.support import config, vcenter_program
from tests.support.crowd import Crew
from tests.support.programs import until
from tests.support.vcenter_program import PASSWORD, VCenterProgram
from tests.support.websocket import BINARY
from tests.support.websocket_peers import Client
from tests.support.workers import reloaded

RFB = b"RFB 003.008\n"
VARYING = ("date", "x-request-id")
RULES = (
    "[access users]\nwho = people/alice\nwhat = folder:/Prod/*\nmay = open\n\n"
    "[access operators]\nwho = people/root\nwhat = vsphere:dc1\nmay = open, power, disconnect\n\n"
)


def text(vcenter: VCenterProgram, rules: str = RULES, tickets: str = "") -> str:
    return (
        f"[vsphere dc1]\nurl = {vcenter.url}\nuser = {vcenter.user}\npassword_file = vc.password\n"
        f"verify = pin\npin = sha256:{vcenter.ready['sha256']}\n\n{rules}"
        + config.ini(
            config.listener("people", None, router="vms", authenticator="people"),
            config.listener(
                "page",
                None,
                router="vms",
                http="portal",
                public_url="https://c.example.com",
                authenticator="login, people, anonymous",
                origins="same, https://intranet.example.com",
            ),
            config.authenticator("login", "session", providers="people"),
            config.authenticator("people", "htpasswd", file="users"),
            config.router(
                "vms",
                "vsphere",
                vsphere="dc1",
                access="users, operators",
                template="esxi",
                allow="127.0.0.0/8",
            ),
            config.template(verify="pin"),
            workers=2,
            access_log="stdout",
            close_timeout="1s",
            decision_timeout="20s",
        )
    )


def hashed(password: str) -> str:
    return "{SHA}" + b64encode(sha1(password.encode()).digest()).decode()


@dataclass
class VSphereScene:
    """A proxy with two workers, and the vCenter that it asks."""

    crew: Crew
    vcenter: VCenterProgram

    def ask(self, path: str, user: str = "alice") -> tuple[int, bytes, Client]:
        """Return the status of an opening, the constant part of its answer, and its client."""
        client = Client(self.crew.ports["people"], timeout=25)
        credentials = b64encode(f"{user}:{user}".encode()).decode()
        client.send_opening(path, ["binary"], [("Authorization", f"Basic {credentials}")])
        head = client.recv_head()
        if head.status == 101:
            return 101, b"", client
        fields = [(name, value) for name, value in head.fields if name.lower() not in VARYING]
        body = re.sub(rb"[0-9a-f]{16}", b"*", client.recv_body(head))
        client.drop()
        return head.status, repr(fields).encode() + body, client

    def open(self, path: str, user: str = "alice") -> Client:
        """Open a console, and wait for the beginning of its picture."""
        status, answer, client = self.ask(path, user)
        assert status == 101, (status, answer, self.crew.log())
        assert client.recv_frame().payload == RFB
        return client

    def consoles(self) -> dict[str, int]:
        return {name: host["consoles"] for name, host in self.vcenter.state()["hosts"].items()}


@pytest.fixture(scope="module")
def scene() -> Iterator[VSphereScene]:
    vcenter = vcenter_program.start("--machines", "12", "--hosts", "2", "--task-time", "0")
    try:
        users = "".join(f"{name}:{hashed(name)}\n" for name in ("alice", "bob", "root"))
        crew = Crew(text(vcenter), {"vc.password": f"{PASSWORD}\n", "users": users})
        with crew:
            yield VSphereScene(crew, vcenter)
            assert crew.stop() == 0
            assert not re.search(r"\b[0-9a-f]{32}\b|Traceback", crew.log()), crew.log()
            # That of the process that was killed is left.
            until(lambda: vcenter.state()["sessions"] <= 1, "the proxy has logged out")
    finally:
        vcenter_program.stop(vcenter)


def test_a_console_is_opened_by_name_and_goes_on_at_another_host(scene: VSphereScene) -> None:
    machine = scene.vcenter.machine("web-01")
    first = scene.open("/vm/web-01")
    other = scene.open(f"/vm/dc1/{machine['uuid']}", "root")
    home = machine["host"]
    (away,) = set(scene.consoles()) - {home}
    assert scene.consoles() == {home: 2, away: 0}
    scene.vcenter.control("PATCH", "/machines/web-01", host=away)
    until(lambda: scene.consoles()[home] == 0, "the host has closed its consoles")
    for client in (first, other):
        client.drop()
    again = scene.open("/vm/web-01")
    assert scene.consoles() == {home: 0, away: 1}
    again.drop()
    name, console = '"console_name":"web-01"', f'"console":"dc1/{machine["uuid"]}"'
    until(lambda: scene.crew.log().count(f"{console},{name}") == 3, "each console has its record")
    assert '"target":"/vm/web-01"' in scene.crew.log()


def test_each_refusal_has_its_answer(scene: VSphereScene) -> None:
    hidden = scene.vcenter.machine("staging")["uuid"]
    missing = hidden[:-4] + "0000"
    answers = {
        scene.ask(f"/vm/{each}")[:2] for each in ("staging", f"dc1/{hidden}", f"dc1/{missing}", "no-such")
    }
    answers |= {scene.ask("/vm/web-01", "bob")[:2]}
    assert len(answers) == 1 and answers.pop()[0] == 404
    until(lambda: scene.crew.log().count('"error":"MachineHidden"') == 3, "the log says which it was")
    scene.open("/vm/staging", "root").drop()
    status, answer, _ = scene.ask("/vm/old-erp", "root")
    assert status == 409 and b"the virtual machine is powered off" in answer
    scene.vcenter.control("PATCH", "/machines/mail", max_consoles=1)
    one = scene.open("/vm/mail")
    answers = []  # until the change is known here, vCenter refuses the ticket

    def is_full() -> bool:
        answers.append(scene.ask("/vm/mail")[:2])
        return b"max_sessions_per_console: all 1 are in use" in answers[-1][1]

    until(is_full, "the proxy counts the consoles of the machine")
    assert {status for status, _ in answers} == {503}
    one.drop()
    scene.vcenter.control("PATCH", "/tickets", parts="host,url,wrong,sha256")
    status, answer, _ = scene.ask("/vm/web-02")
    assert status == 502 and b"certificate" in answer
    for parts in ("host,url,pem", "host,url,sha256", "host,url,sha1", "host,pem,sha1,sha256,url"):
        scene.vcenter.control("PATCH", "/tickets", parts=parts)
        scene.open("/vm/web-02").drop()


def test_a_link_of_the_api_opens_a_console_once_for_a_page_of_another_site(scene: VSphereScene) -> None:
    port = scene.crew.ports["page"]

    def made(vm: str) -> tuple[int, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        with contextlib.closing(connection):
            credentials = b64encode(b"alice:alice").decode()
            fields = {"Content-Type": "application/json", "Authorization": f"Basic {credentials}"}
            connection.request("POST", "/api/consoles", json.dumps({"vm": vm}), fields)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def opened(path: str, origin: str = "https://intranet.example.com") -> Client:
        client = Client(port, timeout=25)
        client.send_opening(path, ["binary"], [("Origin", origin)])
        return client

    assert made("staging")[0] == made("no-such")[0] == 404
    status, answer = made("web-03")
    assert status == 201 and answer["url"].startswith("https://c.example.com/c/")
    assert time.time() < answer["expires"] < time.time() + 61
    path = answer["url"].removeprefix("https://c.example.com")
    with opened(path, "https://else.example.com") as client:
        assert client.recv_head().status == 403
    with Client(port) as client:
        client.get(path)  # a preview, which the page answers
        assert client.recv_head().status == 200
    console = opened(path)
    assert console.recv_head().status == 101 and console.recv_frame().payload == RFB
    with opened(path) as client:
        assert client.recv_head().status == 404
    with opened("/vm/web-03") as client:
        assert client.recv_head().status == 404, "a client without a login has no right"
    console.drop()
    record = r'.*"target":"/c/\*\*\*".*"status":101.*'
    line = until(lambda: re.search(record, scene.crew.log()), "the console has its record")[0]
    assert '"principal":"alice"' in line and '"console_name":"web-03"' in line
    assert path.removeprefix("/c/") not in scene.crew.log()


def test_consoles_go_on_while_vcenter_is_slow_or_down(scene: VSphereScene) -> None:
    console = scene.open("/vm/web-01")

    def at_once(count: int) -> list[int]:
        """Return the answers to openings that wait at the same time, within the limit of each machine."""
        clients = [Client(scene.crew.ports["people"], timeout=25) for _ in range(count)]
        credentials = ("Authorization", f"Basic {b64encode(b'alice:alice').decode()}")
        for number, client in enumerate(clients):
            client.send_opening(f"/vm/web-0{1 + number % 3}", ["binary"], [credentials])
        heads = [client.recv_head() for client in clients]
        for client in clients:
            client.drop()
        assert all(head.one("Retry-After") == "5" for head in heads if head.status == 503)
        return [head.status for head in heads]

    scene.vcenter.control("POST", "/faults", method="AcquireTicket", seconds=0.1)
    assert at_once(50) == [101] * 50
    scene.vcenter.control("DELETE", "/faults")
    # The others meet the limit of 20 consoles a machine, one of which is open on the first.
    assert Counter(at_once(500)) == {101: 59, 503: 441}
    scene.vcenter.control("POST", "/stop")
    assert at_once(500) == [503] * 500
    console.send_frame(BINARY, RFB)
    assert console.recv_frame().payload == b"\x01\x01"
    scene.vcenter.control("POST", "/start")
    until(lambda: at_once(1) == [101], "vCenter is back", 40)
    console.drop()
    assert scene.vcenter.state()["failed_logins"] == 0


def test_the_admin_process_ends_and_the_consoles_go_on(scene: VSphereScene) -> None:
    console = scene.open("/vm/web-03")
    (admin,) = scene.crew.admins()
    sites = next(scene.crew.folder.glob("esxiproxy-*/sockets"))
    assert (sites.stat().st_mode & 0o777, (sites / "tickets-0.sock").stat().st_mode & 0o777) == (0o700, 0o600)
    os.kill(admin, signal.SIGKILL)
    begin, answers = time.monotonic(), []

    def is_open() -> bool:
        status, _, client = scene.ask("/vm/web-01")
        client.drop()
        answers.append(status)
        return status == 101

    until(is_open, "the admin process is back", 40)
    assert set(answers) <= {101, 503}
    print(f"a console was open {time.monotonic() - begin:.2f} s after the admin process was killed")
    scene.crew.path.write_text(text(scene.vcenter, RULES.replace("people/alice", "people/bob")))
    reloaded(scene.crew)
    assert scene.ask("/vm/web-01")[0] == 404
    scene.open("/vm/web-01", "bob").drop()
    assert os.readlink(sites / "tickets.sock").endswith("tickets-1.sock")
    console.send_frame(BINARY, RFB)
    assert console.recv_frame().payload == b"\x01\x01"  # one security type, which is none
    console.drop()


def test_consoles_go_on_while_vcenter_ends_the_login_or_refuses_it(scene: VSphereScene) -> None:
    vcenter, user = scene.vcenter, "root"
    console = scene.open("/vm/web-01", user)
    before = vcenter.state()

    def refused(count: int) -> None:
        """Check that so many openings are refused because vCenter cannot be asked."""
        for _ in range(count):
            status, answer, _ = scene.ask("/vm/web-02", user)
            assert status == 503 and b"'Retry-After', '5'" in answer and b"cannot be asked" in answer, answer

    def is_open() -> bool:
        status, _, client = scene.ask("/vm/web-02", user)
        client.drop()
        return status == 101

    def counts() -> dict[str, int]:
        state = vcenter.state()
        return {name: state[name] - before[name] for name in ("logins", "failed_logins")}

    vcenter.control("DELETE", "/sessions")
    scene.open("/vm/web-02", user).drop()
    assert counts() == {"logins": 1, "failed_logins": 0}, "one new login for the watch and the ticket"

    vcenter.control("PATCH", "/sessions", password="changed")
    vcenter.control("DELETE", "/sessions")
    refused(20)
    assert counts() == {"logins": 1, "failed_logins": 1} and not vcenter.state()["locked"]
    assert "refuses user and password" in scene.crew.log()
    (scene.crew.folder / "vc.password").write_text("changed\n")
    until(is_open, "the new password is used", 40)
    assert counts() == {"logins": 2, "failed_logins": 1}

    vcenter.ready["sha256"] = new = vcenter.control("POST", "/certificate")["sha256"]
    vcenter.control("DELETE", "/sessions")
    refused(5)
    assert counts() == {"logins": 2, "failed_logins": 1} and not vcenter.state()["sessions"]
    assert f"sha256:{new}".lower() in scene.crew.log().lower(), "the log has the new thumbprint"
    scene.crew.path.write_text(text(vcenter))
    reloaded(scene.crew)
    until(is_open, "the new pin is used", 40)
    assert counts() == {"logins": 3, "failed_logins": 1}

    console.send_frame(BINARY, RFB)
    assert console.recv_frame().payload == b"\x01\x01"
    console.drop()
