"""Sessions that take the mark of a link, and replace each other where it may be used again."""

from functools import partial

import pytest

from esxiproxy.core.errors import ClientLost, Killed, LinkUsed, Replaced
from esxiproxy.core.routing import Route
from esxiproxy.core.session.claim import OnceClaim
from esxiproxy.net.session_publisher import SessionPublisher
from esxiproxy.net.sessions import Sessions
from esxiproxy.state.memory import Memory
from tests.net.admission_scene import UPSTREAM, Door, take_decision_slots


class Live:
    """A session that ends so many seconds after its command."""

    def __init__(self, door, session, seconds):
        self.door, self.session, self.seconds = door, session, seconds
        self.ended = []

    def end(self, error):
        self.ended.append(error)
        self.session.failed(error)
        self.door.clock.callLater(self.seconds, self.close)

    def close(self):
        self.door.sessions_here.closed(self.session)


class Process(Door):
    """A process whose sessions are ended by commands."""

    def __init__(self, memory, clock=None):
        super().__init__(memory=memory, clock=clock)
        memory.time_of_day = self.clock.seconds
        self.admission._time_of_day = self.clock.seconds
        self.sessions_here = Sessions([self.admission], self.clock)
        execute = SessionPublisher(self.state, self.clock.seconds).execute
        self.state.start(partial(execute, sessions=self.sessions_here))

    def open(self, name, reuse=60.0, seconds=0.5):
        """Let a session take the mark; it needs so many seconds to end."""
        session = self.session(name)
        claims = (OnceClaim("links: 1", 3600.0, reuse, 11),)
        route = Route(Route.to(UPSTREAM).destination, claims=claims, link="link-1")
        session.routed(route)
        self._do(self.admission.take_arrival_slots(session, self.connection_limits))
        live = Live(self, session, seconds)
        self.sessions_here.add(live)
        live.step = self._do(take_decision_slots(self.admission, session, route, self.connection_limits))
        return live


@pytest.fixture(params=["one process", "two processes"])
def processes(request):
    memory = Memory()
    first = Process(memory)
    return first, first if request.param == "one process" else Process(memory, first.clock)


def test_a_second_opening_replaces_the_first(processes):
    """The command reaches the process of the second one later, and does not end it."""
    first, second = processes
    old = first.open("a")
    assert old.step.outcome is None
    new = second.open("b")
    assert new.step.waits
    first.advance(3)
    assert [type(error) for error in old.ended] == [Replaced]
    assert (new.step.outcome, new.ended) == (None, [])
    first.advance(10)
    assert new.ended == []


def test_a_session_that_ends_slowly_is_waited_for(processes):
    """The peer answers nothing, so the session ends after ``close_timeout``."""
    first, second = processes
    first.open("a", seconds=5.0)
    new = second.open("b")
    first.advance(7)
    assert new.step.outcome is None and new.ended == []


def test_of_several_openings_one_is_left(processes):
    first, second = processes
    openings = [first.open("a"), second.open("b"), first.open("c"), second.open("d")]
    first.advance(20)
    left = [each for each in openings if each.step.outcome is None and not each.ended]
    assert len(left) == 1 and left[0] is not openings[0]
    assert first.clock.calls, "the processes still look for commands"


def test_a_link_without_reuse_replaces_nothing(processes):
    first, second = processes
    old, new = first.open("a", reuse=0.0), second.open("b", reuse=0.0)
    assert isinstance(new.step.outcome, LinkUsed)
    first.advance(10)
    assert old.ended == []


def test_a_link_that_is_spent_is_refused_at_once(processes):
    """The time of the answer does not distinguish a used link from an unknown one."""
    first, second = processes
    old = first.open("a")
    old.session.marks_used = True
    old.end(Killed("maintenance"))
    first.advance(1)
    new = second.open("b")
    assert isinstance(new.step.outcome, LinkUsed)
    assert second.admission.refusals == {"once": 1}


def test_an_unused_mark_is_returned_before_the_client_is_refused(processes):
    first, second = processes
    old = first.open("a", reuse=0.0)
    returning = first._do(first.admission.return_marks(old.session))
    assert returning.outcome is None
    assert second.open("b", reuse=0.0).step.outcome is None
    old.close()
    assert isinstance(second.open("c", reuse=0.0).step.outcome, LinkUsed)


def test_a_used_mark_is_not_returned(processes):
    first, second = processes
    old = first.open("a", reuse=0.0)
    old.session.marks_used = True
    first._do(first.admission.return_marks(old.session))
    assert isinstance(second.open("b", reuse=0.0).step.outcome, LinkUsed)


def test_a_client_that_leaves_during_a_replacement_takes_no_slot(processes):
    first, second = processes
    first.open("a", seconds=3.0)
    new = second.open("b")
    first.advance(1)
    new.session.failed(ClientLost(""))
    new.step.running.cancel()
    new.close()
    first.advance(10)
    assert second.open("c").step.outcome is None
