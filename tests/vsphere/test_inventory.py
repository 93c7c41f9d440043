"""The machines of a vCenter: folders, hosts, changes, and the work for thousands of them."""

import pytest
from twisted.logger import formatEvent, globalLogPublisher

from esxiproxy.vsphere import machine_index
from esxiproxy.vsphere.answers import ObjectUpdate, UpdateKind
from esxiproxy.vsphere.inventory import Inventory
from esxiproxy.vsphere.machine import Machine, Power
from esxiproxy.vsphere.machine_index import MachineIndex
from esxiproxy.vsphere.soap import ObjectRef
from esxiproxy.vsphere.watched_objects import FolderPaths, WatchedObjects
from esxiproxy.vsphere.xml_tree import InvalidAnswer
from tests.support.growth import seconds
from tests.support.scripted_vcenter import envelope, fault, machine, update, uuid_of, world
from tests.vsphere.scene import Scene

THOUSANDS = 5000


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def watched(inventory):
    seen = []
    inventory.subscribe(lambda old, new: seen.append((old, new)))
    return seen


# --- machines


def test_a_machine_has_its_values(scene):
    assert scene.inventory.ready and scene.inventory.problem is None
    assert scene.machine() == Machine(
        vsphere="dc1",
        uuid=uuid_of(1),
        moid="vm-1",
        name="web-1",
        folder="/Prod/Web",
        power=Power.ON,
        host="esx1.example",
        tags=frozenset(),
        max_consoles=40,
        connected=True,
    )
    assert scene.machine().id == f"dc1/{uuid_of(1)}"


@pytest.mark.parametrize(
    ("changed", "values"),
    [
        ({"runtime__powerState": "suspended"}, {"power": Power.SUSPENDED}),
        ({"runtime__host": "host-2"}, {"host": "esx2.example"}),
        ({"runtime__host": None}, {"host": ""}),
        ({"runtime__connectionState": "inaccessible"}, {"connected": False}),
        ({"config__maxMksConnections": "1"}, {"max_consoles": 1}),
        ({"config__maxMksConnections": None}, {"max_consoles": None}),
        ({"config__maxMksConnections": "-1"}, {"max_consoles": None}),
        ({"name": "a%2fb%5cc%25d%41"}, {"name": "a/b\\c%d%41"}),
        ({"name": "<b>\u202egnp\u202c"}, {"name": "<b>\u202egnp\u202c"}),
        ({"parent": "group-v9"}, {"folder": "/Prod"}),
        ({"parent": "group-v3"}, {"folder": "/"}),
        ({"parent": None}, {"folder": "/"}),
        ({"parent": "group-v404"}, {"folder": "/"}),
    ],
)
def test_a_change_is_reported_with_the_machine_before_and_after_it(scene, changed, values):
    seen, before = watched(scene.inventory), scene.machine()
    scene.vcenter.change("vm-1", **changed)
    scene.turn()
    assert seen == [(before, scene.machine())]
    assert {name: getattr(scene.machine(), name) for name in values} == values


def test_a_template_and_a_machine_without_uuid_are_not_listed(scene):
    scene.vcenter.change("vm-1", config__template="true")
    scene.vcenter.change("vm-2", config=None)  # the whole configuration cannot be read
    scene.vcenter.change("vm-3", config__instanceUuid="no-uuid")
    scene.turn(1)
    assert scene.names() == []
    scene.vcenter.change("vm-2", config__instanceUuid=uuid_of(2).upper())
    scene.turn(1)
    assert scene.names() == ["web-2"]


def test_machines_come_and_go(scene):
    seen = watched(scene.inventory)
    scene.vcenter.enter("vm-9", machine(9))
    scene.turn(1)
    scene.vcenter.leave("vm-9")
    scene.turn(1)
    assert [(old and old.name, new and new.name) for old, new in seen] == [(None, "web-9"), ("web-9", None)]


def test_a_machine_that_is_registered_again_stays_the_same_machine(scene):
    seen = watched(scene.inventory)
    scene.vcenter.objects["VirtualMachine"]["vm-77"] = machine(1)
    scene.vcenter.publish(
        update("leave", "VirtualMachine", "vm-1", {}), update("enter", "VirtualMachine", "vm-77", machine(1))
    )
    scene.turn()
    ((old, new),) = seen
    assert (old.moid, new.moid, old.uuid) == ("vm-1", "vm-77", new.uuid)


def test_of_two_machines_with_one_uuid_the_first_is_listed_until_it_goes(scene):
    scene.vcenter.enter("vm-9", machine(1, name="copy"))
    scene.turn(1)
    assert scene.machine().name == "web-1"
    scene.vcenter.leave("vm-1")
    scene.turn(1)
    assert scene.machine().name == "copy"


def test_a_renamed_folder_and_a_renamed_host_change_their_machines(scene):
    scene.vcenter.change("group-v9", "Folder", name="Production")
    scene.vcenter.change("host-1", "HostSystem", name="new.example")
    scene.turn(1)
    assert {(each.folder, each.host) for each in scene.inventory.machines.values()} == {
        ("/Production/Web", "new.example")
    }


def test_a_subscriber_that_fails_or_leaves_does_not_affect_others(scene):
    def fails(old, new):
        raise SystemError("bug")

    leave = scene.inventory.subscribe(fails)
    seen = watched(scene.inventory)
    scene.vcenter.change("vm-1", name="x")
    scene.turn(1)
    leave()
    leave()
    scene.vcenter.change("vm-1", name="y")
    scene.turn(1)
    assert [new.name for _old, new in seen] == ["x", "y"]


# --- folders


def objects_of(**kinds):
    objects = WatchedObjects()
    for kind, found in kinds.items():
        for moid, properties in found.items():
            ref = ObjectRef(kind, moid)
            objects.apply([ObjectUpdate(UpdateKind.ENTER, ref, tuple(properties.items()))])
    return objects


def test_the_datacenter_is_the_first_part_if_there_are_several():
    kinds = world()
    kinds["Datacenter"]["datacenter-5"] = {"name": "Lab", "parent": "group-d1"}
    assert FolderPaths(objects_of(**kinds)).of(machine(1)) == "/DC/Prod/Web"


def test_datacenters_of_one_name_are_told_apart_by_the_folders_above():
    kinds = world()
    kinds["Datacenter"] = {
        "datacenter-2": {"name": "DC", "parent": "group-d7"},
        "datacenter-5": {"name": "DC", "parent": "group-d8"},
    }
    kinds["Folder"] |= {
        "group-d7": {"name": "EU", "parent": "group-d1"},
        "group-d8": {"name": "US", "parent": "group-d1"},
        "group-v50": {"name": "vm", "parent": "datacenter-5"},
        "group-v51": {"name": "Web", "parent": "group-v50"},
    }
    paths = FolderPaths(objects_of(**kinds))
    assert paths.of(machine(1)) == "/EU/DC/Prod/Web"
    assert paths.of({"parent": "group-v51"}) == "/US/DC/Web"


def test_a_folder_named_vm_is_hidden_below_a_datacenter_only():
    kinds = world()
    kinds["Folder"]["group-v10"]["name"] = "vm"
    assert FolderPaths(objects_of(**kinds)).of(machine(1)) == "/Prod/vm"


def test_a_vapp_is_a_folder_of_its_machines():
    kinds = world()
    kinds["VirtualApp"] = {
        "resgroup-v1": {"name": "Shop", "parent": "resgroup-1", "parentFolder": "group-v9"},
        "resgroup-v2": {"name": "DB", "parent": "resgroup-v1"},
    }
    paths = FolderPaths(objects_of(**kinds))
    assert paths.of({"parentVApp": "resgroup-v1"}) == "/Prod/Shop"
    assert paths.of({"parentVApp": "resgroup-v2"}) == "/Prod/Shop/DB"


def test_a_slash_in_the_name_of_a_folder_stays_escaped():
    kinds = world()
    kinds["Folder"]["group-v10"]["name"] = "a%2fb"
    assert FolderPaths(objects_of(**kinds)).of(machine(1)) == "/Prod/a%2fb"


def test_the_machines_of_a_standalone_host_lie_in_the_root():
    kinds = {
        "Datacenter": {"ha-datacenter": {"name": "ha-datacenter", "parent": "ha-folder-root"}},
        "Folder": {"ha-folder-vm": {"name": "vm", "parent": "ha-datacenter"}},
    }
    assert FolderPaths(objects_of(**kinds)).of({"parent": "ha-folder-vm"}) == "/"


def test_folders_in_a_circle_and_without_end_have_an_end():
    ring = {f"group-v{number}": {"name": "r", "parent": f"group-v{(number + 1) % 5}"} for number in range(5)}
    chain = {f"group-x{number}": {"name": "c", "parent": f"group-x{number + 1}"} for number in range(500)}
    paths = FolderPaths(objects_of(Folder=ring | chain))
    assert paths.of({"parent": "group-v0"}).startswith("/../r")
    # No folder that is too deep has the path of another one.
    found = [paths.of({"parent": f"group-x{number}"}) for number in range(500)]
    assert found[-64:] == [f"/{'/'.join('c' * (500 - number))}" for number in range(436, 500)]
    assert all(path.startswith("/..") and path.count("/") <= 64 for path in found[:-64])


# --- the watch


def test_a_version_that_the_collector_has_lost_begins_again(scene):
    scene.vcenter.leave("vm-3")
    scene.turn(1)
    scene.vcenter.objects["VirtualMachine"]["vm-1"]["name"] = "new"
    scene.vcenter.fail_wait(fault("InvalidCollectorVersion"))
    scene.turn(1)
    assert scene.names() == ["new", "web-2"]
    assert scene.vcenter.count("CreateFilter") == 1 and scene.vcenter.logins == 1


def test_a_collector_that_is_gone_is_made_again(scene):
    scene.vcenter.fail_wait(fault("ManagedObjectNotFound"))
    scene.turn(1)
    assert scene.vcenter.count("CreateFilter") == 2 and scene.vcenter.logins == 1
    assert scene.inventory.problem is None and scene.vcenter.waits


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("WaitForUpdatesEx", fault("ManagedObjectNotFound")),
        ("WaitForUpdatesEx", envelope("<no-updates/>")),
        ("CreatePropertyCollector", fault("SystemError")),
        ("CreateFilter", envelope("<odd/>")),
        ("DestroyView", fault("ManagedObjectNotFound")),
    ],
)
def test_no_collectors_and_views_pile_up_at_the_server(scene, method, answer):
    for _ in range(5):
        if method == "DestroyView":
            scene.vcenter.made.remove("view")  # it has gone by itself
        scene.vcenter.faults[method] = [answer]
        scene.vcenter.fail_wait(fault("ManagedObjectNotFound"))
        scene.turn(1)
        scene.turn(10)
        scene.turn(60)
        assert sorted(scene.vcenter.made) == ["collector", "view"]
    assert scene.vcenter.logins == 1 and scene.vcenter.waits and scene.inventory.problem is None


def test_after_a_new_login_the_collector_of_the_old_one_is_not_asked_for(scene):
    scene.vcenter.end_sessions()
    scene.turn(1)
    scene.turn(1)
    assert scene.vcenter.logins == 2 and scene.vcenter.count("DestroyView") == 0
    assert sorted(scene.vcenter.made) == ["collector", "view"]


def test_a_cancelled_request_is_sent_again(scene):
    scene.vcenter.fail_wait(fault("RequestCanceled"))
    scene.turn(1)
    scene.turn(1)
    assert scene.vcenter.count("CreateFilter") == 1 and scene.vcenter.waits


def test_a_server_that_always_answers_at_once_is_asked_once_a_second(tmp_path):
    scene = Scene(tmp_path)
    before = scene.vcenter.count("WaitForUpdatesEx")
    for _ in range(200):
        if scene.vcenter.waits:
            scene.vcenter.time_out()
        scene.clock.advance(0.05)
    assert scene.vcenter.count("WaitForUpdatesEx") - before <= 11


def test_too_many_objects_are_refused():
    objects = WatchedObjects()
    some = [
        ObjectUpdate(UpdateKind.ENTER, ObjectRef("VirtualMachine", f"vm-{number}"), ())
        for number in range(200_001)
    ]
    with pytest.raises(InvalidAnswer, match="more than 200000"):
        objects.apply(some)


# --- thousands


def test_the_work_for_thousands_of_machines_is_counted(tmp_path, monkeypatch):
    made = []

    def counted(*values, **named):
        made.append(named["moid"])
        return Machine(*values, **named)

    monkeypatch.setattr(machine_index, "Machine", counted)
    scene = Scene(tmp_path, world(THOUSANDS), start=False)
    seen = watched(scene.inventory)
    scene.service.start()
    scene.turn()
    assert len(scene.inventory.machines) == THOUSANDS == len(made) == len(seen)
    # 5,006 objects in pages of 500, and the request that waits.
    assert scene.vcenter.count("WaitForUpdatesEx") == 12
    made.clear(), seen.clear()
    scene.vcenter.change("vm-77", runtime__powerState="poweredOff")
    scene.turn(1)
    assert (made, len(seen)) == (["vm-77"], 1), "a power change makes one machine again"
    made.clear(), seen.clear()
    scene.vcenter.change("group-v10", "Folder", name="Web2")
    scene.turn(1)
    assert len(made) == len(seen) == THOUSANDS, "the name of a folder is looked up once for each machine"
    made.clear(), seen.clear()
    scene.vcenter.end_sessions()
    scene.turn(1)
    assert len(made) == THOUSANDS and seen == [], "after a new login only what has changed is reported"


def test_the_work_grows_as_the_number_of_machines():
    def show(count):
        index, objects = MachineIndex(Inventory("dc1")), objects_of(**world(count))
        return lambda: index.show(objects, None)

    few, many = show(500), show(4000)
    assert seconds(many) < 24 * max(seconds(few), 0.0005)


def test_names_of_a_hostile_server_stand_in_no_log(scene):
    found = []

    def observer(event):
        found.append(formatEvent(event))

    globalLogPublisher.addObserver(observer)
    try:
        scene.vcenter.enter("vm-9", machine(1, name="evil\u202e"))
        scene.turn(1)
    finally:
        globalLogPublisher.removeObserver(observer)
    (line,) = [line for line in found if "instance UUID" in line]
    assert (
        line.startswith("[vsphere dc1] 1 machines have the instance UUID of another one")
        and "evil" not in line
    )
