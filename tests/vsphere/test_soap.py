"""The SOAP of vSphere: calls, answers, and answers of a hostile server."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esxiproxy.vsphere import calls
from esxiproxy.vsphere.answers import (
    ObjectUpdate,
    ServiceContent,
    UpdateKind,
    UpdateSet,
    console_ticket,
    created,
    machine_connections,
    service_content,
    update_set,
)
from esxiproxy.vsphere.machine import MachineConnection
from esxiproxy.vsphere.soap import ObjectRef, SoapCall, SoapFault, answer_of, newest_version
from esxiproxy.vsphere.xml_tree import MAX_DEPTH, MAX_ELEMENTS, InvalidAnswer, parse
from tests.support.scripted_vcenter import CONTENT, ENVELOPE, VERSIONS, fault, machine, result, update

CALL = SoapCall("AcquireTicket", "")


def read(answer, call=CALL):
    return answer_of(call, answer.status, answer.body)


def refused(answer, call=CALL):
    with pytest.raises(InvalidAnswer) as caught:
        read(answer, call)
    return str(caught.value)


def content_of(call):
    """Return the element of a call, as the server reads it."""
    (body,) = parse(call.envelope()).iterfind("Body")
    (found,) = body
    return found


# --- what is written


def test_a_call_names_its_object_and_escapes_its_arguments():
    call = calls.login(ObjectRef("SessionManager", "ha-sessionmgr"), "a&b", "<p>\"'")
    found = content_of(call)
    assert (found.tag, found[0].get("type"), found[0].text) == ("Login", "SessionManager", "ha-sessionmgr")
    assert [each.text for each in found[1:]] == ["a&b", "<p>\"'"]
    assert "<p>" not in repr(call) and "password" not in repr(call)


def test_the_filter_watches_the_properties_of_every_object_of_the_view():
    found = content_of(
        calls.create_filter(ObjectRef("PropertyCollector", "p"), ObjectRef("ContainerView", "v"))
    )
    spec = found.find("spec")
    sets = {
        each.findtext("type"): [p.text for p in each.iterfind("pathSet")] for each in spec.iterfind("propSet")
    }
    assert {kind: tuple(paths) for kind, paths in sets.items()} == calls.PROPERTIES
    (objects,) = spec.iterfind("objectSet")
    assert [each.tag for each in objects] == ["obj", "skip", "selectSet"], "the order of the schema"
    assert objects.findtext("selectSet/path") == "view" and objects.findtext("skip") == "true"


def test_dropped_connections_are_written_with_their_type():
    found = content_of(calls.drop_connections("vm-1", [MachineConnection("l", "192.0.2.1", "<u>")]))
    ((label, client, user),) = found.iterfind("listOfConnections")
    assert (label.text, client.text, user.text) == ("l", "192.0.2.1", "<u>")
    assert (
        b'xsi:type="VirtualMachineMksConnection"'
        in calls.drop_connections("vm-1", [MachineConnection("l", "c", "u")]).envelope()
    )


# --- what is read


def test_the_objects_of_a_server_are_taken_from_its_answer():
    call = SoapCall("RetrieveServiceContent", "")
    found = service_content(read(result(call.method, CONTENT.format("HostAgent")), call))
    assert found == ServiceContent(
        ObjectRef("SessionManager", "SessionManager"),
        ObjectRef("PropertyCollector", "propertyCollector"),
        ObjectRef("ViewManager", "ViewManager"),
        ObjectRef("Folder", "group-d1"),
        False,
        "7.0.3.0",
    )


def test_the_newest_version_of_the_api_is_the_one_of_this_api():
    assert newest_version(VERSIONS.encode()) == "8.0.2.0"
    assert newest_version(VERSIONS.replace("vim25", "other").encode()) is None
    assert newest_version(VERSIONS.replace("8.0.2.0", "8.0\r\nX: y").encode()) is None
    assert newest_version(b"<html>") is None


def test_changes_are_read_with_missing_properties():
    cause = '<fault><fault xsi:type="SystemError"/></fault>'
    missing = f"<missingSet><path>config.instanceUuid</path>{cause}</missingSet>"
    one = update("modify", "VirtualMachine", "vm-1", {"name": "a & b", "runtime.host": None})
    page = one.replace("</objectSet>", f"{missing}</objectSet>") + update("leave", "HostSystem", "host-1", {})
    content = f"<version>7</version><filterSet>{page}</filterSet><truncated>true</truncated>"
    found = update_set(read(result("WaitForUpdatesEx", content), SoapCall("WaitForUpdatesEx", "")))
    changes = (("name", "a & b"), ("runtime.host", None), ("config.instanceUuid", None))
    assert found == UpdateSet(
        "7",
        True,
        (
            ObjectUpdate(UpdateKind.MODIFY, ObjectRef("VirtualMachine", "vm-1"), changes),
            ObjectUpdate(UpdateKind.LEAVE, ObjectRef("HostSystem", "host-1"), ()),
        ),
    )
    empty = read(result("WaitForUpdatesEx", returned=False), SoapCall("WaitForUpdatesEx", ""))
    assert update_set(empty) is None


def test_a_fault_has_its_name_and_none_of_its_text():
    privilege = "<privilegeId>VirtualMachine.Interact.PowerOn</privilegeId>"
    detail = f"<object type='VirtualMachine'>vm-1</object>{privilege}"
    with pytest.raises(SoapFault) as caught:
        read(fault("NoPermission", detail))
    assert str(caught.value) == "NoPermission: VirtualMachine.Interact.PowerOn is missing"
    with pytest.raises(SoapFault) as caught:
        read(
            fault(
                "InvalidPowerState",
                "<requestedState>poweredOn</requestedState><existingState>poweredOff</existingState>",
            )
        )
    assert (caught.value.name, caught.value.state) == ("InvalidPowerState", "poweredOff")
    with pytest.raises(SoapFault, match=r"^UnnamedFault$"):
        read(fault("No<!-- -->".replace("<!-- -->", "1" * 99)))


def test_open_consoles_are_read():
    values = "<label>c1</label><client>192.0.2.7</client><userName>u</userName>"
    one = f"<returnval xsi:type='VirtualMachineMksConnection'>{values}</returnval>"
    call = SoapCall("QueryConnections", "")
    found = machine_connections(read(result(call.method, one * 2, returned=False), call))
    assert found == (MachineConnection("c1", "192.0.2.7", "u"),) * 2
    assert len(machine_connections(read(result(call.method, one * 2000, returned=False), call))) == 1000


# --- hostile answers

BOMB = '<!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "is not XML"),
        (b"<html><p>", "is not XML"),
        (b"\x00" * 100, "is not XML"),
        (ENVELOPE.format("&b;").replace("<soapenv:E", f"{BOMB}<soapenv:E", 1).encode(), "document type"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "document type"),
        (b"<a>" * (MAX_DEPTH + 1) + b"</a>" * (MAX_DEPTH + 1), f"in more than {MAX_DEPTH} others"),
        (b"<r>" + b"<a/>" * MAX_ELEMENTS + b"</r>", f"more than {MAX_ELEMENTS} elements"),
        (b'<?xml version="1.0" encoding="x-none"?><a/>', "unknown encoding"),
        (b"<a>&undefined;</a>", "is not XML"),
        (b"<html/>", "is no SOAP"),
        (ENVELOPE.format("").encode(), "is no SOAP"),
        (ENVELOPE.format("<LoginResponse/>").encode(), "is that of another call"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_an_answer_that_is_no_answer_is_refused_without_its_text(body, text):
    with pytest.raises(InvalidAnswer) as caught:
        answer_of(CALL, 200, body)
    assert text in str(caught.value) and "passwd" not in str(caught.value)


@pytest.mark.parametrize("status", [204, 302, 401, 404, 502, 503])
def test_another_status_is_refused(status):
    with pytest.raises(InvalidAnswer, match=f"the answer to AcquireTicket has the status {status}"):
        answer_of(CALL, status, ENVELOPE.format("<AcquireTicketResponse/>").encode())


@pytest.mark.parametrize(
    "returned",
    [
        "",
        "<returnval/>",
        '<returnval type="X Y">a</returnval>',
        '<returnval type="Folder">a&lt;b</returnval>',
    ],
)
def test_an_object_without_an_id_that_can_be_one_is_refused(returned):
    call = SoapCall("CreateFilter", "")
    with pytest.raises(InvalidAnswer):
        created(read(result(call.method, returned, returned=False), call))


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
def test_a_damaged_answer_ends_in_a_named_error(seed, octets):
    page = update("enter", "VirtualMachine", "vm-1", machine(1))
    body = result("WaitForUpdatesEx", f"<version>1</version><filterSet>{page}</filterSet>").body
    place = random.Random(seed).randrange(len(body))
    damaged = body[:place] + octets + body[place + len(octets) :]
    try:
        update_set(answer_of(SoapCall("WaitForUpdatesEx", ""), 200, damaged))
        console_ticket(answer_of(SoapCall("WaitForUpdatesEx", ""), 200, damaged), "vc")
    except (InvalidAnswer, SoapFault):
        pass
