"""The client of vCenter, with the real HTTP client, against simulators in processes of their own."""

import hashlib
import json
import os
import time
from pathlib import Path
from types import MappingProxyType

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import formatEvent, globalLogPublisher

from esxiproxy.cli.main import main
from esxiproxy.core.config.model import Config
from esxiproxy.core.config.vsphere import VSphere
from esxiproxy.core.errors import (
    HostNotConnected,
    MachineNotFound,
    MachineNotPermitted,
    MachinePoweredOff,
    TooManyConsoles,
    VSphereUnavailable,
)
from esxiproxy.core.routing import Identity, Verify
from esxiproxy.core.thumbprint import Pin
from esxiproxy.vsphere.machine import Power
from esxiproxy.vsphere.service import VSphereService
from esxiproxy.vsphere.soap import ObjectRef, element, group, reference, soap_call
from tests.support import config, govmomi_simulator, sim_program, vcenter_program
from tests.support.crowd import Crew
from tests.support.govmomi_simulator import Govmomi
from tests.support.programs import until
from tests.support.rfb_client import RfbClient
from tests.support.web_server import Web
from tests.support.workers import reloaded


class Joined:
    """A service that is logged in to one server, and the reactor of its client."""

    def __init__(self, folder: Path, port: int, account: tuple[str, str], sha256: str, tags: bool) -> None:
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self._logged)
        self.web = Web()
        self.file = folder / "vc.password"
        self.file.write_text(account[1])
        identity = Identity(Verify.PIN, (Pin("sha256", sha256.replace(":", "").lower()),))
        vsphere = VSphere("dc1", "127.0.0.1", port, account[0], self.file, identity, tags)
        sections = MappingProxyType({"dc1": vsphere})
        self.service = VSphereService(
            Config(Path("proxy.ini"), (), {}, vspheres=sections), self.web.client, self.web.reactor
        )
        self.inventory = self.service.inventories["dc1"]
        self.service.start()

    def _logged(self, event) -> None:
        self.lines.append(formatEvent(event))

    def result(self, awaitable):
        return self.web.result(awaitable)

    def until(self, true) -> None:
        """Run the reactor until something is true: the pauses of the watch grow to seconds."""
        end = time.monotonic() + 60
        while not true():
            assert time.monotonic() < end, (self.inventory.problem, self.lines[-3:])
            self.web.turn()

    def error(self, awaitable):
        with pytest.raises(Exception) as caught:
            self.result(awaitable)
        return caught.value

    def machine(self, name: str):
        return next(each for each in self.inventory.machines.values() if each.name == name)

    def close(self) -> None:
        globalLogPublisher.removeObserver(self._logged)
        self.web.close()


class Simulated(Joined):
    """A service that is logged in to a simulated vCenter of ours."""

    def __init__(self, folder: Path, *arguments: str, tags: bool = False) -> None:
        self.vcenter = vcenter_program.start("--tls-port", "0", *arguments)
        account = self.vcenter.user, vcenter_program.PASSWORD
        super().__init__(folder, self.vcenter.port, account, self.vcenter.ready["sha256"], tags)

    def change(self, name: str, /, **values) -> None:
        self.vcenter.control("PATCH", f"/machines/{name}", **values)

    def fault(self, method: str, name: str, **more) -> None:
        self.vcenter.control("POST", "/faults", method=method, fault=name, times=1, **more)

    def close(self) -> None:
        super().close()
        vcenter_program.stop(self.vcenter)


@pytest.fixture
def joined(tmp_path):
    made = Simulated(tmp_path, "--task-time", "0.05", tags=True)
    yield made
    made.close()


def test_machines_tickets_and_faults_of_a_vcenter(joined):
    joined.until(lambda: joined.inventory.ready)
    state = joined.vcenter.state()
    described = {each["uuid"]: each for each in state["machines"]}
    assert joined.inventory.machines.keys() == described.keys() and len(described) == 12
    for machine in joined.inventory.machines.values():
        expected = described[machine.uuid]
        assert (machine.moid, machine.name, machine.host) == tuple(
            expected[k] for k in ("moid", "name", "host")
        )
        assert machine.power.value == expected["power"]
    joined.until(
        lambda: all(sorted(m.tags) == described[m.uuid]["tags"] for m in joined.inventory.machines.values())
    )
    on = next(each for each in joined.inventory.machines.values() if each.power is Power.ON)

    # Tickets of every form: the strongest identity is that of the host.
    host = state["hosts"][on.host]
    for parts, algorithm in (
        ("host,url,sha1,sha256,pem", "pem"),
        ("sha1,sha256", "sha256"),
        ("sha1", "sha1"),
        ("host", ""),
    ):
        joined.vcenter.control("PATCH", "/tickets", parts=parts)
        ticket = joined.result(joined.service.acquire_ticket(on))
        assert [pin.algorithm for pin in ticket.pins] == ([algorithm] if algorithm.startswith("sha") else [])
        if algorithm == "pem":
            assert hashlib.sha256(ticket.certificate).hexdigest() == host["sha256"].replace(":", "").lower()
            assert (ticket.host, ticket.port) == (host["address"], host["port"])
        assert ticket.ticket and ticket.ticket not in repr(ticket)
    tickets = joined.vcenter.state()["tickets"]

    # 500 consoles at once: one ticket each, in the one session.
    asked = [Deferred.fromCoroutine(joined.service.acquire_ticket(on)) for _ in range(500)]
    found = joined.result(gatherResults(asked))
    assert len({each.ticket for each in found}) == 500
    state = joined.vcenter.state()
    assert (state["tickets"], state["logins"]) == (tickets + 500, 2), "one login over SOAP and one over REST"
    assert state["connections"] <= 6

    # Each fault has its error.
    for name, error in (
        ("InvalidPowerState", MachinePoweredOff),
        ("NoPermission", MachineNotPermitted),
        ("HostNotConnected", HostNotConnected),
        ("MksConnectionLimitReached", TooManyConsoles),
        ("garbage", VSphereUnavailable),
        ("drop", VSphereUnavailable),
        ("unavailable", VSphereUnavailable),
    ):
        joined.fault("AcquireTicket", name)
        assert type(joined.error(joined.service.acquire_ticket(on))) is error, name

    # Power, another host, another name, gone: seen in the inventory.
    joined.change(on.name, power="off")
    joined.until(lambda: joined.machine(on.name).power is Power.OFF)
    assert isinstance(joined.error(joined.service.acquire_ticket(on)), MachinePoweredOff)
    joined.result(joined.service.power_on(on))
    joined.until(lambda: joined.machine(on.name).power is Power.ON)
    other = next(name for name in state["hosts"] if name != on.host)
    joined.change(on.name, host=other)
    joined.until(lambda: joined.machine(on.name).host == other)
    assert joined.result(joined.service.acquire_ticket(on)).port == state["hosts"][other]["port"]
    joined.change(on.name, name="a%2f<b>", max_consoles=3, folder="/Deep/er")
    joined.until(lambda: joined.service.inventories["dc1"].machines[on.uuid].name == "a/<b>")
    moved = joined.machine("a/<b>")
    assert (moved.max_consoles, moved.folder) == (3, "/Deep/er")
    assert joined.result(joined.service.connections(moved)) == ()
    assert joined.result(joined.service.thumbnail(moved)).startswith(b"\x89PNG")
    joined.vcenter.control("DELETE", f"/machines/{on.moid}")
    joined.until(lambda: on.uuid not in joined.inventory.machines)
    assert type(joined.error(joined.service.acquire_ticket(on))) is MachineNotFound

    joined.result(joined.service.stop())
    assert joined.vcenter.state()["sessions"] == 0
    assert not [line for line in joined.lines if vcenter_program.PASSWORD in line or "52" * 8 in line]


def test_a_vcenter_that_ends_sessions_restarts_and_changes(tmp_path):
    joined = Simulated(tmp_path)
    try:
        joined.until(lambda: joined.inventory.ready)
        names = sorted(each.name for each in joined.inventory.machines.values())
        first = joined.machine(names[0])

        # The session ends in the middle of the poll: one new login, and changes are seen again.
        joined.vcenter.control("DELETE", "/sessions")
        joined.until(lambda: joined.vcenter.state()["logins"] == 2)
        joined.change(first.name, name="renamed")
        joined.until(lambda: joined.inventory.machines[first.uuid].name == "renamed")
        assert joined.inventory.problem is None

        # vCenter is down: the machines stay, and it is found again.
        joined.vcenter.control("POST", "/stop")
        joined.until(lambda: joined.inventory.problem is not None)
        assert "cannot be read and may have changed" in joined.inventory.problem
        assert len(joined.inventory.machines) == len(names)
        assert isinstance(joined.error(joined.service.acquire_ticket(first)), VSphereUnavailable)
        joined.vcenter.control("POST", "/start")
        joined.until(lambda: joined.inventory.problem is None)

        # The password was changed: one login, no lock, and a new login when the file has changed.
        joined.vcenter.control("PATCH", "/sessions", password="changed")
        joined.vcenter.control("DELETE", "/sessions")
        joined.until(lambda: "refuses user and password" in (joined.inventory.problem or ""))
        for _ in range(50):
            assert isinstance(joined.error(joined.service.acquire_ticket(first)), VSphereUnavailable)
        state = joined.vcenter.state()
        assert (state["failed_logins"], state["locked"]) == (1, False)
        joined.file.write_text("changed\n")
        joined.until(lambda: joined.inventory.problem is None)
        logins = joined.vcenter.state()["logins"]

        # The certificate has changed: a sentence, and no login.
        new = joined.vcenter.control("POST", "/certificate")["sha256"]
        joined.vcenter.control("DELETE", "/sessions")
        joined.until(lambda: "its certificate is" in (joined.inventory.problem or ""))
        assert f"sha256:{new}".lower() in joined.inventory.problem.lower()
        error = joined.error(joined.service.acquire_ticket(first))
        assert type(error) is VSphereUnavailable and "not the expected one" in str(error)
        state = joined.vcenter.state()
        assert (state["logins"], state["failed_logins"], state["sessions"]) == (logins, 1, 0)
        joined.result(joined.service.stop())
    finally:
        joined.close()


LONG = pytest.mark.skipif(
    os.environ.get("ESXIPROXY_LONG") != "1", reason="more of the same: ESXIPROXY_LONG=1"
)


@pytest.mark.parametrize("standalone", [False, pytest.param(True, marks=[LONG, pytest.mark.full])])
def test_a_thousand_machines_of_the_simulator_of_govmomi(tmp_path, authority, standalone):
    """A server that is not ours: its machines move and go, and it ends a session that is idle for 1 s."""
    host, certificate = sim_program.start(), authority.server()
    try:
        with Govmomi(certificate, [host], hosts=2, idle=1.0, standalone=standalone) as simulator:
            account = govmomi_simulator.USER, govmomi_simulator.PASSWORD
            joined = Joined(tmp_path, simulator.port, account, certificate.sha256, False)
            server = joined.service._servers["dc1"]

            def act(method, *arguments):
                joined.result(server._session.call(soap_call(method, ref, *arguments)))

            joined.until(lambda: joined.inventory.ready)
            assert len(joined.inventory.machines) == 1000
            machine = joined.machine("ha-host_VM7" if standalone else "DC0_C0_RP0_VM7")
            ref = ObjectRef("VirtualMachine", machine.moid)
            assert (machine.power, machine.folder, bool(machine.host)) == (Power.ON, "/", True)
            ticket = joined.result(joined.service.acquire_ticket(machine))
            with RfbClient(ticket.port, True) as console:
                leaf = console.stream.getpeercert(binary_form=True)
                assert Identity(Verify.PIN, ticket.pins).fits(leaf)
                console.open(f"/ticket/{ticket.ticket}", ["binary"])
                assert console.start_rfb()[2] == "simulated VM"
            act("PowerOffVM_Task")
            joined.until(lambda: joined.inventory.machines[machine.uuid].power is Power.OFF)
            assert isinstance(joined.error(joined.service.acquire_ticket(machine)), MachinePoweredOff)
            joined.result(joined.service.power_on(machine))
            joined.until(lambda: joined.inventory.machines[machine.uuid].power is Power.ON)
            hosts = server._watch._objects.of("HostSystem")
            moved = [moid for moid, found in hosts.items() if found["name"] != machine.host]
            if moved:
                act("RelocateVM_Task", group("spec", reference("host", ObjectRef("HostSystem", moved[0]))))
                joined.until(lambda: joined.inventory.machines[machine.uuid].host != machine.host)
            if not standalone:  # only a vCenter clones
                parent = server._watch._objects.of("VirtualMachine")[machine.moid]["parent"]
                spec = group("spec", group("location"), element("template", False), element("powerOn", False))
                folder = reference("folder", ObjectRef("Folder", parent))
                act("CloneVM_Task", folder, element("name", "copy"), spec)
                joined.until(lambda: any(each.name == "copy" for each in joined.inventory.machines.values()))
                copy = joined.machine("copy")
                assert copy.uuid != machine.uuid and copy.folder == machine.folder
                assert isinstance(joined.error(joined.service.acquire_ticket(copy)), MachinePoweredOff)
            end = time.monotonic() + 2.5
            joined.until(lambda: time.monotonic() > end)  # the session is idle, and ends
            assert joined.result(joined.service.acquire_ticket(machine)).ticket
            assert joined.lines.count("[vsphere dc1] logged in") >= 2
            act("PowerOffVM_Task")
            act("Destroy_Task")
            joined.until(lambda: machine.uuid not in joined.inventory.machines)
            assert joined.inventory.problem is None and len(joined.inventory.machines) == 1000 - standalone
            joined.result(joined.service.stop())
            joined.close()
    finally:
        sim_program.stop(host)


def test_the_admin_process_has_one_session_over_reloads_and_none_after_the_stop(capsys):
    vcenter = vcenter_program.start("--tls-port", "0")
    section = (
        f"[vsphere dc1]\nurl = https://127.0.0.1:{vcenter.port}\nuser = {vcenter.user}\n"
        f"password_file = vc.password\nverify = pin\npin = sha256:{vcenter.ready['sha256']}\n"
    )
    text = config.ini(config.listener(), config.upstream("ws://127.0.0.1:9")) + section
    try:
        with Crew(text, {"vc.password": vcenter_program.PASSWORD}) as crew:
            until(lambda: "[vsphere dc1] 12 machines" in crew.log(), "the machines are read")
            assert (len(crew.workers()), len(crew.admins())) == (1, 1), "one worker, and yet a master"
            assert vcenter.state()["sessions"] == 1
            reloaded(crew)
            until(lambda: vcenter.state()["logouts"] == 1, "the old admin process logs out")
            assert vcenter.state()["sessions"] == 1

            # The doctor verifies the server without a login.
            main(["doctor", "--config", str(crew.path), "--json"])
            rows = [row for row in json.loads(capsys.readouterr().out) if row["section"] == "vsphere dc1"]
            assert [(row["check"], row["verdict"]) for row in rows if row["check"] == "host"] == [
                ("host", "ok")
            ]
            assert vcenter.state()["logins"] == 2

            stopped = crew.stop(), vcenter.state()
            log = crew.log()
        assert stopped[0] == 0 and (stopped[1]["sessions"], stopped[1]["logouts"]) == (0, 2)
        assert vcenter_program.PASSWORD not in log and "Traceback" not in log
    finally:
        vcenter_program.stop(vcenter)
