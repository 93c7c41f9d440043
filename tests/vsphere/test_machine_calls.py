"""The calls for one machine: tickets with every form of identity, consoles, power, pictures, faults."""

import hashlib
import re

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.logger import formatEvent, globalLogPublisher

from esxiproxy.core.errors import (
    HostNotConnected,
    MachineNotFound,
    MachineNotPermitted,
    MachineNotReady,
    MachinePoweredOff,
    TooManyConsoles,
    VSphereUnavailable,
)
from esxiproxy.core.thumbprint import Pin, pin_of
from esxiproxy.interfaces import Answer
from esxiproxy.vsphere.console_ticket import ConsoleTicket
from esxiproxy.vsphere.machine import MachineConnection
from esxiproxy.vsphere.service import FULL_TIME
from tests.support.certificates import self_signed
from tests.support.scripted_vcenter import PASSWORD, fault, machine, result
from tests.vsphere.scene import Scene

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 100
SHA1 = ":".join(["AB"] * 20)
SHA256 = ":".join(["CD"] * 32)


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return self_signed(tmp_path_factory.mktemp("host"), "esx1").certificate


def ticket_answer(host="ESX1.example", port="443", ticket="52ab-cd;ef", more=""):
    named = f"<host>{host}</host>" if host else ""
    ported = f"<port>{port}</port>" if port else ""
    return result("AcquireTicket", f"<ticket>{ticket}</ticket><cfgFile>/x.vmx</cfgFile>{named}{ported}{more}")


def acquire(scene, **values):
    scene.vcenter.answers["AcquireTicket"] = ticket_answer(**values)
    asked = scene.ask(scene.service.acquire_ticket(scene.machine()))
    scene.turn()
    return asked


def print_of(text, algorithm="sha256"):
    named = f"<hashAlgorithm>{algorithm}</hashAlgorithm>" if algorithm else ""
    return f"<certThumbprintList><thumbprint>{text}</thumbprint>{named}</certThumbprintList>"


# --- tickets


def test_a_ticket_has_the_host_and_its_strongest_identity(scene, certificate):
    pem = certificate.public_bytes(Encoding.PEM).decode()
    der = certificate.public_bytes(Encoding.DER)
    sha1, sha256 = f"<sslThumbprint>{SHA1}</sslThumbprint>", print_of(SHA256)
    whole = f"<sslCertificate>{pem}</sslCertificate>"
    pins = {"sha1": (Pin("sha1", "ab" * 20),), "sha256": (Pin("sha256", "cd" * 32),)}
    for more, expected in (
        (sha1 + sha256 + whole, (der, ())),
        (whole, (der, ())),
        (sha1 + sha256, (None, pins["sha256"])),
        (sha1 + print_of(SHA256, ""), (None, pins["sha256"])),
        (sha1 + print_of(SHA256, " SHA256 "), (None, pins["sha256"])),
        (sha256 + print_of(SHA256.lower()), (None, pins["sha256"] * 2)),
        (sha1 + print_of(SHA256, "sha512"), (None, pins["sha1"])),
        (sha1, (None, pins["sha1"])),
        ("", (None, ())),
    ):
        assert acquire(scene, more=more).value == ConsoleTicket("52ab-cd;ef", "esx1.example", 443, *expected)
    assert pin_of(der, "sha256").digest == hashlib.sha256(der).hexdigest()


def test_the_host_of_a_ticket_without_one_is_that_of_the_api(scene):
    found = acquire(scene, host="", port="").value
    assert (found.host, found.port) == ("vc.example", 443)


@pytest.mark.parametrize(
    "values",
    [
        {"ticket": ""},
        {"ticket": "a b"},
        {"ticket": "a?b"},
        {"ticket": "a&#13;&#10;b"},
        {"ticket": "x" * 1025},
        {"host": "a/b"},
        {"host": "a@b"},
        {"port": "0"},
        {"port": "65536"},
        {"port": "443x"},
        {"more": f"<sslThumbprint>{SHA1[:-1]}</sslThumbprint>"},
        {"more": print_of(SHA1)},
        {"more": print_of(SHA256, "sha512")},
        {"more": print_of("zz" * 32)},
        {"more": "<sslCertificate>-----BEGIN CERTIFICATE-----</sslCertificate>"},
        {"more": "<sslCertificate>grün</sslCertificate>"},
    ],
    ids=str,
)
def test_a_ticket_that_cannot_be_used_is_refused_and_not_verified_less_strictly(scene, values):
    error = acquire(scene, **values).error
    assert type(error) is VSphereUnavailable and str(error).startswith("[vsphere dc1] the answer to Acquire")


def test_the_ticket_is_that_of_the_machine_as_it_is_registered_now(scene):
    old = scene.machine()
    scene.vcenter.leave("vm-1")
    scene.vcenter.enter("vm-55", machine(1))
    scene.turn(1)
    scene.vcenter.answers["AcquireTicket"] = ticket_answer()
    assert scene.ask(scene.service.acquire_ticket(old)).value.ticket
    assert '<_this type="VirtualMachine">vm-55</_this>' in scene.vcenter.bodies[-1]


@pytest.mark.parametrize(
    ("answer", "error", "status", "text"),
    [
        (fault("InvalidPowerState"), MachinePoweredOff, 409, "is powered off"),
        (
            fault("InvalidPowerState", "<existingState>suspended</existingState>"),
            MachinePoweredOff,
            409,
            "is suspended",
        ),
        (
            fault("NoPermission", "<privilegeId>VirtualMachine.Interact.ConsoleInteract</privilegeId>"),
            MachineNotPermitted,
            403,
            "lacks the privilege VirtualMachine.Interact.ConsoleInteract for AcquireTicket",
        ),
        (fault("ManagedObjectNotFound"), MachineNotFound, 404, "does not exist any more"),
        (fault("HostNotConnected"), HostNotConnected, 504, "is not connected"),
        (fault("MksConnectionLimitReached"), TooManyConsoles, 503, "as many consoles as it admits"),
        (fault("InvalidState"), MachineNotReady, 409, "InvalidState"),
        (fault("SystemError"), VSphereUnavailable, 503, r"\[vsphere dc1\] vSphere refuses AcquireTicket"),
        (Answer(503, (), b"secret text"), VSphereUnavailable, 503, "has the status 503"),
        (result("AcquireTicket", returned=False), VSphereUnavailable, 503, "is empty"),
        (Answer(200, (), b"<!DOCTYPE secret>"), VSphereUnavailable, 503, "is not XML|document type"),
    ],
)
def test_each_fault_has_its_error_answer_and_sentence(scene, answer, error, status, text):
    scene.vcenter.faults["AcquireTicket"] = [answer]
    found = scene.ask(scene.service.acquire_ticket(scene.machine())).error
    assert (type(found), found.status_code) == (error, status)
    assert re.search(text, str(found)) and "secret" not in str(found)
    if status == 503:
        assert found.retry_after


def test_a_machine_that_has_refused_a_console_is_full_for_a_while(scene):
    first, second = scene.machine(1), scene.machine(2)
    scene.vcenter.faults["AcquireTicket"] = [fault("MksConnectionLimitReached"), fault("SystemError")]
    for each in (first, second):
        assert scene.ask(scene.service.acquire_ticket(each)).error
    assert scene.service.is_full(first) and not scene.service.is_full(second)
    scene.clock.advance(FULL_TIME)
    assert not scene.service.is_full(first)


def test_no_more_than_three_tickets_are_acquired_at_once(scene):
    scene.vcenter.hanging = {"AcquireTicket"}
    asked = [scene.ask(scene.service.acquire_ticket(scene.machine())) for _ in range(10)]
    assert scene.vcenter.count("AcquireTicket") == 3
    asked[5].deferred.cancel()  # one that waits
    asked[0].deferred.cancel()  # one that runs
    assert scene.vcenter.count("AcquireTicket") == 4
    while waiting := [held for _name, held in scene.vcenter.held if not held.called]:
        for held in waiting:
            held.callback(ticket_answer())
    assert scene.vcenter.count("AcquireTicket") == 9
    assert sum(not each.waits for each in asked) == 10


def test_no_ticket_waits_for_other_calls(scene):
    scene.vcenter.hanging = {"QueryConnections", "SetScreenResolution", "PowerOnVM_Task"}
    service, machine = scene.service, scene.machine()
    asked = []
    for _ in range(5):
        asked += [scene.ask(service.connections(machine)), scene.ask(service.power_on(machine))]
        asked += [scene.ask(service.set_resolution(machine, 800, 600))]
    assert len([held for _name, held in scene.vcenter.held if not held.called]) == 2
    assert acquire(scene).value.ticket and all(each.waits for each in asked)
    for each in asked:
        each.deferred.cancel()


def test_a_thousand_calls_wait_and_no_more(scene):
    scene.vcenter.hanging = {"AcquireTicket"}
    asked = [scene.ask(scene.service.acquire_ticket(scene.machine())) for _ in range(1004)]
    assert sum(not each.waits for each in asked) == 1
    assert "1000 calls wait already" in str(asked[-1].error)
    for each in asked:
        each.deferred.cancel()


# --- consoles, power, resolution, pictures


def consoles(*labels):
    each = (
        f'<returnval xsi:type="VirtualMachineMksConnection"><label>{label}</label>'
        f"<client>192.0.2.{number}</client><userName>u{number}</userName></returnval>"
        for number, label in enumerate(labels)
    )
    return result("QueryConnections", "".join(each), returned=False)


def test_open_consoles_are_listed_and_dropped_by_their_label(scene):
    scene.vcenter.answers["QueryConnections"] = consoles("a", "b", "c")
    found = scene.ask(scene.service.connections(scene.machine())).value
    assert found[1] == MachineConnection("b", "192.0.2.1", "u1")
    scene.ask(scene.service.drop_connections(scene.machine(), ["b", "x"])).value  # noqa: B018
    assert scene.vcenter.calls[-1][0] == "DropConnections"
    body = scene.vcenter.bodies[-1]
    assert "<label>b</label><client>192.0.2.1</client><userName>u1</userName>" in body
    assert body.count("<listOfConnections") == 1
    scene.ask(scene.service.drop_connections(scene.machine(), ["x"])).value  # noqa: B018
    assert scene.vcenter.count("DropConnections") == 1, "none is left to be dropped"


def test_power_on_of_a_machine_that_is_on_already_is_no_error(scene):
    assert scene.ask(scene.service.power_on(scene.machine())).value is None
    assert scene.vcenter.calls[-1][0] == "PowerOnVM_Task"
    on = fault("InvalidPowerState", "<existingState>poweredOn</existingState>")
    denied = fault("NoPermission")
    scene.vcenter.faults["PowerOnVM_Task"] = [on, denied]
    assert scene.ask(scene.service.power_on(scene.machine())).value is None
    assert isinstance(scene.ask(scene.service.power_on(scene.machine())).error, MachineNotPermitted)


def test_the_resolution_is_set_where_tools_run(scene):
    assert scene.ask(scene.service.set_resolution(scene.machine(), 1280, 800)).value is None
    assert "<width>1280</width><height>800</height>" in scene.vcenter.bodies[-1]
    scene.vcenter.faults["SetScreenResolution"] = [fault("ToolsUnavailable")]
    asked = scene.ask(scene.service.set_resolution(scene.machine(), 1280, 800))
    assert isinstance(asked.error, MachineNotReady) and "ToolsUnavailable" in str(asked.error)


def test_pictures_are_requested_with_the_session_and_at_most_two_a_second(scene):
    scene.vcenter.answers["/screen?id=vm-1"] = Answer(200, (), PNG)
    asked = [scene.ask(scene.service.thumbnail(scene.machine())) for _ in range(30)]
    scene.turn()
    path, cookie = scene.vcenter.calls[-1]
    assert (path, cookie) == ("GET /screen?id=vm-1", b'vmware_soap_session="%032x"' % 1)
    assert sum(not each.waits for each in asked) == 10, "one picture, and nine that would wait too long"
    assert all(isinstance(each.error, VSphereUnavailable) for each in asked[21:])
    for seconds in range(1, 6):
        scene.clock.advance(0.5), scene.clock.advance(0.5)
        assert scene.vcenter.count("GET /screen?id=vm-1") <= 2 * seconds + 2
    scene.turn(10)
    assert [each.value for each in asked[:21]] == [PNG] * 21


@pytest.mark.parametrize("answer", [Answer(401, (), b""), Answer(200, (), b"<html>"), Answer(404, (), PNG)])
def test_an_answer_that_is_no_picture_is_an_error_and_ends_no_login(scene, answer):
    scene.vcenter.answers["/screen?id=vm-1"] = answer
    asked = scene.ask(scene.service.thumbnail(scene.machine()))
    scene.turn()
    assert isinstance(asked.error, VSphereUnavailable) and scene.vcenter.logins == 1


# --- secrets


def test_no_password_ticket_or_cookie_is_shown(tmp_path):
    events = []
    globalLogPublisher.addObserver(events.append)
    try:
        scene = Scene(tmp_path, start=False)
        scene.vcenter.faults["Login"] = [fault("InvalidLogin")]
        scene.service.start()
        scene.turn(1)
        scene.write("other")
        scene.vcenter.password = "other"
        scene.turn(120)
        found = acquire(scene, ticket="s3cr3t-ticket").value
        scene.vcenter.faults["AcquireTicket"] = [Answer(200, (), b"<s3cr3t-ticket")]
        failed = scene.ask(scene.service.acquire_ticket(scene.machine())).error
        scene.ask(scene.service.stop())
    finally:
        globalLogPublisher.removeObserver(events.append)
    server = scene.service._servers["dc1"]
    session = server._session
    shown = [repr(each) for each in (found, failed, server, session, scene.service, vars(session))]
    shown += [formatEvent(event) for event in events]
    shown += [str(event.get("log_failure", "")) for event in events]
    text = "\n".join(shown)
    assert "[vsphere dc1] logged in" in text
    for secret in (PASSWORD, "pa55", "other'", "s3cr3t-ticket", f"{1:032x}", f"{2:032x}"):
        assert secret not in text, secret
