"""Favourites that several pages of a user change and read at the same time, in a slow state."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from esxiproxy.core.routing import Principal
from esxiproxy.portal.favourites import Favourites
from esxiproxy.state.memory import Memory, MemoryState

ALICE = Principal("alice", authenticator="authenticator staff")
DAY = 1_800_000_000.0


class SlowState(MemoryState):
    """A state whose answers to reads arrive a second later."""

    def __init__(self, clock):
        super().__init__(clock, Memory(lambda: DAY + clock.seconds()))
        self.clock = clock

    def get(self, space, key):
        found = super().get(space, key)
        return deferLater(self.clock, 1.0).addCallback(lambda _: found)


def started(coroutine):
    outcome = []
    Deferred.fromCoroutine(coroutine).addBoth(outcome.append)
    return outcome


def test_favourites_that_are_set_at_the_same_time_are_all_kept():
    clock = Clock()
    state = SlowState(clock)
    pages = [Favourites(state, clock), Favourites(state, clock)]
    for number in range(6):
        started(pages[number % 2].set(ALICE, f"dc1/{number}", True))
    clock.pump([1.0] * 10)
    started(pages[0].set(ALICE, "dc1/0", False))
    started(pages[1].set(ALICE, "dc1/6", True))
    clock.pump([1.0] * 10)
    kept = started(Favourites(state, clock).of(ALICE))
    clock.advance(1.0)
    assert [sorted(each) for each in kept] == [[f"dc1/{number}" for number in range(1, 7)]]


def test_a_read_that_began_before_a_change_does_not_hide_it():
    clock = Clock()
    favourites = Favourites(SlowState(clock), clock)
    changing = started(favourites.set(ALICE, "dc1/1", True))
    clock.advance(0.5)
    reading = started(favourites.of(ALICE))
    clock.pump([0.5] * 2)
    assert changing == reading == [("dc1/1",)] == started(favourites.of(ALICE))
    for machine in ("dc1/1", "dc1/2"):
        clock.advance(61.0)
        reading = started(favourites.of(ALICE))
        started(favourites.set(ALICE, machine, machine == "dc1/2"))
        clock.advance(1.0)
        assert len(reading) == 1
    assert started(favourites.of(ALICE)) == [("dc1/2",)]
