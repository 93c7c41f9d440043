"""The rows that users share: how often rules are applied, with many users and at the first reading."""

from dataclasses import replace

import pytest
from twisted.internet.task import Clock

from esxiproxy.core.routing import Principal
from esxiproxy.portal.favourites import Favourites
from esxiproxy.portal.machine_rows import MAX_VIEWS, Catalogue
from esxiproxy.portal.site import MAX_STREAMS
from esxiproxy.state.memory import Memory, MemoryState
from tests.support.outcome import result
from tests.support.portal_machines import (
    FakeInventory,
    FakeService,
    PowerState,
    machine,
    rights_by_tag,
    scope_by_tag,
    uuid,
)


class World:
    """A catalogue whose questions for rights are counted; with `share` off, each user has its own scope."""

    def __init__(self, *machines, share=True):
        self.inventory = FakeInventory(*machines)
        self.asked = 0
        scope = scope_by_tag if share else lambda listener, principal: principal.names
        service = FakeService({"dc1": self.inventory})
        self.catalogue = Catalogue(service, self._rights, scope)
        self.catalogue.start()

    def _rights(self, *question):
        self.asked += 1
        return rights_by_tag(*question)

    def view(self, number, favourites=(), groups=()):
        principal = Principal(f"u{number}", groups=frozenset(groups), authenticator="authenticator staff")
        return self.catalogue.view("people", principal, favourites)


def test_views_in_use_are_kept_however_many_there_are():
    world = World(*(machine(number) for number in range(3)), share=False)
    held = [world.view(number) for number in range(MAX_VIEWS + 6)]
    asked = world.asked
    for _ in range(3):
        assert [world.view(number) for number in range(MAX_VIEWS + 6)] == held
    assert world.asked == asked == 3 * len(held)


def test_unused_views_are_dropped():
    world = World(machine(1), share=False)
    for number in range(3 * MAX_VIEWS):
        world.view(number)
    assert len(world.catalogue._views) == len(world.catalogue._shared) == MAX_VIEWS


def test_users_with_the_same_rights_share_their_rows_and_have_their_own_favourites():
    world = World(*(machine(number) for number in range(4)), machine(9, tags=frozenset({"private"})))
    views = [world.view(number) for number in range(100)]
    assert world.asked == 5 and all(len(view.rows) == 4 for view in views)
    assert len(world.view(0, groups={"ops"}).rows) == 5 and len(views[0].rows) == 4
    mine = world.view(7, [f"dc1/{uuid(2)}", f"dc1/{uuid(9)}"])
    assert [row.is_favourite for row in mine.rows] == [True, False, False, False]
    assert mine.rows[0].machine.name == "web-0002" and mine.find(f"dc1/{uuid(2)}").is_favourite
    assert mine.find(f"dc1/{uuid(9)}") is None, "a favourite gives no right"
    assert not views[8].rows[2].is_favourite
    before, asked = [view.version for view in views], world.asked
    world.inventory.put(machine(2, power=PowerState.OFF))
    assert world.asked == asked + 2, "once for each set of rights"
    assert all(view.version != version for view, version in zip(views, before, strict=True))
    assert mine.rows[0].machine.power is PowerState.OFF and mine.rows[0].is_favourite


@pytest.mark.parametrize(
    ("change", "is_seen"),
    [
        ({"host": "esxi-2.example"}, False),
        ({"moid": "vm-77", "max_consoles": 3}, False),
        ({"connected": False}, True),
        ({"tags": frozenset({"linux"})}, True),
        ({"folder": "/Test"}, True),
        ({"name": "web-9"}, True),
        ({"tags": frozenset({"private"})}, True),
    ],
)
def test_pages_look_again_only_for_a_change_that_users_see(change, is_seen):
    world = World(*(machine(number) for number in range(3)))
    view = world.view(0, [f"dc1/{uuid(2)}"])
    assert len(view.rows) == 3
    before = view.version
    world.inventory.put(replace(machine(1), **change))
    assert (view.version != before) == is_seen
    found = view.find(f"dc1/{uuid(1)}")
    assert found is None or found.machine == replace(machine(1), **change), "calls get the machine as it is"


def test_the_first_reading_applies_no_rule_until_rows_are_asked_for():
    world = World()
    world.inventory.ready = False
    held = [world.view(number) for number in range(5)]
    for number in range(100):
        world.inventory.put(machine(number))
    assert world.asked == 0
    world.inventory.ready = True
    assert len(world.view(0).rows) == 100 and world.view(0) is not held[0]
    world.inventory.remove(machine(3))
    assert len(world.view(0).rows) == 99 and world.asked == 100


def test_favourites_of_all_users_with_an_event_stream_are_kept():
    state, reads = MemoryState(Clock(), Memory(lambda: 0.0)), []
    favourites, get = Favourites(state, Clock()), state.get
    state.get = lambda *question: (reads.append(question), get(*question))[1]
    for _ in range(2):
        for number in range(MAX_STREAMS):
            assert result(favourites.of(Principal(f"u{number}"))) == ()
    assert len(reads) == MAX_STREAMS
