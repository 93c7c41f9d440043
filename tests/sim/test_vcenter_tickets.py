"""Tickets of the simulated vCenter, without a network: their hosts, their identity, their faults."""

from __future__ import annotations

import argparse
import hashlib
import ssl
from pathlib import Path

import pytest

from esxiproxy.sim.__main__ import add_arguments, options_from
from esxiproxy.sim.faults import SimFault
from esxiproxy.sim.vcenter.options import VCenterOptions, ticket_parts
from esxiproxy.sim.vcenter.rest import RestAnswer
from esxiproxy.sim.vcenter.vi_json import ViJsonEndpoint
from tests.sim.vcenter_calls import Client, FaultAnswer
from tests.support.outcome import result

TICKET = "<ticketType>webmks</ticketType>"


@pytest.fixture
def client() -> Client:
    return Client().logged_in()


def test_a_ticket_leads_to_the_host_of_its_machine(client: Client) -> None:
    """The host that runs the machine knows the ticket, for one console of this machine."""
    (ticket,) = client.on("web-02", "AcquireTicket", TICKET)
    machine = client.machine("web-02")
    assert machine.host.name == "esx-02.lab.example"
    esxi = machine.host.esxi
    assert ticket.findtext("host") == esxi.options.interface == "127.0.0.12"
    assert ticket.findtext("sslThumbprint") == esxi.certificate.sha1
    assert ticket.findtext("certThumbprintList/thumbprint") == esxi.certificate.sha256
    grant = esxi.tickets.redeem(ticket.findtext("ticket") or "")
    assert grant and grant.machine is machine.console and grant.user == client.vcenter.options.user
    (ticket,) = client.on("web-02", "AcquireTicket", TICKET)
    other = client.vcenter.inventory.find_host("esx-03.lab.example")
    assert other
    client.vcenter.machines.move(machine, other)
    assert esxi.tickets.redeem(ticket.findtext("ticket") or "") is None
    (ticket,) = client.on("web-02", "AcquireTicket", TICKET)
    assert ticket.findtext("host") == "127.0.0.13"


ADDRESS = {"host", "port"}


@pytest.mark.parametrize(
    ("version", "parts", "fields"),
    [
        ("urn:vim25/9.0.0.0", "pem", {"sslCertificate"}),
        ("urn:vim25/9.0.0.0", "sha256", {"certThumbprintList"}),
        ("urn:vim25/9.0.0.0", "sha1", {"sslThumbprint"}),
        ("urn:vim25/9.0.0.0", "", set()),
        ("urn:vim25/9.0.0.0", "host", ADDRESS),
        ("urn:vim25/9.0.0.0", "url", {"url"}),
        ("urn:vim25/6.7", None, {*ADDRESS, "sslThumbprint"}),
        ("urn:vim25/7.0.3.0", None, {*ADDRESS, "sslThumbprint", "url"}),
        ('"urn:vim25/7.0.3.1"', None, {*ADDRESS, "sslThumbprint", "url", "certThumbprintList"}),
        (
            "urn:vim25/9.0.0.0",
            None,
            {*ADDRESS, "sslThumbprint", "url", "certThumbprintList", "sslCertificate"},
        ),
    ],
)
def test_the_fields_of_a_ticket_depend_on_the_version_and_the_parts(
    version: str, parts: str | None, fields: set[str]
) -> None:
    client = Client(version, **({} if parts is None else {"ticket_parts": ticket_parts(parts)})).logged_in()
    (ticket,) = client.on("web-01", "AcquireTicket", TICKET)
    assert {field.tag for field in ticket} == {"ticket", "cfgFile"} | fields


def vi_json(client: Client, name: str, method: str, body: bytes, release: str = "9.0.0.0") -> RestAnswer:
    path = f"/sdk/vim25/{release}/VirtualMachine/{client.moid(name)}/{method}"
    return result(ViJsonEndpoint(client.vcenter.soap).answer(path, client.token, body))  # type: ignore[no-any-return]


def test_a_ticket_of_vi_json_has_the_fields_of_soap(client: Client) -> None:
    answer = vi_json(client, "web-02", "AcquireTicket", b'{"ticketType": "webmks"}')
    esxi = client.machine("web-02").host.esxi
    assert answer.status == 200 and list(answer.value)[:2] == ["_typeName", "ticket"]
    ticket = answer.value["ticket"]
    assert (answer.value["host"], answer.value["sslCertificate"]) == ("127.0.0.12", esxi.certificate.pem)
    (printed,) = answer.value["certThumbprintList"]
    assert printed["thumbprint"] == esxi.certificate.sha256 and printed["hashAlgorithm"] == "sha256"
    assert answer.value["url"].endswith(f"/ticket/{ticket}") and esxi.tickets.redeem(ticket) is not None
    older = vi_json(client, "web-02", "AcquireTicket", b'{"ticketType": "webmks"}', "8.0.1.0")
    assert "sslCertificate" not in older.value and "url" in older.value
    assert "url" not in vi_json(client, "web-02", "AcquireMksTicket", b"").value
    client.token = None
    assert vi_json(client, "web-02", "AcquireMksTicket", b"").value["_typeName"] == "NotAuthenticated"


@pytest.mark.parametrize(
    ("name", "body", "release", "status", "kind"),
    [
        ("old-erp", b'{"ticketType": "webmks"}', "9.0.0.0", 500, "InvalidPowerState"),
        ("web-01", b'{"ticketType": "x"}', "9.0.0.0", 500, "InvalidArgument"),
        ("web-01", b'{"ticketType": "webmks"}', "9.9.0.0", 500, "InvalidRequest"),
        ("web-01", b'{"ticketType": ["webmks"]}', "9.0.0.0", 400, "InvalidRequest"),
        ("web-01", b"<xml/>", "9.0.0.0", 400, "InvalidRequest"),
        ("web-01", b'{"ticketType": "webmks"}', "8.0.0.0", 404, None),
        ("web-01", b'{"ticketType": "webmks"}', "9.0", 404, None),
    ],
)
def test_a_request_of_vi_json_is_refused_by_name(
    client: Client, name: str, body: bytes, release: str, status: int, kind: str | None
) -> None:
    answer = vi_json(client, name, "AcquireTicket", body, release)
    assert (answer.status, answer.value and answer.value["_typeName"]) == (status, kind)


@pytest.mark.parametrize(
    ("interface", "host", "url"),
    [
        ("0.0.0.0", None, "wss://127.0.0.1:"),
        ("::1", "::1", "wss://[::1]:"),
        ("127.0.0.1", "127.0.0.11", "wss://127.0.0.11:"),
    ],
)
def test_the_host_of_a_ticket_depends_on_the_interface(interface: str, host: str | None, url: str) -> None:
    """A host at all addresses has none in its tickets, as an ESXi host without vCenter."""
    client = Client(interface=interface).logged_in()
    (ticket,) = client.on("web-01", "AcquireTicket", TICKET)
    assert ticket.findtext("host") == host
    assert (ticket.findtext("url") or "").startswith(url)


def test_the_options_of_a_host_apply_to_the_hosts_of_a_vcenter() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = ["--vcenter", "--fault", "refuse", "--width", "800", "--certificate", "vc.crt", "--machines", "3"]
    options = options_from(parser.parse_args(words))
    assert isinstance(options, VCenterOptions)
    assert (options.machines, options.certificate) == (3, Path("vc.crt"))
    host = options.host
    assert (host.fault.fault, host.width, host.port, host.certificate) == (SimFault.REFUSE, 800, None, None)
    with pytest.raises(ValueError, match="tls_port"):
        options_from(parser.parse_args(["--vcenter", "--tls-port", "none"]))


def test_the_identity_in_a_ticket_can_be_wrong(client: Client) -> None:
    client.vcenter.machines.parts = ticket_parts("sha1,wrong")
    (ticket,) = client.on("web-01", "AcquireTicket", TICKET)
    esxi = client.vcenter.hosts[0]
    assert ticket.findtext("sslThumbprint") not in (None, esxi.certificate.sha1)


def test_a_version_that_is_too_new_is_refused() -> None:
    client = Client("urn:vim25/9.1.0.0")
    with pytest.raises(FaultAnswer, match=r'Unsupported version URI "urn:vim25/9\.1\.0\.0"'):
        client.call("RetrieveServiceContent", "ServiceInstance", "ServiceInstance")


def test_the_pem_in_a_ticket_is_the_hosts_certificate() -> None:
    client = Client("urn:vim25/9.0.0.0").logged_in()
    (ticket,) = client.on("web-01", "AcquireTicket", TICKET)
    der = ssl.PEM_cert_to_DER_cert(ticket.findtext("sslCertificate") or "")
    assert hashlib.sha256(der).digest().hex(":").upper() == ticket.findtext("certThumbprintList/thumbprint")


def test_the_faults_of_a_ticket(client: Client) -> None:
    """The machine is off, has too many consoles, or is on a lost host, or the type is unknown."""
    with pytest.raises(FaultAnswer) as refused:
        client.on("old-erp", "AcquireTicket", TICKET)
    assert refused.value.fields == {"requestedState": "poweredOn", "existingState": "poweredOff"}
    with pytest.raises(FaultAnswer, match="InvalidArgument"):
        client.on("web-01", "AcquireTicket", "<ticketType>nonsense</ticketType>")
    machine = client.machine("web-01")
    machine.max_consoles = 0
    with pytest.raises(FaultAnswer) as refused:
        client.on("web-01", "AcquireTicket", TICKET)
    assert (refused.value.name, refused.value.fields) == (
        "MksConnectionLimitReached",
        {"connectionLimit": "0"},
    )
    machine.host.connected = False
    with pytest.raises(FaultAnswer, match="HostNotConnected"):
        client.on("web-01", "AcquireTicket", TICKET)
    with pytest.raises(FaultAnswer, match="ManagedObjectNotFound"):
        client.call("AcquireTicket", "VirtualMachine", "vm-9999", TICKET)
