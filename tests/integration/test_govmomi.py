"""The vCenter simulator of govmomi with our AcquireTicket: a ticket opens a console of a simulated host."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.support import sim_program
from tests.support.certificates import Authority
from tests.support.govmomi_simulator import PASSWORD, USER, Govmomi
from tests.support.rfb_client import RfbClient

pytest.importorskip("pyVmomi")

from pyVim.connect import SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl


def log_in(simulator: Govmomi) -> Any:
    """Return a session of pyVmomi."""
    return SmartConnect(
        host="127.0.0.1", port=simulator.port, user=USER, pwd=PASSWORD, disableSslCertValidation=True
    )


def test_pyvmomi_opens_consoles_through_the_simulator(authority: Authority) -> None:
    """A thousand machines; tickets follow power, clones and moves."""
    hosts = [sim_program.start(), sim_program.start()]
    try:
        with Govmomi(authority.server(), hosts, machines=1000, hosts=2) as simulator:
            content = log_in(simulator).RetrieveContent()
            view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
            machines = view.view
            assert len(machines) == 1000
            machine = machines[0]
            ticket = machine.AcquireTicket("webmks")
            with RfbClient(ticket.port, True) as console:
                certificate = console.stream.getpeercert(binary_form=True)
                assert hashlib.sha1(certificate).digest().hex(":").upper() == ticket.sslThumbprint
                console.open(f"/ticket/{ticket.ticket}", ["binary"])
                assert console.start_rfb()[2] == "simulated VM"
            view = content.viewManager.CreateContainerView(content.rootFolder, [vim.HostSystem], True)
            other = next(host for host in view.view if host._moId != machine.runtime.host._moId)
            WaitForTask(machine.Relocate(vim.vm.RelocateSpec(host=other)))
            assert machine.AcquireTicket("webmks").port != ticket.port
            location = vim.vm.RelocateSpec()
            spec = vim.vm.CloneSpec(location=location, powerOn=False, template=False)
            clone = machine.Clone(machine.parent, "copy", spec)
            WaitForTask(clone)
            copied = clone.info.result
            with pytest.raises(vim.fault.InvalidPowerState) as refused:
                copied.AcquireTicket("webmks")
            assert refused.value.existingState == "poweredOff"
            WaitForTask(copied.PowerOn())
            assert copied.AcquireTicket("webmks").ticket
            WaitForTask(copied.PowerOff())
            with pytest.raises(vmodl.fault.InvalidArgument):
                copied.AcquireTicket("nonsense")
            WaitForTask(copied.Destroy())
            with pytest.raises(vmodl.fault.ManagedObjectNotFound):
                copied.AcquireTicket("webmks")
    finally:
        for host in hosts:
            assert sim_program.stop(host) == 0
