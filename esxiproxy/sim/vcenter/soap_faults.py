"""The faults of vSphere's SOAP interface that a simulated vCenter answers with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from esxiproxy.sim.vcenter.soap import Literal, Ref, Structure, Typed, Value, structure

CONSOLE_PRIVILEGE: Final = "VirtualMachine.Interact.ConsoleInteract"


class SoapFault(Exception):
    """Raised by a call that fails; it becomes the answer."""

    def __init__(self, name: str, message: str, /, **fields: Value) -> None:
        super().__init__(f"{name}: {message}")
        self.fault: Structure = structure(name, **fields)
        self.message = message

    @property
    def localized(self) -> Structure:
        """The fault as a field of a data object."""
        return structure("LocalizedMethodFault", fault=Typed(self.fault), localizedMessage=self.message)


def invalid_login() -> SoapFault:
    """Return the fault of a wrong user name or password, and of a locked account."""
    return SoapFault("InvalidLogin", "Cannot complete login due to an incorrect user name or password.")


def not_authenticated(target: Ref | None = None) -> SoapFault:
    """Return the fault of a call without a session, or with one that has ended."""
    return SoapFault(
        "NotAuthenticated", "The session is not authenticated.", object=target, privilegeId="System.View"
    )


def no_permission(target: Ref | None = None, privilege: str = CONSOLE_PRIVILEGE) -> SoapFault:
    """Return the fault of a missing privilege."""
    return SoapFault(
        "NoPermission",
        "Permission to perform this operation was denied.",
        object=target,
        privilegeId=privilege,
    )


def invalid_power_state(existing: str = "poweredOff", requested: str | None = "poweredOn") -> SoapFault:
    """Return the fault of an operation that the machine's power state does not allow."""
    shown = {"poweredOff": "Powered off", "poweredOn": "Powered on"}.get(existing, "Suspended")
    return SoapFault(
        "InvalidPowerState",
        f"The attempted operation cannot be performed in the current state ({shown}).",
        requestedState=None if requested is None else Literal("VirtualMachinePowerState", requested),
        existingState=Literal("VirtualMachinePowerState", existing),
    )


def limit_reached(limit: int = 1) -> SoapFault:
    """Return the fault of a machine with as many consoles as it allows."""
    return SoapFault(
        "MksConnectionLimitReached",
        f"The virtual machine has reached its limit of {limit} console connections.",
        connectionLimit=limit,
    )


def host_not_connected() -> SoapFault:
    """Return the fault of a machine whose host vCenter cannot reach."""
    return SoapFault(
        "HostNotConnected", "Unable to communicate with the remote host, since it is disconnected."
    )


def not_found(target: Ref) -> SoapFault:
    """Return the fault of a call on an object that does not exist."""
    return SoapFault(
        "ManagedObjectNotFound",
        f"The object 'vim.{target.type}:{target.moid}' has already been deleted or has not been "
        "completely created",
        obj=target,
    )


def invalid_property(path: str) -> SoapFault:
    """Return the fault of a property that the type does not have."""
    return SoapFault("InvalidProperty", f"The property '{path}' does not exist.", name=path)


def invalid_argument(name: str) -> SoapFault:
    """Return the fault of an argument with an unusable value."""
    return SoapFault(
        "InvalidArgument", f"A specified parameter was not correct: {name}", invalidProperty=name
    )


def not_supported(message: str) -> SoapFault:
    """Return the fault of an operation that the object does not have."""
    return SoapFault("NotSupported", message)


def invalid_request(message: str) -> SoapFault:
    """Return the fault of a request that cannot be read."""
    return SoapFault("InvalidRequest", message)


def method_not_found(method: str, target: Ref) -> SoapFault:
    """Return the fault of a method that the simulated vCenter does not have."""
    return SoapFault(
        "MethodNotFound",
        f"The simulated vCenter has no method {method} of {target.type}.",
        receiver=target,
        method=method,
    )


def invalid_collector_version() -> SoapFault:
    """Return the fault of a wait for updates since a version that is not known."""
    return SoapFault("InvalidCollectorVersion", "The specified version is invalid.")


def request_canceled() -> SoapFault:
    """Return the fault of a wait that was cancelled."""
    return SoapFault("RequestCanceled", "The task was canceled by a user.")


def tools_unavailable() -> SoapFault:
    """Return the fault of a call that needs VMware Tools in the guest."""
    return SoapFault("ToolsUnavailable", "Cannot complete operation because VMware Tools is not running.")


def timed_out() -> SoapFault:
    """Return the fault of an operation that took too long."""
    return SoapFault("Timedout", "Operation timed out.")


NAMED: Final[Mapping[str, Callable[[], SoapFault]]] = {
    "InvalidLogin": invalid_login,
    "NotAuthenticated": not_authenticated,
    "NoPermission": no_permission,
    "InvalidPowerState": invalid_power_state,
    "MksConnectionLimitReached": limit_reached,
    "HostNotConnected": host_not_connected,
    "InvalidCollectorVersion": invalid_collector_version,
    "RequestCanceled": request_canceled,
    "ToolsUnavailable": tools_unavailable,
    "Timedout": timed_out,
}
"""The faults that can be asked for on demand."""
