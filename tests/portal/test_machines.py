"""The machines of a user: search, pages, rights, favourites, actions, and links for other portals."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from esxiproxy.core.errors import SessionError, StateUnavailable, VSphereUnavailable
from esxiproxy.portal.api import MAX_CALLS_EACH
from esxiproxy.portal.favourites import MOST
from esxiproxy.portal.thumbnails import MAX_WAITING
from tests.portal.scene import DAY, Answer, Portal
from tests.support.portal_machines import HOSTILE, PNG, FakeInventory, PowerState, machine, person, uuid


@pytest.fixture
def portal():
    portal = Portal(
        machine(1, tags=frozenset({"console", "Linux"})),
        machine(2, "Db-01", folder="/Prod/Data", power=PowerState.OFF),
        machine(3, "secret", tags=frozenset({"private"})),
    )
    portal.login()
    return portal


def names(answer):
    return [each["name"] for each in answer.value["machines"]]


def one(number, *rest):
    return "/".join((f"/api/machines/dc1/{uuid(number)}", *rest))


def test_a_user_gets_the_machines_of_its_rights_and_no_host(portal):
    answer = portal.get("/api/machines")
    assert names(answer) == ["Db-01", "web-0001"]
    assert (answer.value["total"], answer.value["user"], answer.value["logout"]) == (2, "alice", True)
    assert b"esxi-secret" not in answer.body and b"vm-1" not in answer.body
    row = answer.value["machines"][1]
    assert row["id"] == f"dc1/{uuid(1)}" and row["rights"] == ["open"] and row["tags"] == ["Linux", "console"]
    assert portal.get(one(1)).value == {**row, "full": False, "dropped": False}
    portal.full.add(row["id"])
    upper = one(1).upper().replace("/API/MACHINES/DC1", "/api/machines/dc1")
    assert portal.get(upper).value == {**row, "full": True, "dropped": False}


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("web", ["web-0001"]),
        ("prod db", ["Db-01"]),
        ("LINUX", ["web-0001"]),
        ("power:off", ["Db-01"]),
        ("tag:console", ["web-0001"]),
        (uuid(2), ["Db-01"]),
        ("secret", []),
        ("esxi", []),
    ],
)
def test_a_search_looks_into_what_the_user_sees(portal, search, found):
    assert names(portal.get(f"/api/machines?search={search.replace(' ', '+')}")) == found


@pytest.mark.parametrize(
    "query",
    ["limit=201", "limit=x", "offset=-1", "sort=name", "search=a&search=b", "search=" + "a" * 201, "a" * 100],
)
def test_a_window_is_bounded(portal, query):
    assert portal.get(f"/api/machines?{query}").status == 400


@pytest.mark.parametrize(
    ("method", "rest", "body"),
    [
        ("GET", (), None),
        ("GET", ("connections",), None),
        ("GET", ("thumbnail",), None),
        ("POST", ("power",), {}),
        ("POST", ("drop",), {"labels": ["1"]}),
        ("POST", ("favourite",), {"favourite": True}),
        ("POST", ("resolution",), {"width": 800, "height": 600}),
    ],
)
def test_a_machine_without_a_right_is_like_one_that_does_not_exist(portal, method, rest, body):
    hidden = portal.ask(method, one(3, *rest), body=body)
    missing = portal.ask(method, one(9, *rest), body=body)
    assert (hidden.status, hidden.body) == (missing.status, missing.body) == (404, missing.body)
    assert portal.act("/api/consoles", {"vm": "secret"}).body == portal.act("/api/consoles", {"vm": "x"}).body
    assert portal.ask(method, one(1, *rest), body=body, principal=None).status == 401
    assert not portal.service.calls and not portal.minted


def test_a_right_is_needed_for_each_action(portal):
    assert portal.act(one(2, "power"), {}).status == 403
    assert portal.act(one(1, "drop"), {"labels": ["7"]}).status == 403
    portal.service.people = [person("7"), person("8", user=HOSTILE[1])]
    operator = {"principal": portal.operator()}
    assert portal.act(one(2, "power"), {}, **operator).status == 202
    assert portal.get(one(2), **operator).value["power"] == "on"
    people = portal.get(one(1, "connections"), **operator).value["connections"]
    assert people[0] == {"label": "7", "client": "192.0.2.9", "user": "staff/bob"}
    assert portal.act(one(1, "drop"), {"labels": ["7"]}, **operator).status == 202
    assert [call[0] for call in portal.service.calls] == ["power", "connections", "drop"]
    assert portal.act(one(1, "resolution"), {"width": 800, "height": 600}).status == 202


def test_pages_are_told_for_a_while_that_consoles_of_their_machine_were_ended(portal):
    operator = {"principal": portal.operator()}

    def dropped(number):
        return portal.get(one(number)).value["dropped"]

    assert portal.act(one(1, "drop"), {"labels": ["7"]}, **operator).status == 202
    assert dropped(1) and not dropped(2)
    portal.clock.advance(10)
    portal.act(one(2, "drop"), {"labels": ["7"]}, **operator)
    portal.clock.advance(6)
    assert not dropped(1) and dropped(2)
    portal.clock.advance(10)
    assert not dropped(2) and not portal.root._api._dropped


def test_consoles_that_could_not_be_ended_come_back(portal):
    """A page that lost its console by itself was told that a user had ended it."""
    operator = {"principal": portal.operator()}
    portal.service.fails = VSphereUnavailable("the vCenter dc1 cannot be reached")
    assert portal.act(one(1, "drop"), {"labels": ["7"]}, **operator).status == 503
    assert not portal.get(one(1)).value["dropped"]
    portal.service.fails = None
    assert portal.act(one(1, "drop"), {"labels": ["7"]}, **operator).status == 202
    portal.service.fails = VSphereUnavailable("the vCenter dc1 cannot be reached")
    portal.act(one(1, "drop"), {"labels": ["8"]}, **operator)
    assert portal.get(one(1)).value["dropped"], "others were ended before"


@pytest.mark.parametrize(
    ("right", "able"),
    [
        ("open", {"connections", "thumbnail", "resolution", "machine", "favourite"}),
        ("power", {"power", "machine", "favourite"}),
        ("disconnect", {"connections", "drop", "machine", "favourite"}),
    ],
)
def test_a_machine_that_is_listed_answers_by_the_one_right_of_its_user(portal, right, able):
    portal.catalogue._rights = lambda *_: [SimpleNamespace(value=right)]
    assert len(names(portal.get("/api/machines"))) == 3
    answers = {name: portal.get(one(1, name)) for name in ("connections", "thumbnail")}
    answers |= {
        name: portal.act(one(1, name), body)
        for name, body in {
            "power": {},
            "drop": {"labels": ["7"]},
            "resolution": {"width": 800, "height": 600},
            "favourite": {"favourite": True},
        }.items()
    }
    answers["machine"] = portal.get(one(1))
    assert {name for name, answer in answers.items() if answer.status in (200, 202)} == able
    assert {answer.status for name, answer in answers.items() if name not in able} == {403}
    sentence = "no access rule gives this user the right"
    assert all(sentence in answer.value["error"] for answer in answers.values() if answer.status == 403)
    assert portal.act("/api/consoles", {"vm": uuid(1)}).status == (201 if right == "open" else 404)


def test_two_vcenters_with_one_uuid_are_both_listed_and_asked_for_by_their_names():
    both = Portal(machine(1))
    both.service.inventories["DC2"] = FakeInventory(machine(1, vsphere="DC2"))
    both.login()
    found = both.get("/api/machines").value["machines"]
    assert sorted(each["id"] for each in found) == [f"DC2/{uuid(1)}", f"dc1/{uuid(1)}"]
    assert both.get(f"/api/find?vm={uuid(1)}").status == 409
    for name in ("dc1", "DC2"):
        wanted = f"{name}/{uuid(1).upper()}"
        assert both.get(f"/api/find?vm={wanted}").value["vsphere"] == name
        assert both.get(f"/api/machines/{wanted}").value["vsphere"] == name
        assert both.act("/api/consoles", {"vm": wanted}).value["vm"] == f"{name}/{uuid(1)}"


@pytest.mark.parametrize(
    ("rest", "body"),
    [
        ("drop", {}),
        ("drop", {"labels": []}),
        ("drop", {"labels": ["x"] * 65}),
        ("drop", {"labels": [1]}),
        ("favourite", {"favourite": 1}),
        ("resolution", {"width": True, "height": 600}),
        ("resolution", {"width": 10, "height": 600}),
        ("power", []),
    ],
)
def test_a_body_is_checked(portal, rest, body):
    assert portal.act(one(1, rest), body, principal=portal.operator()).status == 400
    assert not portal.service.calls


def test_an_action_of_another_site_is_refused(portal):
    for fields in ((("Sec-Fetch-Site", "cross-site"),), (("Origin", "https://evil.example"),)):
        assert portal.act(one(1, "favourite"), {"favourite": True}, *fields).status == 403
        assert portal.act("/api/consoles", {"vm": uuid(1)}, *fields).status == 403
    assert portal.ask("POST", one(1, "favourite"), body=b"{}", content_type="text/plain").status == 415
    assert portal.ask("PUT", one(1, "favourite"), body={}).status == 405
    assert portal.get(one(1, "favourite"))["Allow"] == "POST" and portal.get(one(1, "nothing")).status == 404


def test_favourites_come_first_and_stay(portal):
    assert portal.act(one(1, "favourite"), {"favourite": True}).value == {"favourite": True}
    assert names(portal.get("/api/machines")) == ["web-0001", "Db-01"]
    assert names(portal.get("/api/machines?favourites=1")) == ["web-0001"]
    again = Portal(machine(1), machine(2, "Db-01"))
    again.state, again.logins._state = portal.state, portal.state
    again.root._api._favourites._state = portal.state
    assert names(again.get("/api/machines?favourites=1", principal=portal.principal())) == ["web-0001"]
    portal.act(one(1, "favourite"), {"favourite": False})
    assert names(portal.get("/api/machines?favourites=1")) == []


def test_favourites_are_bounded():
    portal = Portal(*(machine(number) for number in range(MOST + 1)))
    portal.login()
    for number in range(MOST):
        assert portal.act(one(number, "favourite"), {"favourite": True}).status == 200
    assert portal.act(one(MOST, "favourite"), {"favourite": True}).status == 409


def test_a_failure_of_vcenter_has_its_status_and_sentence(portal):
    class PoweredOff(SessionError):
        """The machine is powered off."""

        status, retry_after = 503, 7

    portal.service.fails = PoweredOff("the vCenter dc1 cannot be reached")
    answer = portal.get(one(1, "connections"))
    assert answer.status == 503 and answer["Retry-After"] == "7"
    assert answer.value == {"error": "the vCenter dc1 cannot be reached"}


def test_the_state_may_be_unavailable(portal):
    who = portal.principal()

    async def get(space, key):
        raise StateUnavailable("no disk")

    portal.state.get = get
    answer = portal.get("/api/machines", principal=who)
    assert answer.status == 503 and "no disk" in answer.value["error"]


def test_a_link_for_another_portal_opens_a_console_once(portal):
    answer = portal.act("/api/consoles", {"vm": f"dc1/{uuid(1)}"})
    assert answer.status == 201
    assert answer.value == {
        "url": "https://c.example.com/c/once",
        "expires": DAY + 60,
        "vm": f"dc1/{uuid(1)}",
    }
    for name in (uuid(1).upper(), "web-0001"):
        assert portal.act("/api/consoles", {"vm": name}).status == 201
    assert [machine for machine, _ in portal.minted] == [f"dc1/{uuid(1)}"] * 3
    assert portal.minted[0][1].names == ("alice", "staff/alice")
    assert portal.get("/api/consoles")["Allow"] == "POST"
    for body in ({}, {"vm": 1}, {"vm": ""}, {"vm": "a", "x": 1}, []):
        assert portal.act("/api/consoles", body).status == 400
    portal.inventory.put(machine(5, "web-0001"))
    answer = portal.act("/api/consoles", {"vm": "web-0001"})
    assert answer.status == 409 and "2 machines" in answer.value["error"]
    without = Portal(machine(1), mint=False)
    assert without.act("/api/consoles", {"vm": uuid(1)}, principal=portal.principal()).status == 404


def test_a_machine_is_found_by_its_name_as_the_router_finds_it(portal):
    for text in (f"dc1/{uuid(1)}", uuid(1).upper(), "web-0001"):
        assert portal.get(f"/api/find?vm={text}").value["id"] == f"dc1/{uuid(1)}"
    assert portal.get("/api/find?vm=secret").body == portal.get("/api/find?vm=").body
    assert portal.get("/api/find").status == 404 and portal.act("/api/find", {}).status == 405


def test_a_machine_that_may_not_have_been_read_yet_is_asked_for_again(portal):
    portal.inventory.ready = False
    for answer in (
        portal.get(one(9)),
        portal.get(one(3)),
        portal.act(one(9, "power"), {}),
        portal.get("/api/find?vm=web-0009"),
        portal.act("/api/consoles", {"vm": f"dc1/{uuid(9)}"}),
    ):
        assert answer.status == 503 and answer["Retry-After"] == "3"
        assert "dc1 have not been read" in answer.value["error"]
    assert portal.get(one(1)).status == 200
    portal.inventory.ready, portal.service.inventories["dc2"] = True, FakeInventory()
    portal.service.inventories["dc2"].ready = False
    assert portal.get(one(9)).status == 404, "another vCenter has nothing to do with it"
    assert portal.get("/api/find?vm=web-0009").status == 503
    portal.catalogue._vspheres = lambda listener: {"dc1"}
    assert portal.get("/api/find?vm=web-0009").status == 404, "the listener does not lead to dc2"
    assert portal.get(f"/api/find?vm=dc2/{uuid(9)}").status == 404
    shown = portal.get("/api/machines").value
    assert shown["problems"] == [] and shown["vspheres"] == 1


def test_hostile_names_are_ascii_in_json(portal):
    for number, name in enumerate(HOSTILE):
        portal.inventory.put(machine(100 + number, name, tags=frozenset({name}), folder=f"/{name}"))
    answer = portal.get("/api/machines?search=5012a4ab-0000-0000-0000-00000000006")
    assert sorted(names(answer)) == sorted(HOSTILE) and answer.body.isascii()
    assert portal.act("/api/consoles", {"vm": HOSTILE[0]}).status == 201


def test_pictures_are_made_slowly_once_and_for_machines_that_run(portal):
    for number in range(10, 14):
        portal.inventory.put(machine(number))
    sent = [portal.send("GET", one(number, "thumbnail"))[0] for number in (10, 11, 12, 10)]
    assert [bool(each.value()) for each in sent] == [True, False, False, True]
    answer = Answer(sent[0].value())
    assert (
        answer.body == PNG and answer["Content-Type"] == "image/png" and "private" in answer["Cache-Control"]
    )
    portal.clock.advance(0.5)
    assert len(portal.service.calls) == 2, "two a second"
    portal.clock.advance(0.5)
    assert [call[1][-2:] for call in portal.service.calls] == ["0a", "0b", "0c"]
    assert portal.get(one(2, "thumbnail")).status == 204, "it is not powered on"
    portal.service.picture = b"<svg>"
    portal.clock.advance(1)
    assert portal.get(one(13, "thumbnail")).status == 502


def leave(sent):
    sent[1].connectionLost(Failure(ConnectionDone()))


def test_requests_of_one_user_for_vcenter_are_bounded_and_reads_end_with_their_client(portal):
    waiting, ended = [], []

    def hang(machine, *values):
        waiting.append(Deferred(ended.append))
        return waiting[-1]

    portal.service.connections = portal.service.power_on = hang
    sent = [portal.send("GET", one(1, "connections")) for _ in range(MAX_CALLS_EACH)]
    answer = portal.act(one(1, "power"), {}, principal=portal.principal())
    assert answer.status == 403, "a right comes first"
    refused = portal.get(one(1, "connections"))
    assert refused.status == 429 and refused["Retry-After"] == "2" and len(waiting) == MAX_CALLS_EACH
    other = replace(portal.operator(), name="bob")
    acting = portal.send("POST", one(1, "power"), body={}, principal=other)
    assert len(waiting) == MAX_CALLS_EACH + 1, "another user is not concerned"
    leave(sent[0]), leave(acting)
    assert ended == [waiting[0]], "an action goes on, a read ends"
    assert portal.send("GET", one(1, "connections")) and len(waiting) == MAX_CALLS_EACH + 2
    for each in waiting[1:]:
        each.callback([])
    assert Answer(sent[1][0].value()).value == {"connections": []}
    assert not portal.root._api._waiting


def test_a_picture_without_a_waiting_client_is_not_asked_for(portal):
    for number in range(10, 14):
        portal.inventory.put(machine(number))
    sent = [portal.send("GET", one(number, "thumbnail")) for number in (10, 11, 12, 12)]
    leave(sent[1]), leave(sent[2])
    portal.clock.pump([0.5] * 3)
    assert [call[1][-2:] for call in portal.service.calls] == ["0a", "0c"]
    assert Answer(sent[3][0].value()).body == PNG


def test_pictures_wait_in_a_bounded_queue(portal):
    for number in range(10, 12 + MAX_WAITING):
        portal.inventory.put(machine(number))
    sent = [portal.send("GET", one(number, "thumbnail"))[0] for number in range(10, 12 + MAX_WAITING)]
    assert Answer(sent[-1].value()).status == 503 and not sent[-2].value()


def test_five_thousand_machines_cost_little():
    portal = Portal(*(machine(number) for number in range(5000)))
    portal.login()
    answer = portal.get("/api/machines?search=web&limit=50")
    assert answer.value["matching"] == 5000 and len(answer.body) < 20_000
    asked = []
    view = next(iter(portal.catalogue._views.values())).shared
    rights, view._rights = view._rights, lambda machine: (asked.append(machine), rights(machine))[1]
    portal.inventory.put(machine(7, power=PowerState.OFF))
    assert len(portal.get("/api/machines?search=power:off").value["machines"]) == 1
    assert len(asked) == 1, "the rules are applied to the machine that has changed"
    assert json.dumps(answer.value)
