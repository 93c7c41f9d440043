"""The router `inventory`: which host a request gets, and what a change of the file does."""

import time
from ipaddress import ip_address

import pytest
from twisted.internet.defer import Deferred

from esxiproxy.app.preflight import load
from esxiproxy.core.config.errors import ConfigError
from esxiproxy.core.config.plugin_type import Names
from esxiproxy.core.errors import RouteNotFound
from esxiproxy.core.inventory import InventoryError
from esxiproxy.core.networks import Networks
from esxiproxy.core.routing import TCPAddress
from esxiproxy.routers.inventory import TYPE
from tests.routers.scene import ESX, FileScene
from tests.support.outcome import result

LIST = "name,address\nesx1,10.0.0.1\nesx2.lab,10.0.0.2:8443\n"


class Scene(FileScene):
    def __init__(self, folder, content=LIST, **keys):
        texts = {"file": "hosts.csv", "locate": "path:/h/{host}/", **keys}
        super().__init__(TYPE, folder / "hosts.csv", content, **texts)

    def address(self, target=b"/h/esx1/"):
        return self.route(target).destination.addresses[0].host


@pytest.fixture
def scene(tmp_path):
    found = Scene(tmp_path)
    result(found.router.ready())
    return found


def test_the_host_of_the_request_is_found(scene):
    route = scene.route(b"/h/esx2.lab/ticket/abc?x=1")
    assert route.destination.addresses == (TCPAddress("10.0.0.2", 8443),)
    assert (route.destination.name, route.upstream, route.target) == ("esx2.lab", ESX, b"/ticket/abc?x=1")


@pytest.mark.parametrize("name", [b"esx1", b"ESX1", b"Esx1.", b"e%73x1"])
def test_names_are_compared_in_lower_case_without_a_final_dot(scene, name):
    assert scene.address(b"/h/%b/" % name) == "10.0.0.1"


UNKNOWN = [b"esx3", b"esx1..", b"10.0.0.1", b"esx1@esx2", b"esx1:443", b"%e2%84%aa", b"127.0.0.1", b"esx1%20"]


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_host_that_is_not_there_is_not_found(scene, name):
    with pytest.raises(RouteNotFound) as caught:
        scene.route(b"/h/%b/" % name)
    assert str(caught.value) == "the inventory has no host of this name"


def test_a_request_that_names_no_host_is_not_for_this_router(scene):
    assert scene.route(b"/ui/") is None


def test_a_host_with_the_path_of_another_is_refused(scene):
    for target in (b"/h/esx1/../esx2.lab/", b"/h/esx1%2f..%2fesx2.lab/", b"/h/e%2573x1/"):
        with pytest.raises(RouteNotFound, match="ambiguous"):
            scene.route(target)


def test_a_look_up_makes_no_new_objects(tmp_path):
    scene = Scene(tmp_path, locate="host:{host}.consoles.example.com")
    found = [scene.route(b"/ui/", host=b"esx1.consoles.example.com") for _ in range(2)]
    assert found[0] is found[1] and found[0].target is None


PLACES = {
    "path:/h/{host}/": (False, frozenset(), b"/h/esx1"),
    "query:host": (False, frozenset(), b""),
    "host:{host}.lab": (False, frozenset(), b""),
    "cookie:esx": (True, {b"esx"}, b""),
}


@pytest.mark.parametrize(("locate", "expected"), PLACES.items())
def test_the_place_decides_on_origins_cookies_and_prefix(tmp_path, locate, expected):
    router = Scene(tmp_path, locate=locate).router
    assert (router.ambient, router.consumed_cookies, router._locate.prefix("esx1")) == expected
    assert router.secrets == () and not router.upgrades_only


@pytest.mark.parametrize(
    ("keys", "networks"),
    [
        ({}, Networks()),
        ({"deny": "10.0.0.0/8"}, "deny"),
        ({"allow": "127.0.0.0/8", "deny": "10.0.0.0/8"}, "both"),
    ],
)
def test_special_addresses_are_refused_unless_they_are_allowed(tmp_path, keys, networks):
    found = Scene(tmp_path, **keys).route(b"/h/esx1/").destination.networks
    permits = [found.permits(ip_address(text)) for text in ("127.0.0.1", "10.0.0.1", "192.0.2.1")]
    assert permits == {"deny": [False, False, True], "both": [True, False, False]}.get(
        networks, [False, True, True]
    )


def test_a_file_with_mistakes_refuses_the_start(tmp_path):
    scene = Scene(tmp_path, "name,address\na b,c\n")
    with pytest.raises(InventoryError, match=r"hosts\.csv:2: 'a b' is no name"):
        result(scene.router.ready())


def test_a_change_is_in_force_when_the_file_was_read(scene):
    assert scene.context.watched[0][0] == scene.file
    scene.context.is_paused = True
    scene.write(LIST.replace("10.0.0.1", "10.0.0.9"))
    assert scene.address() == "10.0.0.1"
    scene.context.resume()
    assert scene.address() == "10.0.0.9"


def test_a_version_with_mistakes_is_refused_as_a_whole(scene):
    scene.write("name,address\nesx1,10.0.0.9\na b,c\nd,127.1\n")
    assert scene.address() == "10.0.0.1"
    assert scene.context.lines == [
        f"{scene.file}:3: 'a b' is no name of a host: letters, digits, '-', '_' and single dots",
        f"{scene.file}:4: '127.1' is no IPv4 address",
        f"{scene.file} has mistakes and is not used, the hosts of before stay: correct 2 lines",
    ]
    scene.file.unlink()
    scene.context.change()
    assert scene.address() == "10.0.0.1" and scene.context.lines[3].endswith("hosts.csv:1: no such file")
    scene.write(LIST.replace("10.0.0.1", "10.0.0.9"))
    assert scene.address() == "10.0.0.9"


def test_changes_during_a_reading_lead_to_one_more(scene):
    scene.context.is_paused = True
    for number in range(5):
        scene.write(LIST.replace("10.0.0.1", f"10.0.0.{number}"))
    assert len(scene.context.calls) == 2
    scene.context.resume()
    assert len(scene.context.calls) == 3 and scene.address() == "10.0.0.4"


def test_an_unexpected_error_keeps_the_hosts_and_the_watch(scene):
    def fails(*_arguments):
        raise RuntimeError("no thread")

    read, scene.context.in_thread = scene.context.in_thread, fails
    scene.write(LIST.replace("10.0.0.1", "10.0.0.9"))
    assert scene.address() == "10.0.0.1" and "the hosts of before stay" in scene.context.lines[0]
    scene.context.in_thread = read
    scene.context.change()
    assert scene.address() == "10.0.0.9"


def test_a_change_before_the_first_reading_is_not_lost(tmp_path):
    scene = Scene(tmp_path)
    scene.context.is_paused = True
    outcome = []
    Deferred.fromCoroutine(scene.router.ready()).addCallback(outcome.append)
    scene.write(LIST.replace("10.0.0.1", "10.0.0.9"))
    scene.context.waiting.reverse()
    scene.context.resume()
    assert outcome == [None] and scene.address() == "10.0.0.9"


@pytest.mark.parametrize("on_removed", ["keep", "end"])
def test_consoles_of_removed_hosts_are_closed_if_that_is_set(tmp_path, on_removed):
    scene = Scene(tmp_path, LIST + "c,10.0.0.3\nd,10.0.0.4\n", on_removed=on_removed)
    result(scene.router.ready())
    scene.write("name,address\nesx1,10.0.0.9\nc,10.0.0.3\n")
    ended = [("host", name, "host removed") for name in ("esx1", "esx2.lab", "d")]
    assert scene.context.ended == (ended if on_removed == "end" else [])
    scene.write("name,address\na b,c\n")
    assert len(scene.context.ended) == (3 if on_removed == "end" else 0)


def test_a_failure_to_close_is_logged_and_the_next_ones_are_closed(tmp_path):
    scene = Scene(tmp_path, on_removed="end")
    result(scene.router.ready())
    closed = []

    async def fails(selector, _reason):
        closed.append(selector.value)
        raise RuntimeError("no state")

    scene.context.end_sessions = fails
    scene.write("name,address\nx,10.0.0.9\n")
    assert closed == ["esx1", "esx2.lab"]
    assert "cannot close the consoles of esx1" in scene.context.lines


def test_mistakes_are_those_of_the_section_too(tmp_path):
    scene = Scene(tmp_path, "name,address\na b,c\n,d\n")
    names = Names({"other": ESX})
    assert list(TYPE.conflicts(scene.settings, names)) == [
        ("template", "no [upstream esx]: there is other"),
        ("file", f"{scene.file}:2: 'a b' is no name of a host: letters, digits, '-', '_' and single dots"),
        ("file", f"{scene.file}:3: has no name"),
    ]
    scene.file.write_text(LIST)
    assert list(TYPE.conflicts(scene.settings, Names({"esx": ESX}))) == []


def test_a_look_up_does_not_grow_with_the_list(tmp_path):
    rows = "".join(f"e{i},10.{i // 65536}.{i // 256 % 256}.{i % 256}\n" for i in range(5000))
    scene = Scene(tmp_path, LIST + rows)
    result(scene.router.ready())
    before = time.process_time()
    for _ in range(1000):
        scene.route(b"/h/e4999/ticket/abc")
    assert time.process_time() - before < 0.5


def test_a_section_without_its_required_keys_is_a_problem_and_no_traceback(tmp_path):
    path = tmp_path / "proxy.ini"
    path.write_text(
        "[listener one]\nlisten = :80\nrouter = fleet\nhttp = forward\n[router fleet]\ntype = inventory\n"
        "[upstream u]\nurl = wss://192.0.2.1\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert {(each.key, each.text) for each in caught.value.problems} >= {("locate", "missing")}
