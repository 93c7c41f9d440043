"""The errors of a console for the faults of vSphere."""

from __future__ import annotations

from esxiproxy.core.errors import (
    HostNotConnected,
    MachineNotFound,
    MachineNotPermitted,
    MachineNotReady,
    MachinePoweredOff,
    SessionError,
    TooManyConsoles,
    VSphereUnavailable,
)
from esxiproxy.vsphere.soap import SoapFault

_HOST = frozenset(
    {"HostNotConnected", "HostNotReachable", "HostCommunication", "HostConnectFault", "NoHost", "Timedout"}
)
_NOT_READY = frozenset(
    {"InvalidState", "ToolsUnavailable", "TaskInProgress", "NotSupported", "OperationDisallowedOnHost"}
)


def error_of(fault: SoapFault, section: str, method: str) -> SessionError:
    """Return the error for a fault that a call for a machine was answered with."""
    prefix = f"[vsphere {section}]"
    name = fault.name
    if name == "InvalidPowerState":
        return MachinePoweredOff(_powered(fault.state))
    if name == "NoPermission":
        missing = f"the privilege {fault.privilege}" if fault.privilege else "a privilege"
        return MachineNotPermitted(f"{prefix} the user lacks {missing} for {method}")
    if name == "ManagedObjectNotFound":
        return MachineNotFound("the virtual machine does not exist any more")
    if name in _HOST:
        return HostNotConnected(f"{prefix} the host of the virtual machine is not connected ({name})")
    if name == "MksConnectionLimitReached":
        return TooManyConsoles("the virtual machine has as many consoles as it admits")
    if name in _NOT_READY:
        return MachineNotReady(f"vSphere refuses {method} in the present state of the machine ({name})")
    return VSphereUnavailable(f"{prefix} vSphere refuses {method} ({fault})")


def _powered(state: str) -> str:
    words = {"suspended": "is suspended", "poweredOn": "is powered on"}
    return f"the virtual machine {words.get(state, 'is powered off')}"
