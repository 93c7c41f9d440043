"""The faults of vSphere's SOAP interface that a simulated vCenter answers with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from esxiproxy.sim.vcenter.soap import Literal, Ref, Structure, Typed, Value, structure

CONSOLE_PRIVILEGE: Final = "VirtualMachine.Interact.ConsoleInteract"


class VimFault(Exception):
    """Raised by a call that fails; it becomes the answer."""

    def __init__(self, name: str, message: str, /, **fields: Value) -> None:
        super().__init__(f"{name}: {message}")
        self.fault: Structure = structure(name, **fields)
        self.message = message

    @property
    def localized(self) -> Structure:
        """The fault as a field of a data object."""
        return structure("LocalizedMethodFault", fault=Typed(self.fault), localizedMessage=self.message)


def invalid_login() -> VimFault:
    """Return the fault of a wrong user name or password, and of a locked account."""
    return VimFault("InvalidLogin", "Cannot complete login due to an incorrect user name or password.")


def not_authenticated(target: Ref | None = None) -> VimFault:
    """Return the fault of a call without a session, or with one that has ended."""
    return VimFault(
        "NotAuthenticated", "The session is not authenticated.", object=target, privilegeId="System.View"
    )


def no_permission(target: Ref | None = None, privilege: str = CONSOLE_PRIVILEGE) -> VimFault:
    """Return the fault of a missing privilege."""
    return VimFault(
        "NoPermission",
        "Permission to perform this operation was denied.",
        object=target,
        privilegeId=privilege,
    )


def invalid_power_state(existing: str = "poweredOff", requested: str | None = "poweredOn") -> VimFault:
    """Return the fault of an operation that the machine's power state does not allow."""
    shown = {"poweredOff": "Powered off", "poweredOn": "Powered on"}.get(existing, "Suspended")
    return VimFault(
        "InvalidPowerState",
        f"The attempted operation cannot be performed in the current state ({shown}).",
        requestedState=None if requested is None else Literal("VirtualMachinePowerState", requested),
        existingState=Literal("VirtualMachinePowerState", existing),
    )


def limit_reached(limit: int = 1) -> VimFault:
    """Return the fault of a machine with as many consoles as it allows."""
    return VimFault(
        "MksConnectionLimitReached",
        f"The virtual machine has reached its limit of {limit} console connections.",
        connectionLimit=limit,
    )


def host_not_connected() -> VimFault:
    """Return the fault of a machine whose host vCenter cannot reach."""
    return VimFault(
        "HostNotConnected", "Unable to communicate with the remote host, since it is disconnected."
    )


def not_found(target: Ref) -> VimFault:
    """Return the fault of a call on an object that does not exist."""
    return VimFault(
        "ManagedObjectNotFound",
        f"The object 'vim.{target.type}:{target.moid}' has already been deleted or has not been "
        "completely created",
        obj=target,
    )


def invalid_property(path: str) -> VimFault:
    """Return the fault of a property that the type does not have."""
    return VimFault("InvalidProperty", f"The property '{path}' does not exist.", name=path)


def invalid_argument(name: str) -> VimFault:
    """Return the fault of an argument with an unusable value."""
    return VimFault("InvalidArgument", f"A specified parameter was not correct: {name}", invalidProperty=name)


def not_supported(message: str) -> VimFault:
    """Return the fault of an operation that the object does not have."""
    return VimFault("NotSupported", message)


def invalid_request(message: str) -> VimFault:
    """Return the fault of a request that cannot be read."""
    return VimFault("InvalidRequest", message)


def method_not_found(method: str, target: Ref) -> VimFault:
    """Return the fault of a method that the simulated vCenter does not have."""
    return VimFault(
        "MethodNotFound",
        f"The simulated vCenter has no method {method} of {target.type}.",
        receiver=target,
        method=method,
    )


def invalid_collector_version() -> VimFault:
    """Return the fault of a wait for updates since a version that is not known."""
    return VimFault("InvalidCollectorVersion", "The specified version is invalid.")


def request_canceled() -> VimFault:
    """Return the fault of a wait that was cancelled."""
    return VimFault("RequestCanceled", "The task was canceled by a user.")


def tools_unavailable() -> VimFault:
    """Return the fault of a call that needs VMware Tools in the guest."""
    return VimFault("ToolsUnavailable", "Cannot complete operation because VMware Tools is not running.")


def timed_out() -> VimFault:
    """Return the fault of an operation that took too long."""
    return VimFault("Timedout", "Operation timed out.")


NAMED: Final[Mapping[str, Callable[[], VimFault]]] = {
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
