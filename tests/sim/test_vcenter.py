"""The simulated vCenter without a network: sessions, the watch of the inventory, operations, faults."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from esxiproxy.sim.screen import png
from esxiproxy.sim.vcenter import schema
from esxiproxy.sim.vcenter.demands import Demand
from esxiproxy.sim.vcenter.endpoint import TransportFault
from esxiproxy.sim.vcenter.objects import SimulatedPower
from esxiproxy.sim.vcenter.options import VCenterOptions
from esxiproxy.sim.vcenter.soap import BadSoap, read_call
from tests.sim.vcenter_calls import Client, FaultAnswer, changes, version_of

TICKET = "<ticketType>webmks</ticketType>"


@pytest.fixture
def client() -> Client:
    return Client().logged_in()


# --- sessions


def test_the_service_content_needs_no_login_and_everything_else_does() -> None:
    client = Client()
    (content,) = client.call("RetrieveServiceContent", "ServiceInstance", "ServiceInstance")
    assert content.findtext("about/apiType") == "VirtualCenter"
    assert [content.findtext(name) for name in ("rootFolder", "sessionManager", "propertyCollector")] == [
        client.vcenter.inventory.root.ref.moid,
        "SessionManager",
        "propertyCollector",
    ]
    with pytest.raises(FaultAnswer, match="NotAuthenticated"):
        client.call("CurrentTime", "ServiceInstance", "ServiceInstance")


def test_a_session_ends_when_it_is_idle_and_a_wait_is_no_idleness() -> None:
    client = Client(session_idle=60).logged_in()
    collector, updates = client.watched("name")
    waiting = client.wait(collector, version_of(updates), seconds=300)
    client.clock.advance(299)
    assert len(client.vcenter.sessions) == 1
    client.clock.advance(1)
    assert client.read(waiting) == []
    client.clock.advance(59)
    client.call("CurrentTime", "ServiceInstance", "ServiceInstance")
    client.clock.advance(61)
    assert len(client.vcenter.sessions) == 0
    with pytest.raises(FaultAnswer, match="NotAuthenticated"):
        client.call("CurrentTime", "ServiceInstance", "ServiceInstance")


def test_a_session_that_is_ended_answers_its_wait() -> None:
    client = Client().logged_in()
    collector, updates = client.watched("name")
    waiting = client.wait(collector, version_of(updates), seconds=300)
    assert client.vcenter.sessions.end_all() == 1
    with pytest.raises(FaultAnswer, match="NotAuthenticated"):
        client.read(waiting)
    assert client.clock.getDelayedCalls() == []


def test_a_logout_ends_the_session_and_its_views(client: Client) -> None:
    collector = client.watch("name")
    client.call("Logout", "SessionManager", "SessionManager")
    assert client.vcenter.sessions.logouts == 1 and len(client.vcenter.sessions) == 0
    client.log_in()
    with pytest.raises(FaultAnswer, match="ManagedObjectNotFound"):
        client.read(client.wait(collector, ""))


def test_wrong_passwords_lock_the_account_for_a_time() -> None:
    client = Client()
    for _ in range(5):
        with pytest.raises(FaultAnswer, match="InvalidLogin"):
            client.log_in("wrong")
    assert client.vcenter.sessions.locked
    with pytest.raises(FaultAnswer, match="InvalidLogin"):
        client.log_in()
    client.clock.advance(601)
    client.log_in()
    assert (client.vcenter.sessions.logins, client.vcenter.sessions.failed_logins) == (1, 6)


def test_a_session_is_cloned_by_a_ticket_once(client: Client) -> None:
    def clone(ticket: str) -> None:
        client.call(
            "CloneSession", "SessionManager", "SessionManager", f"<cloneTicket>{ticket}</cloneTicket>"
        )

    def ticket() -> str:
        (found,) = client.call("AcquireCloneTicket", "SessionManager", "SessionManager")
        return found.text or ""

    first, used = client.token, ticket()
    assert used.startswith("cst-VCT-")
    clone(used)
    assert client.token != first and len(client.vcenter.sessions) == 2
    assert {each.user for each in client.vcenter.sessions.all} == {client.vcenter.options.user}
    late = ticket()
    client.clock.advance(301)
    for refused in (used, late, "cst-VCT-x", "", late.removeprefix("cst-VCT-")):
        with pytest.raises(FaultAnswer, match="InvalidLogin"):
            clone(refused)
    assert client.vcenter.sessions.failed_logins == 0, "no account is locked for it"


def test_no_secret_is_in_a_representation(client: Client) -> None:
    session = client.vcenter.sessions.all[0]
    assert session.token not in repr(session)
    assert "a-secret" not in repr(VCenterOptions(password="a-secret"))


# --- the watch


def test_the_first_wait_brings_everything_in_parts(client: Client) -> None:
    """Truncated as long as there is more; a part that got lost is sent again."""
    collector = client.watch("name", "runtime.powerState")
    (first,) = client.read(client.wait(collector, "", limit=5))
    assert first.findtext("truncated") == "true"
    kind, _, values = changes(first)[0]
    assert (kind, values["name"]) == ("enter", "web-01")
    (again,) = client.read(client.wait(collector, "", limit=5))
    assert changes(again) == changes(first)
    (second,) = client.read(client.wait(collector, version_of(again), limit=5))
    (lost,) = client.read(client.wait(collector, version_of(again), limit=5))
    assert changes(lost) == changes(second) and len(changes(second)) == 5
    (third,) = client.read(client.wait(collector, version_of(second), limit=5))
    assert third.findtext("truncated") is None
    assert len({moid for part in (first, second, third) for _, moid, _ in changes(part)}) == 12
    assert client.read(client.wait(collector, version_of(third))) == []


def test_a_wait_is_answered_by_what_changes(client: Client) -> None:
    """Only the values that changed come, together for changes of one turn; new and removed machines too."""
    inventory = client.vcenter.inventory
    collector, updates = client.watched("name", "runtime.powerState", "runtime.host", "parent")
    waiting = client.wait(collector, version_of(updates), seconds=300)
    web, mail = inventory.find_machine("web-01"), inventory.find_machine("mail")
    host = inventory.find_host("esx-02.lab.example")
    assert web and mail and host
    client.vcenter.machines.move(web, host)
    client.vcenter.machines.set_power(web, SimulatedPower.OFF)
    inventory.remove_machine(mail)
    datacenter = inventory.root.children()[0]
    added = inventory.add_machine("fresh", inventory.folder(datacenter, "/New"), host)
    client.clock.advance(0)
    (updates,) = client.read(waiting)
    assert sorted(changes(updates), key=lambda change: change[0]) == [
        (
            "enter",
            added.ref.moid,
            {
                "name": "fresh",
                "runtime.powerState": "poweredOn",
                "runtime.host": host.ref.moid,
                "parent": added.parent.ref.moid,
            },
        ),
        ("leave", mail.ref.moid, {}),
        ("modify", web.ref.moid, {"runtime.host": host.ref.moid, "runtime.powerState": "poweredOff"}),
    ]


def test_a_property_that_is_unset_or_hidden(client: Client) -> None:
    """An inaccessible machine has no config; a hidden property is in the missing set with its fault."""
    machine = client.machine("web-01")
    machine.hidden = frozenset({"name"})
    collector, updates = client.watched("name", "config.instanceUuid")
    first = next(updates.iter("objectSet"))
    assert first.findtext("missingSet/path") == "name"
    assert changes(updates)[0][2] == {"config.instanceUuid": machine.uuid}
    machine.accessible = False
    client.vcenter.inventory.changed(machine.ref)
    (updates,) = client.read(client.wait(collector, version_of(updates)))
    assert changes(updates) == [("modify", machine.ref.moid, {"config.instanceUuid": None})]


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("runtime.powerState", True),
        ("summary.runtime.powerState", True),
        ("config.hardware.numCPU", True),
        ("runtime.powerStat", False),
        ("summary.runtime.powerStat", False),
        ("nothing", False),
    ],
)
def test_a_path_that_does_not_exist_is_a_fault(client: Client, path: str, known: bool) -> None:
    assert schema.exists("VirtualMachine", path) is known
    if not known:
        with pytest.raises(FaultAnswer, match="InvalidProperty"):
            client.watch(path)


def test_a_wait_can_be_cancelled_and_an_unknown_version_is_refused(client: Client) -> None:
    collector, updates = client.watched("name")
    waiting = client.wait(collector, version_of(updates), seconds=None)
    client.call("CancelWaitForUpdates", "PropertyCollector", collector)
    with pytest.raises(FaultAnswer, match="RequestCanceled"):
        client.read(waiting)
    with pytest.raises(FaultAnswer, match="InvalidCollectorVersion"):
        client.read(client.wait(collector, "77"))
    gone = client.wait(collector, version_of(updates), seconds=300)
    gone.addErrback(lambda _: None)
    gone.cancel()
    assert client.clock.getDelayedCalls() == []


def test_thousands_of_machines_are_read_in_pages() -> None:
    client = Client(machines=3000).logged_in()
    collector = client.watch("name", "runtime.powerState")
    version, seen = "", set()
    while True:
        (updates,) = client.read(client.wait(collector, version, limit=500))
        version = version_of(updates)
        assert len(changes(updates)) == 500
        seen |= {moid for _, moid, _ in changes(updates)}
        if updates.findtext("truncated") is None:
            break
    assert len(seen) == 3000


# --- operations


def test_power_operations_are_tasks(client: Client) -> None:
    (task,) = client.on("old-erp", "PowerOnVM_Task")
    (info,) = client.call("Fetch", "Task", task.text or "", "<prop>info</prop>")
    assert info.findtext("state") == "running"
    client.clock.advance(1)
    (state,) = client.call("Fetch", "Task", task.text or "", "<prop>info.state</prop>")
    assert state.text == "success"
    assert client.on("old-erp", "AcquireTicket", TICKET)
    (task,) = client.on("old-erp", "PowerOnVM_Task")
    client.clock.advance(1)
    (info,) = client.call("Fetch", "Task", task.text or "", "<prop>info</prop>")
    assert info.findtext("state") == "error" and "Powered on" in (
        info.findtext("error/localizedMessage") or ""
    )


def test_a_move_is_a_task(client: Client) -> None:
    host = client.vcenter.inventory.find_host("esx-03.lab.example")
    assert host
    spec = f'<spec><host type="HostSystem">{host.ref.moid}</host></spec>'
    client.on("web-01", "RelocateVM_Task", spec)
    machine = client.machine("web-01")
    assert machine.host is not host
    client.clock.advance(1)
    assert machine.host is host and machine.ref in host.machines
    with pytest.raises(FaultAnswer, match="ManagedObjectNotFound"):
        client.on("web-01", "RelocateVM_Task", '<spec><host type="HostSystem">host-9</host></spec>')


def test_the_screens_size_can_be_set_where_tools_run(client: Client) -> None:
    machine = client.machine("web-01")
    client.on("web-01", "SetScreenResolution", "<width>800</width><height>600</height>")
    picture = Image.open(BytesIO(png.encode(machine.console.screen)))
    assert picture.size == (800, 600) and len(picture.convert("RGB").getcolors() or ()) == 5
    with pytest.raises(FaultAnswer, match="InvalidArgument"):
        client.on("web-01", "SetScreenResolution", "<width>9</width><height>600</height>")
    machine.tools = False
    with pytest.raises(FaultAnswer, match="ToolsUnavailable"):
        client.on("web-01", "SetScreenResolution", "<width>800</width><height>600</height>")


# --- misbehaviour


def test_faults_on_demand_hit_the_calls_that_they_name(client: Client) -> None:
    """A method, a machine, a number of calls; a delay is one too."""
    demands = client.vcenter.demands
    demands.add(Demand("AcquireTicket", "NoPermission", machine=client.moid("web-01"), times=1))
    client.on("web-02", "AcquireTicket", TICKET)
    with pytest.raises(FaultAnswer) as refused:
        client.on("web-01", "AcquireTicket", TICKET)
    assert refused.value.fields["privilegeId"] == "VirtualMachine.Interact.ConsoleInteract"
    client.on("web-01", "AcquireTicket", TICKET)
    demands.add(Demand("AcquireTicket", seconds=5))
    slow = client.start("AcquireTicket", "VirtualMachine", client.moid("web-01"), TICKET)
    client.clock.advance(4)
    assert not slow.called
    client.clock.advance(1)
    assert client.read(slow)
    demands.clear()
    demands.add(Demand("*", "drop"))
    dropped = client.start("CurrentTime", "ServiceInstance", "ServiceInstance")
    assert isinstance(dropped.result.value, TransportFault) and dropped.result.value.kind == "drop"
    dropped.addErrback(lambda _: None)


@pytest.mark.parametrize("wrong", [{"fault": "nonsense"}, {"seconds": -1}, {"times": 0}])
def test_a_demand_that_means_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Demand("Login", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"<Envelope/>",
        b"<Envelope><Body/></Envelope>",
        b"<Envelope><Body><Login/></Body></Envelope>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><Envelope/>',
        b"<a>" + b"x" * (1 << 20) + b"</a>",
    ],
)
def test_a_request_that_is_no_call_is_refused(body: bytes) -> None:
    with pytest.raises(BadSoap):
        read_call(body, "urn:vim25/8.0.3.0")


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": "8"},
        {"machines": -1},
        {"hosts": 0},
        {"session_idle": 0},
        {"user": ""},
        {"task_time": float("nan")},
    ],
)
def test_options_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        VCenterOptions(**wrong)  # type: ignore[arg-type]


def test_a_method_that_is_not_there_is_named(client: Client) -> None:
    with pytest.raises(FaultAnswer, match="no method Destroy_Task of VirtualMachine"):
        client.on("web-01", "Destroy_Task")
