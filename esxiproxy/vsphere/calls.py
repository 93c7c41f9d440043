"""The calls of vSphere that the proxy uses."""

from __future__ import annotations

from collections.abc import Iterable

from esxiproxy.vsphere.machine import MachineConnection
from esxiproxy.vsphere.soap import ObjectRef, SoapCall, element, group, reference, soap_call

PROPERTIES = {
    "VirtualMachine": (
        "name",
        "parent",
        "parentVApp",
        "runtime.powerState",
        "runtime.host",
        "runtime.connectionState",
        "config.template",
        "config.instanceUuid",
        "config.maxMksConnections",
    ),
    "HostSystem": ("name",),
    "Folder": ("name", "parent"),
    "Datacenter": ("name", "parent"),
    "VirtualApp": ("name", "parent", "parentFolder"),
}
"""The properties that are watched, by the type of an object."""
CONNECTION_TYPE = "VirtualMachineMksConnection"


def retrieve_service_content() -> SoapCall:
    """Return the call for the objects of the server, which needs no login."""
    return soap_call("RetrieveServiceContent", ObjectRef("ServiceInstance", "ServiceInstance"))


def login(session_manager: ObjectRef, user: str, password: str) -> SoapCall:
    """Return the call that logs in."""
    return soap_call("Login", session_manager, element("userName", user), element("password", password))


def logout(session_manager: ObjectRef) -> SoapCall:
    """Return the call that ends the login."""
    return soap_call("Logout", session_manager)


def create_property_collector(collector: ObjectRef) -> SoapCall:
    """Return the call for a property collector of our own."""
    return soap_call("CreatePropertyCollector", collector)


def create_container_view(view_manager: ObjectRef, root: ObjectRef) -> SoapCall:
    """Return the call for a view of everything below the root that is watched."""
    types = (element("type", each) for each in PROPERTIES)
    return soap_call(
        "CreateContainerView",
        view_manager,
        reference("container", root),
        *types,
        element("recursive", True),
    )


def create_filter(collector: ObjectRef, view: ObjectRef) -> SoapCall:
    """Return the call that makes a collector watch the properties of the objects of a view."""
    sets = (
        group("propSet", element("type", kind), element("all", False), *_paths(paths))
        for kind, paths in PROPERTIES.items()
    )
    traversal = group(
        "selectSet",
        element("name", "objects"),
        element("type", "ContainerView"),
        element("path", "view"),
        element("skip", False),
        xsi_type="TraversalSpec",
    )
    objects = group("objectSet", reference("obj", view), element("skip", True), traversal)
    return soap_call(
        "CreateFilter", collector, group("spec", *sets, objects), element("partialUpdates", False)
    )


def destroy_property_collector(collector: ObjectRef) -> SoapCall:
    """Return the call that removes a collector of our own with its filters."""
    return soap_call("DestroyPropertyCollector", collector)


def destroy_view(view: ObjectRef) -> SoapCall:
    """Return the call that removes a view."""
    return soap_call("DestroyView", view)


def wait_for_updates(collector: ObjectRef, version: str, seconds: int, objects: int) -> SoapCall:
    """Return the call that waits until something changes after a version, at most so many seconds."""
    options = group("options", element("maxWaitSeconds", seconds), element("maxObjectUpdates", objects))
    return soap_call("WaitForUpdatesEx", collector, element("version", version), options)


def cancel_wait_for_updates(collector: ObjectRef) -> SoapCall:
    """Return the call that ends a waiting call of a collector."""
    return soap_call("CancelWaitForUpdates", collector)


def acquire_ticket(moid: str) -> SoapCall:
    """Return the call for a ticket of a machine's console."""
    return soap_call("AcquireTicket", _machine(moid), element("ticketType", "webmks"))


def query_connections(moid: str) -> SoapCall:
    """Return the call for the open consoles of a machine."""
    return soap_call("QueryConnections", _machine(moid))


def drop_connections(moid: str, connections: Iterable[MachineConnection]) -> SoapCall:
    """Return the call that closes consoles of a machine."""
    dropped = (
        group(
            "listOfConnections",
            element("label", each.label),
            element("client", each.client),
            element("userName", each.user),
            xsi_type=CONNECTION_TYPE,
        )
        for each in connections
    )
    return soap_call("DropConnections", _machine(moid), *dropped)


def power_on(moid: str) -> SoapCall:
    """Return the call that begins to power a machine on."""
    return soap_call("PowerOnVM_Task", _machine(moid))


def set_screen_resolution(moid: str, width: int, height: int) -> SoapCall:
    """Return the call that sets the size of a guest's screen."""
    return soap_call(
        "SetScreenResolution", _machine(moid), element("width", width), element("height", height)
    )


def _machine(moid: str) -> ObjectRef:
    return ObjectRef("VirtualMachine", moid)


def _paths(paths: Iterable[str]) -> Iterable[str]:
    return (element("pathSet", path) for path in paths)
