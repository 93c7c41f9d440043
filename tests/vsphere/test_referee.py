"""Our calls are those that pyVmomi writes, element for element.  Skipped where pyVmomi is not installed."""

from xml.etree import ElementTree

import pytest

pytest.importorskip("pyVmomi")

from pyVmomi import SoapStubAdapter, vim, vmodl

from esxiproxy.vsphere import calls
from esxiproxy.vsphere.machine import MachineConnection
from esxiproxy.vsphere.soap import ObjectRef

COLLECTOR = vmodl.query.PropertyCollector
TYPES = {
    "VirtualMachine": vim.VirtualMachine,
    "HostSystem": vim.HostSystem,
    "Folder": vim.Folder,
    "Datacenter": vim.Datacenter,
    "VirtualApp": vim.VirtualApp,
}


def filter_spec():
    traversal = COLLECTOR.TraversalSpec(name="objects", type=vim.view.ContainerView, path="view", skip=False)
    return COLLECTOR.FilterSpec(
        propSet=[
            COLLECTOR.PropertySpec(type=TYPES[kind], all=False, pathSet=list(paths))
            for kind, paths in calls.PROPERTIES.items()
        ],
        objectSet=[COLLECTOR.ObjectSpec(obj=vim.view.ContainerView("v"), skip=True, selectSet=[traversal])],
    )


def cases():
    machine, wait = vim.VirtualMachine("vm-1"), COLLECTOR.WaitOptions(maxWaitSeconds=30, maxObjectUpdates=500)
    ours = ObjectRef("PropertyCollector", "pc")
    content = vim.ServiceInstance("ServiceInstance")
    manager = vim.SessionManager("SessionManager")
    views = vim.view.ViewManager("ViewManager")
    yield content, "RetrieveContent", [], calls.retrieve_service_content()
    session = ObjectRef("SessionManager", "SessionManager")
    yield manager, "Login", ["u<", "p&", None], calls.login(session, "u<", "p&")
    yield manager, "Logout", [], calls.logout(session)
    kinds = [vim.Folder("group-d1"), list(TYPES.values()), True]
    root = ObjectRef("Folder", "group-d1")
    view = calls.create_container_view(ObjectRef("ViewManager", "ViewManager"), root)
    yield views, "CreateContainerView", kinds, view
    yield COLLECTOR("pc"), "CreatePropertyCollector", [], calls.create_property_collector(ours)
    created = calls.create_filter(ours, ObjectRef("ContainerView", "v"))
    yield COLLECTOR("pc"), "CreateFilter", [filter_spec(), False], created
    yield COLLECTOR("pc"), "WaitForUpdatesEx", ["7", wait], calls.wait_for_updates(ours, "7", 30, 500)
    yield COLLECTOR("pc"), "CancelWaitForUpdates", [], calls.cancel_wait_for_updates(ours)
    yield machine, "AcquireTicket", ["webmks"], calls.acquire_ticket("vm-1")
    yield machine, "QueryConnections", [], calls.query_connections("vm-1")
    theirs = vim.VirtualMachine.MksConnection(label="a", client="b", userName="c")
    dropped = calls.drop_connections("vm-1", [MachineConnection("a", "b", "c")])
    yield machine, "DropConnections", [[theirs]], dropped
    yield machine, "PowerOn", [None], calls.power_on("vm-1")
    yield machine, "SetScreenResolution", [1280, 800], calls.set_screen_resolution("vm-1", 1280, 800)


def shape(envelope):
    """Return names, types and texts of the call in an envelope, without namespaces and versions."""

    def of(element):
        types = [
            value.rpartition(":")[2]
            for name, value in element.attrib.items()
            if name.rpartition("}")[2] == "type"
        ]
        return element.tag.rpartition("}")[2], types, element.text or "", [of(child) for child in element]

    (body,) = (each for each in ElementTree.fromstring(envelope) if each.tag.endswith("}Body"))
    return of(body[0])


@pytest.mark.parametrize(
    ("object", "method", "arguments", "ours"), list(cases()), ids=lambda value: str(value)[:30]
)
def test_a_call_is_the_one_that_pyvmomi_writes(object, method, arguments, ours):
    stub = SoapStubAdapter(host="localhost", version="vim.version.v8_0_2_0")
    written = stub.SerializeRequest(object, object._GetMethodInfo(method), arguments)
    assert shape(ours.envelope()) == shape(written)
