"""The simulated vCenter as a program: pyVmomi as its client, consoles, REST, pictures and control."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import struct
import threading
import urllib.error
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from tests.support.programs import until
from tests.support.pyvmomi_machines import machines
from tests.support.rfb_client import RfbClient
from tests.support.vcenter_program import PASSWORD, VCenterProgram, start, stop
from tests.support.websocket import CLOSE
from tests.support.websocket_peers import trusting_context

pytest.importorskip("pyVmomi")

from pyVim.connect import Disconnect, SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl

Collector = vmodl.query.PropertyCollector


@pytest.fixture(scope="module")
def vcenter() -> Iterator[VCenterProgram]:
    """Run one vCenter for the file."""
    running = start("--task-time", "0.01")
    yield running
    assert stop(running) == 0


@contextlib.contextmanager
def session(vcenter: VCenterProgram, password: str = PASSWORD) -> Iterator[Any]:
    """Return a session of pyVmomi."""
    connected = SmartConnect(
        host="127.0.0.1",
        port=vcenter.port,
        user=vcenter.user,
        pwd=password,
        disableSslCertValidation=True,
        httpConnectionTimeout=30,
    )
    yield connected
    Disconnect(connected)


def watch(connected: Any) -> Any:
    """Create a property collector with a filter of all machines and hosts."""
    content = connected.RetrieveContent()
    types = [vim.VirtualMachine, vim.HostSystem]
    view = content.viewManager.CreateContainerView(content.rootFolder, types, True)
    walk = Collector.TraversalSpec(name="v", type=vim.view.ContainerView, path="view", skip=False)
    paths = ["name", "runtime.powerState", "runtime.host", "config.instanceUuid", "parent"]
    spec = Collector.FilterSpec(
        objectSet=[Collector.ObjectSpec(obj=view, skip=True, selectSet=[walk])],
        propSet=[
            Collector.PropertySpec(type=vim.VirtualMachine, pathSet=paths),
            Collector.PropertySpec(type=vim.HostSystem, pathSet=["name", "runtime.connectionState"]),
        ],
    )
    collector = content.propertyCollector.CreatePropertyCollector()
    collector.CreateFilter(spec, False)
    return collector


def open_console(ticket: Any) -> RfbClient:
    """Open the console of a ticket at the host that the ticket names."""
    client = RfbClient(ticket.port, True, address=ticket.host)
    client.open(f"/ticket/{ticket.ticket}", ["binary"])
    return client


def test_pyvmomi_reads_the_inventory(vcenter: VCenterProgram) -> None:
    """pyVmomi negotiates the version, logs in, walks views and data objects, and logs out."""
    logouts = vcenter.state()["logouts"]
    with session(vcenter) as connected:
        assert connected._stub.version == "vim.version.v9_0_0_0"
        content = connected.RetrieveContent()
        assert (content.about.apiType, content.about.version) == ("VirtualCenter", "9.0.0")
        assert content.sessionManager.currentSession.userName == vcenter.user
        found = machines(connected)
        assert len(found) == 12
        machine = found["web-01"]
        assert (machine.parent.name, machine.parent.parent.name) == ("Web", "Prod")
        assert machine.runtime.powerState == vim.VirtualMachine.PowerState.poweredOn
        assert machine.runtime.host.name == "esx-01.lab.example"
        assert (
            machine.runtime.host.summary.config.sslThumbprint == machine.AcquireTicket("webmks").sslThumbprint
        )
        assert machine.config.instanceUuid == vcenter.machine("web-01")["uuid"]
        assert machine.config.maxMksConnections == 40
        assert machine.summary.runtime.connectionState == "connected"
        datacenter = content.rootFolder.childEntity[0]
        assert [child.name for child in datacenter.vmFolder.childEntity] == [
            "Prod",
            "Test",
            "Desktops",
            "Archive",
        ]
    assert vcenter.state()["logouts"] == logouts + 1


def test_pyvmomi_watches_the_inventory(vcenter: VCenterProgram) -> None:
    """The watch gets changes of all kinds in parts, up to the end of the session."""
    with session(vcenter) as connected:
        collector = watch(connected)
        updates = collector.WaitForUpdatesEx("", Collector.WaitOptions(maxWaitSeconds=0, maxObjectUpdates=10))
        assert updates.truncated and len(updates.filterSet[0].objectSet) == 10
        updates = collector.WaitForUpdatesEx(updates.version, Collector.WaitOptions(maxWaitSeconds=0))
        assert not updates.truncated and len(updates.filterSet[0].objectSet) == 5
        version = updates.version
        assert collector.WaitForUpdatesEx(version, Collector.WaitOptions(maxWaitSeconds=0)) is None
        changes = (
            lambda: vcenter.control("PATCH", "/machines/web-03", host="esx-01.lab.example"),
            lambda: vcenter.control("POST", "/machines", name="fresh", folder="/New", power="off"),
            lambda: vcenter.control("DELETE", "/machines/fresh"),
            lambda: vcenter.control("PATCH", "/hosts/esx-02.lab.example", connected=False),
            lambda: vcenter.control("PATCH", "/hosts/esx-02.lab.example", connected=True),
        )
        kinds = []
        for change in changes:
            timer = threading.Timer(0.1, change)
            timer.start()
            updates = collector.WaitForUpdatesEx(version, Collector.WaitOptions(maxWaitSeconds=20))
            timer.join()
            version = updates.version
            each = updates.filterSet[0].objectSet[0]
            kinds.append((each.kind, {value.name: value.val for value in each.changeSet}))
        host = kinds[0][1]["runtime.host"]
        assert kinds[0][0] == "modify" and host.name == "esx-01.lab.example"
        assert kinds[1][0] == "enter" and kinds[1][1]["runtime.powerState"] == "poweredOff"
        assert kinds[2] == ("leave", {})
        assert kinds[3] == ("modify", {"runtime.connectionState": "disconnected"})
        with pytest.raises(vmodl.query.InvalidCollectorVersion):
            collector.WaitForUpdatesEx("77")
        timer = threading.Timer(0.1, lambda: vcenter.control("DELETE", "/sessions"))
        timer.start()
        with pytest.raises(vim.fault.NotAuthenticated):
            collector.WaitForUpdatesEx(version, Collector.WaitOptions(maxWaitSeconds=20))
        timer.join()


def test_pyvmomi_gets_a_ticket_that_opens_a_console(vcenter: VCenterProgram) -> None:
    """The console shows this machine, is listed, and ends when the machine moves or is dropped."""
    with session(vcenter) as connected:
        machine = machines(connected)["db-primary"]
        ticket = machine.AcquireTicket("webmks")
        assert ticket.url == f"wss://{ticket.host}:{ticket.port}/ticket/{ticket.ticket}"
        hosts = vcenter.state()["hosts"]
        assert ticket.certThumbprintList[0].thumbprint == hosts[machine.runtime.host.name]["sha256"]
        assert ticket.sslCertificate.startswith("-----BEGIN CERTIFICATE-----")
        with open_console(ticket) as console:
            assert console.start_rfb()[2] == "db-primary"
            (listed,) = machine.QueryConnections()
            assert isinstance(listed, vim.VirtualMachine.MksConnection)
            assert (listed.client, listed.userName) == ("127.0.0.1", vcenter.user)
            assert machine.runtime.numMksConnections == 1
            spec = vim.vm.RelocateSpec(host=machines_host(connected, "esx-03.lab.example"))
            WaitForTask(machine.Relocate(spec))
            assert machine.runtime.host.name == "esx-03.lab.example"
            frame = console.recv_frame()
            assert frame.opcode == CLOSE
            assert frame.payload == struct.pack("!H", 1001) + b"the virtual machine was moved to another host"
        moved = machine.AcquireTicket("webmks")
        assert (moved.host, moved.port) != (ticket.host, ticket.port)
        vcenter.control("PATCH", "/machines/db-primary", max_consoles=1)
        with open_console(moved) as console:
            console.start_rfb()
            with pytest.raises(vim.fault.MksConnectionLimitReached) as refused:
                machine.AcquireTicket("webmks")
            assert refused.value.connectionLimit == 1
            assert machine.DropConnections(machine.QueryConnections()) is True
            assert console.recv_frame().opcode == CLOSE
        until(lambda: not machine.QueryConnections(), "the console is no longer listed")
        assert machine.DropConnections([listed]) is False


def machines_host(connected: Any, name: str) -> Any:
    """Return the host with this name."""
    content = connected.RetrieveContent()
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.HostSystem], True)
    return next(host for host in view.view if host.name == name)


def test_pyvmomi_understands_every_fault(vcenter: VCenterProgram) -> None:
    """The faults are those on demand, and those of a task."""
    expected = {
        "NoPermission": vim.fault.NoPermission,
        "InvalidPowerState": vim.fault.InvalidPowerState,
        "MksConnectionLimitReached": vim.fault.MksConnectionLimitReached,
        "HostNotConnected": vmodl.fault.HostNotConnected,
        "Timedout": vim.fault.Timedout,
        "ToolsUnavailable": vim.fault.ToolsUnavailable,
        "NotAuthenticated": vim.fault.NotAuthenticated,
    }
    with session(vcenter) as connected:
        found = machines(connected)
        for name, fault in expected.items():
            vcenter.control("POST", "/faults", method="AcquireTicket", fault=name, times=1)
            with pytest.raises(fault):
                found["web-01"].AcquireTicket("webmks")
        with pytest.raises(vim.fault.InvalidPowerState):
            found["old-erp"].AcquireTicket("webmks")
        WaitForTask(found["old-erp"].PowerOn())
        with pytest.raises(vim.fault.InvalidPowerState):
            WaitForTask(found["old-erp"].PowerOn())
        WaitForTask(found["old-erp"].PowerOff())
        vcenter.control("POST", "/machines", name="short-lived")
        gone = machines(connected)["short-lived"]
        vcenter.control("DELETE", "/machines/short-lived")
        with pytest.raises(vmodl.fault.ManagedObjectNotFound):
            gone.AcquireTicket("webmks")
    with pytest.raises(vim.fault.InvalidLogin), session(vcenter, "wrong"):
        pass


def request(
    vcenter: VCenterProgram, method: str, path: str, fields: dict[str, str], body: Any = None
) -> tuple[int, bytes]:
    """Send one request to the vCenter's port; return the status and the body of the answer."""
    connection = http.client.HTTPSConnection(
        "127.0.0.1", vcenter.port, context=trusting_context(), timeout=20
    )
    with contextlib.closing(connection):
        connection.request(method, path, None if body is None else json.dumps(body), fields)
        answer = connection.getresponse()
        return answer.status, answer.read()


def basic(vcenter: VCenterProgram, password: str = PASSWORD) -> dict[str, str]:
    """Return the field of a login with a password."""
    encoded = base64.b64encode(f"{vcenter.user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {encoded}"}


def test_tags_are_read_over_rest(vcenter: VCenterProgram) -> None:
    """Tags are read by tag and by machine, in a session that ends."""
    assert request(vcenter, "POST", "/api/session", basic(vcenter, "wrong"))[0] == 401
    status, body = request(vcenter, "POST", "/api/session", basic(vcenter))
    assert status == 201
    fields = {"vmware-api-session-id": json.loads(body), "Content-Type": "application/json"}
    tagging = "/api/cis/tagging"
    identifiers = json.loads(request(vcenter, "GET", f"{tagging}/tag", fields)[1])
    tags = {
        json.loads(request(vcenter, "GET", f"{tagging}/tag/{each}", fields)[1])["name"]: each
        for each in identifiers
    }
    assert set(tags) == {"console", "linux", "windows"}
    path = f"{tagging}/tag-association?action=list-attached-objects-on-tags"
    (attached,) = json.loads(request(vcenter, "POST", path, fields, {"tag_ids": [tags["windows"]]})[1])
    windows = ["desktop-anna", "desktop-ben", "old-erp"]
    assert attached["object_ids"] == [
        {"id": vcenter.machine(name)["moid"], "type": "VirtualMachine"} for name in windows
    ]
    path = f"{tagging}/tag-association?action=list-attached-tags-on-objects"
    (found,) = json.loads(
        request(vcenter, "POST", path, fields, {"object_ids": attached["object_ids"][:1]})[1]
    )
    assert found["tag_ids"] == [tags["windows"]]
    assert request(vcenter, "POST", path, fields, [])[0] == 400
    assert request(vcenter, "GET", f"{tagging}/tag/urn:nothing", fields)[0] == 404
    assert request(vcenter, "DELETE", "/api/session", fields)[0] == 204
    assert request(vcenter, "GET", f"{tagging}/tag", fields)[0] == 401


def test_a_picture_of_a_screen(vcenter: VCenterProgram) -> None:
    """For a login only, and of a machine that has power."""
    path = f"/screen?id={vcenter.machine('web-01')['moid']}"
    status, body = request(vcenter, "GET", path, basic(vcenter))
    assert status == 200 and Image.open(BytesIO(body)).size == (640, 400)
    assert request(vcenter, "GET", path, {})[0] == 401
    assert request(vcenter, "GET", path, basic(vcenter, "wrong"))[0] == 401
    assert request(vcenter, "GET", "/screen?id=vm-9999", basic(vcenter))[0] == 404
    off = f"/screen?id={vcenter.machine('old-erp')['moid']}"
    assert request(vcenter, "GET", off, basic(vcenter))[0] == 503


def test_the_control_port_changes_the_simulation(vcenter: VCenterProgram) -> None:
    """A vCenter that is down and up again, another certificate, faults of connections, refused requests."""
    assert vcenter.control("POST", "/stop") is None
    with pytest.raises(ConnectionError):
        request(vcenter, "GET", "/", {})
    vcenter.control("POST", "/start")
    assert request(vcenter, "GET", "/", {})[0] == 200
    changed = vcenter.control("POST", "/certificate")
    assert changed["sha256"] != vcenter.ready["sha256"]
    for fault, answer in (("unavailable", (503, b"")), ("garbage", (200, b"<html>"))):
        vcenter.control("POST", "/faults", method="RetrieveServiceContent", fault=fault, times=1)
        status, body = request(vcenter, "POST", "/sdk", {}, None)
        assert status == 500 and b"InvalidRequest" in body
        status, body = soap(vcenter, "RetrieveServiceContent")
        assert (status, body[: len(answer[1])]) == answer
    vcenter.control("POST", "/faults", method="RetrieveServiceContent", fault="drop", times=1)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        soap(vcenter, "RetrieveServiceContent")
    for method, path, body in (
        ("POST", "/nothing", {}),
        ("PATCH", "/machines/nothing", {}),
        ("PATCH", "/machines/web-01", {"colour": "red"}),
        ("PATCH", "/machines/web-01", {"power": "maybe"}),
        ("POST", "/faults", {"method": "Login", "fault": "nonsense"}),
        ("PATCH", "/tickets", {"parts": "nonsense"}),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            vcenter.control(method, path, **body)
        assert refused.value.code == 400 and json.load(refused.value)["error"]


def soap(vcenter: VCenterProgram, method: str) -> tuple[int, bytes]:
    """Call a method of the service instance without a session."""
    body = (
        '<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body>'
        f'<{method} xmlns="urn:vim25"><_this type="ServiceInstance">ServiceInstance</_this></{method}>'
        "</Body></Envelope>"
    )
    connection = http.client.HTTPSConnection(
        "127.0.0.1", vcenter.port, context=trusting_context(), timeout=20
    )
    with contextlib.closing(connection):
        connection.request("POST", "/sdk", body, {"SOAPAction": "urn:vim25/8.0.3.0"})
        answer = connection.getresponse()
        return answer.status, answer.read()
