"""Tickets that pyVmomi, govmomi and curl ask a vCenter for through the proxy, with two workers."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import config, govmomi_simulator, sim_program, vcenter_program
from tests.support.certificates import Authority, Certificate
from tests.support.crowd import Crew, Single
from tests.support.govmomi_simulator import Govmomi, ask_tickets
from tests.support.programs import until
from tests.support.pyvmomi_machines import machines
from tests.support.redis_server import RedisServer
from tests.support.rfb_client import RfbClient
from tests.support.vcenter_program import PASSWORD, VCenterProgram

pytest.importorskip("pyVmomi")

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import SoapStubAdapter, vim

VARYING = re.compile(rb"(?im)^(?:date|x-request-id|via|set-cookie): [^\r\n]*\r\n")
MACHINES = ("web-01", "web-02", "web-03")
PUBLIC_URL = "https://consoles.example.com"


def rewriting(
    name: str, certificate: Certificate, public_url: str = PUBLIC_URL, allow: str = "127.0.0.0/8"
) -> str:
    """Return the section of a listener that rewrites tickets."""
    return config.listener(
        name,
        "vcenter",
        tls=certificate,
        http="forward",
        router="issued, static",
        public_url=public_url,
        tickets="rewrite",
        tickets_allow=allow,
    )


def in_front_of(port: int, *listeners: str, **keys: Any) -> str:
    """Return the configuration of a proxy with these listeners in front of the vCenter at a port."""
    return config.ini(
        *listeners,
        config.upstream(f"wss://127.0.0.1:{port}", "vcenter", verify="none"),
        config.router("issued", "issued", template="hosts"),
        config.template("hosts", verify="pin"),
        **keys,
    )


def connect(port: int, user: str, password: str) -> Any:
    """Return a connection of pyVmomi."""
    return SmartConnect(
        host="127.0.0.1",
        port=port,
        user=user,
        pwd=password,
        disableSslCertValidation=True,
        httpConnectionTimeout=30,
    )


def open_once(ticket: str, port: int, *others: int) -> str:
    """Open the console of a ticket at a port, fail to open it again at all ports, and return its machine."""
    with RfbClient(port, True) as console:
        console.open(f"/ticket/{ticket}", ["binary"])
        machine = console.start_rfb()[2]
    for each in (*others, port):
        with RfbClient(each, True) as console:
            console.send_opening(f"/ticket/{ticket}", ["binary"])
            assert console.recv_head().status == 404, "a second use is refused"
    return machine


class TicketScene:
    """A vCenter with three hosts, and a proxy with two workers and two listeners in front of it."""

    def __init__(
        self, vcenter: VCenterProgram, crew: Crew, certificate: Certificate, authority: Authority
    ) -> None:
        self.vcenter, self.crew, self.certificate, self.authority = vcenter, crew, certificate, authority
        self.used: list[str] = []

    def curl(self, port: int, path: str, *options: str) -> tuple[bytes, bytes]:
        """Return the head and the body of an answer."""
        command = ["curl", "-sk", "-i", "--raw", "--max-time", "20", "--http1.1", *options]
        done = subprocess.run(
            [*command, f"https://127.0.0.1:{port}{path}"], capture_output=True, timeout=30, check=True
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        return head, body

    def soap(self, port: int, content: str, *options: str) -> tuple[bytes, bytes]:
        body = (
            f'<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body>{content}</Body></Envelope>'
        )
        action = ("-H", "SOAPAction: urn:vim25/9.0.0.0", "-H", "Content-Type: text/xml")
        return self.curl(port, "/sdk", *action, *options, "--data-binary", body)

    def acquire(self, port: int, machine: str, cookie: str) -> tuple[bytes, bytes]:
        moid = self.vcenter.machine(machine)["moid"]
        call = (
            f'<AcquireTicket xmlns="urn:vim25"><_this type="VirtualMachine">{moid}</_this>'
            "<ticketType>webmks</ticketType></AcquireTicket>"
        )
        return self.soap(port, call, "-H", f"Cookie: {cookie}", "--compressed")

    def login(self, port: int) -> str:
        """Return the cookie of a session."""
        call = (
            '<Login xmlns="urn:vim25"><_this type="SessionManager">SessionManager</_this>'
            f"<userName>{self.vcenter.user}</userName><password>{PASSWORD}</password></Login>"
        )
        head, _ = self.soap(port, call)
        found = re.search(rb'(?i)set-cookie: (vmware_soap_session="?[^";\r\n]*"?)', head)
        assert found is not None, head
        return found[1].decode()

    def check(self, machine: str, ticket: str) -> None:
        """Open the console of a ticket at the proxy: once, and as that of this machine."""
        self.used.append(ticket)
        assert open_once(ticket, self.crew.ports["tickets"]) == machine


@pytest.fixture(scope="module")
def scene(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TicketScene]:
    vcenter = vcenter_program.start("--hosts", "3", "--tls-port", "0", "--task-time", "0")
    certificate = authority.server()
    text = in_front_of(
        vcenter.port,
        rewriting("tickets", certificate),
        config.listener("plain", "vcenter", tls=certificate, http="forward"),
        rewriting("elsewhere", certificate, allow="192.0.2.0/24"),
        workers=2,
        access_log="stdout",
        close_timeout="1s",
    )
    try:
        with Crew(text) as crew:
            yield TicketScene(vcenter, crew, certificate, authority)
    finally:
        vcenter_program.stop(vcenter)


def test_tickets_name_the_proxy_and_open_the_right_console_once(scene: TicketScene) -> None:
    certificate, port = scene.certificate, scene.crew.ports["tickets"]
    hosts = list(scene.vcenter.state()["hosts"])
    for name, host in zip(MACHINES, hosts, strict=True):
        scene.vcenter.control("PATCH", f"/machines/{name}", host=host)

    # pyVmomi, with tickets of every form: the host is verified by the strongest part.
    connected = connect(port, scene.vcenter.user, PASSWORD)
    found = machines(connected)
    for parts in ("host,url,sha1,sha256,pem", "host,sha256", "host,sha1"):
        scene.vcenter.control("PATCH", "/tickets", parts=parts)
        for name in MACHINES:
            ticket = found[name].AcquireTicket("webmks")
            assert (ticket.host, ticket.port) == ("consoles.example.com", 443)
            if "url" in parts:
                assert ticket.url == f"wss://consoles.example.com:443/ticket/{ticket.ticket}"
                assert ticket.sslCertificate == certificate.path.read_text()
            if "sha1" in parts:
                assert ticket.sslThumbprint == certificate.sha1
            if "sha256" in parts:
                assert [each.thumbprint for each in ticket.certThumbprintList] == [certificate.sha256]
            scene.check(name, ticket.ticket)

    # A certificate that is not that of the host, and none at all: refused, by the ticket and by the template.
    for parts in ("host,sha256,wrong", "host"):
        scene.vcenter.control("PATCH", "/tickets", parts=parts)
        ticket = found["web-01"].AcquireTicket("webmks")
        scene.used.append(ticket.ticket)
        with RfbClient(port, True) as console:
            console.send_opening(f"/ticket/{ticket.ticket}", ["binary"])
            assert console.recv_head().status == 502
    scene.vcenter.control("PATCH", "/tickets", parts="host,url,sha1,sha256,pem")
    with pytest.raises(vim.fault.InvalidPowerState):
        found["old-erp"].AcquireTicket("webmks")
    for name in MACHINES:
        old = found[name].AcquireMksTicket()
        assert (old.host, old.port, old.sslThumbprint) == ("consoles.example.com", 443, certificate.sha1)
        scene.check(name, old.ticket)

    # As VMRC does with vmrc://clone:TICKET@PROXY: it clones the session and asks for a ticket itself.
    clone = connected.content.sessionManager.AcquireCloneTicket()
    scene.used.append(clone)
    Disconnect(connected)
    stub = SoapStubAdapter(
        "127.0.0.1", port, version="vim.version.version9", sslContext=ssl._create_unverified_context()
    )
    content = vim.ServiceInstance("ServiceInstance", stub).RetrieveContent()
    assert content.sessionManager.CloneSession(clone).userName == scene.vcenter.user
    with pytest.raises(vim.fault.InvalidLogin):
        content.sessionManager.CloneSession(clone)
    moid = scene.vcenter.machine("web-02")["moid"]
    ticket = vim.VirtualMachine(moid, stub).AcquireTicket("webmks")
    assert (ticket.host, ticket.port) == ("consoles.example.com", 443)
    scene.check("web-02", ticket.ticket)
    content.sessionManager.Logout()

    # A client of govmomi, the library of govc, which verifies the certificate of the proxy.
    asked_by = (scene.authority.path, scene.vcenter.user, PASSWORD)
    for name, asked in zip(MACHINES, ask_tickets(port, *asked_by, *MACHINES), strict=True):
        value = str(asked["ticket"])
        assert asked == {
            "ticket": value,
            "host": "consoles.example.com",
            "port": 443,
            "url": f"wss://consoles.example.com:443/ticket/{value}",
            "thumbprint": certificate.sha1,
        }
        scene.check(name, value)

    # curl, whose connections are taken by either worker.
    cookie = scene.login(port)
    for name in (*MACHINES, *MACHINES):
        head, body = scene.acquire(port, name, cookie)
        assert b"Content-Length: %d\r\n" % len(body) in head + b"\r\n", head
        assert b"<host>consoles.example.com</host><port>443</port>" in body and b"127.0.0.1" not in body
        assert certificate.sha1.encode() in body
        scene.check(name, re.findall(r"<ticket>(\w+)</ticket>", body.decode())[0])

    # The REST interface has no thumbprints, and so the template decides: this one wants a thumbprint.
    login = ("-X", "POST", "-u", f"{scene.vcenter.user}:{PASSWORD}")
    token = scene.curl(port, "/api/session", *login)[1].decode().split('"')[1]
    path = f"/api/vcenter/vm/{scene.vcenter.machine('web-01')['moid']}/console/tickets"
    asked = ("-H", f"vmware-api-session-id: {token}", "-d", '{"type": "WEBMKS"}')
    url = json.loads(scene.curl(port, path, *asked)[1])["ticket"]
    assert url.startswith("wss://consoles.example.com:443/ticket/")
    scene.used.append(url.rpartition("/")[2])
    with RfbClient(port, True) as console:
        console.send_opening(f"/ticket/{scene.used[-1]}", ["binary"])
        assert console.recv_head().status == 502
    answered = scene.curl(scene.crew.ports["plain"], path, *asked)[1]
    assert b"wss://127.0.0.1" in answered
    scene.used.append(re.findall(rb"/ticket/(\w+)", answered)[0].decode())

    # VI-JSON has the fields of SOAP.
    session = ("-H", f"vmware-api-session-id: {token}", "-d", '{"ticketType": "webmks"}')
    for name in MACHINES:
        path = f"/sdk/vim25/8.0.3.0/VirtualMachine/{scene.vcenter.machine(name)['moid']}/AcquireTicket"
        answer = json.loads(scene.curl(port, path, *session)[1])
        assert (answer["host"], answer["port"]) == ("consoles.example.com", 443)
        assert answer["sslThumbprint"] == certificate.sha1
        assert answer["url"] == f"wss://consoles.example.com:443/ticket/{answer['ticket']}"
        scene.check(name, answer["ticket"])
    answered = scene.curl(scene.crew.ports["plain"], path, *session)[1]
    assert b'"host": "127.0.0.' in answered and certificate.sha1.encode() not in answered
    scene.used.append(re.findall(rb"/ticket/(\w+)", answered)[0].decode())

    # A host outside of tickets_allow.
    head, body = scene.acquire(scene.crew.ports["elsewhere"], "web-01", cookie)
    assert b" 403 " in head.partition(b"\r\n")[0] and b"<ticket>" not in body


def test_answers_are_untouched_without_the_key_and_other_answers_with_it(scene: TicketScene) -> None:
    cookie = scene.login(scene.vcenter.port)
    content = (
        '<RetrieveServiceContent xmlns="urn:vim25"><_this type="ServiceInstance">ServiceInstance</_this>'
        "</RetrieveServiceContent>"
    )
    there, tickets = scene.vcenter.port, scene.crew.ports["tickets"]
    plain = scene.crew.ports["plain"]

    def shown(answer: tuple[bytes, bytes]) -> tuple[list[bytes], bytes]:
        ticket = re.search(rb"<ticket>(\w+)</ticket>", answer[1])
        if ticket is not None:
            scene.used.append(ticket[1].decode())
        head = VARYING.sub(b"", answer[0] + b"\r\n")
        body = answer[1] if ticket is None else answer[1].replace(ticket[1], b"*" * len(ticket[1]))
        return sorted(line for line in head.lower().split(b"\r\n")), body

    direct = shown(scene.acquire(there, "web-01", cookie))
    assert b"<host>127.0.0.1" in direct[1] and b"consoles.example.com" not in direct[1]
    assert shown(scene.acquire(plain, "web-01", cookie)) == direct
    for port in (plain, tickets):
        assert shown(scene.soap(port, content)) == shown(scene.soap(there, content))
        off = shown(scene.acquire(port, "old-erp", cookie))
        assert off == shown(scene.acquire(there, "old-erp", cookie)) and b"InvalidPowerState" in off[1]
        assert shown(scene.curl(port, "/sdk/vimServiceVersions.xml")) == shown(
            scene.curl(there, "/sdk/vimServiceVersions.xml")
        )


def test_a_ticket_of_govmomi_is_used_on_another_machine(authority: Authority, tmp_path: Path) -> None:
    """The server is not ours, and two machines share a Redis server: one asks, and the other one opens."""
    hosts = [sim_program.start() for _ in range(3)]
    certificate = authority.server()
    redis = RedisServer(tmp_path)

    def text(name: str, simulator: Govmomi) -> str:
        listener = rewriting("tickets", certificate, "https://[2001:db8::1]:8443")
        state = f"redis://127.0.0.1:{redis.port}"
        return in_front_of(simulator.port, listener, state=state, machine=name)

    def serves(port: int) -> bool:
        with RfbClient(port, True) as client:
            client.get("/about")
            return client.recv_head().status != 503

    try:
        with (
            Govmomi(certificate, hosts, machines=9) as simulator,
            Single(text("proxy-a", simulator)) as one,
            Single(text("proxy-b", simulator)) as other,
        ):
            asks, opens = one.ports["tickets"], other.ports["tickets"]
            for port in (asks, opens):  # a new Redis admits nothing for 2 s
                until(lambda at=port: serves(at), "requests are served")  # type: ignore[misc]
            user = (govmomi_simulator.USER, govmomi_simulator.PASSWORD)
            index = connect(asks, *user).RetrieveContent().searchIndex
            names = [f"DC0_C0_RP0_VM{number}" for number in range(3)]
            asked = [
                (str(each["ticket"]), each["host"], each["port"], each["thumbprint"])
                for each in ask_tickets(asks, authority.path, *user, *names)
            ]
            for name in names:
                ticket = index.FindByInventoryPath(f"/DC0/vm/{name}").AcquireTicket("webmks")
                asked.append((ticket.ticket, ticket.host, ticket.port, ticket.sslThumbprint))
            for value, *rest in asked:
                assert rest == ["2001:db8::1", 8443, certificate.sha1]
                open_once(value, opens, asks)
                assert value not in one.log() + other.log()
            assert [host.stats()["tickets_used"] for host in hosts] == [2, 2, 2]
    finally:
        redis.stop()
        for host in hosts:
            sim_program.stop(host)


def test_no_ticket_and_no_password_is_in_the_log(scene: TicketScene) -> None:
    secrets = (
        "/ui/webconsole/authd?mksTicket=52aaaaaa-bbbb&host=192.0.2.10&port=902&cfgFile=a&sslThumbprint=AA",
        "/ui/webconsole.html?vmId=vm-1&sessionTicket=cst-VCT-52cccccc-dddd--tp-AA&thumbprint=BB",
    )
    for path in secrets:
        for port in (scene.crew.ports["tickets"], scene.crew.ports["plain"]):
            scene.curl(port, path)
            with RfbClient(port, True) as client:
                client.send_opening(path, ["binary"])
                client.recv_head()
    log = scene.crew.log()
    assert "/ui/webconsole/authd?mksTicket=***" in log and "sessionTicket=***" in log
    assert len(scene.used) >= 15
    for secret in (*scene.used, PASSWORD, "52aaaaaa", "52cccccc", "cst-VCT-52"):
        assert secret not in log, "a secret is in the log"
    assert "Traceback" not in log
    written = [path for path in Path(scene.crew.folder).rglob("*") if path.is_file()]
    for path in written:
        content = path.read_bytes()
        assert not [each for each in scene.used if each.encode() in content], path
    assert json.dumps(scene.used)
