"""The queue in front of a limit."""

import asyncio

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.state.memory import Memory
from tests.net.admission_scene import Door


def test_a_queued_session_gets_a_released_slot():
    door = Door(max_sessions=1, queue_timeout=5.0)
    door.arrive("a")
    waiting = door.arrive("b")
    door.advance(3)
    assert waiting.waits and door.admission.waiting == 1
    door.end("a")
    assert waiting.outcome is None and door.admission.waiting == 0
    assert not door.admission.refusals
    door.advance(1)
    assert not door.clock.getDelayedCalls()


def test_a_queued_session_is_refused_after_queue_timeout():
    door = Door(max_sessions=1, queue_timeout=5.0)
    door.arrive("a")
    waiting = door.arrive("b")
    door.advance(4.9)
    assert waiting.waits
    door.advance(0.2)
    assert waiting.refused == "max_sessions: all 1 are in use"
    assert door.admission.waiting == 0 and door.admission.refusals == {"max_sessions": 1}
    assert not door.clock.getDelayedCalls()


def test_slots_are_given_in_the_order_of_arrival():
    door = Door(max_sessions=2, queue_timeout=5.0)
    door.arrive("a"), door.arrive("b")
    steps = [door.arrive(name) for name in "cdef"]
    door.end("b")
    assert [step.waits for step in steps] == [False, True, True, True]
    door.end("a"), door.end("c")
    door.advance(0.1)
    assert [step.waits for step in steps] == [False, False, False, True]


def test_the_queue_keeps_its_order():
    door = Door(max_sessions=1, queue_timeout=5.0)
    door.arrive("a")
    waiting = door.arrive("b")
    door.state.give("a")  # this process is not notified: another one had the slot
    late = door.arrive("c")
    assert late.waits
    door.advance(0.3)
    assert not waiting.waits and late.waits


def test_a_session_without_a_queue_timeout_does_not_overtake():
    door = Door(max_sessions=1, queue_timeout=5.0)
    door.arrive("a"), door.arrive("b")
    door.state.give("a")
    door.connection_limits = ConnectionLimits(max_sessions=1)
    assert door.arrive("c").refused


def test_a_client_that_leaves_the_queue_takes_no_slot_and_delays_no_other():
    door = Door(max_sessions=1, queue_timeout=5.0)
    door.arrive("a")
    first, second = door.arrive("b"), door.arrive("c")
    first.running.cancel()
    assert isinstance(first.outcome, CancelledError)
    door.end("b")
    assert door.admission.waiting == 1
    door.end("a")
    assert second.outcome is None


def test_a_queue_for_one_limit_delays_no_session_of_another():
    door = Door(max_sessions=10, max_sessions_per_console=1, queue_timeout=5.0)
    for name in "abc":
        door.arrive(name)
    door.decide("a", "vm-1")
    waiting = door.decide("b", "vm-1")
    assert door.decide("c", "vm-2").outcome is None
    assert door.arrive("d").outcome is None
    assert waiting.waits


def test_a_session_that_meets_a_second_limit_queues_there_and_lets_the_next_pass():
    door = Door(max_sessions=2, max_sessions_per_client=1, queue_timeout=5.0)
    door.arrive("a", host="192.0.2.1"), door.arrive("b", host="192.0.2.2")
    first, second = door.arrive("c", host="192.0.2.1"), door.arrive("d", host="192.0.2.3")
    door.end("b")
    door.advance(0.1)
    assert first.waits and second.outcome is None
    door.end("a")
    door.advance(0.1)
    assert first.outcome is None


def test_several_slots_that_come_back_together_are_all_used():
    memory, clock = Memory(), Clock()
    door, other = (Door(memory=memory, clock=clock, max_sessions=3, queue_timeout=5.0) for _ in range(2))
    for name in "abc":
        other.arrive(name)
    steps = [door.arrive(name) for name in "defg"]
    for name in "abc":
        other.end(name)
    door.advance(0.4)
    assert [step.waits for step in steps] == [False, False, False, True]


def test_a_long_queue_is_served_without_a_deep_stack():
    memory, clock = Memory(), Clock()
    door = Door(memory=memory, clock=clock, max_sessions=2000, queue_timeout=5.0)
    other = Door(memory=memory, clock=clock, max_sessions=2000)
    for number in range(2000):
        other.arrive(f"old{number}")
    steps = [door.arrive(f"new{number}") for number in range(2000)]
    for number in range(2000):
        other.end(f"old{number}")
    door.advance(0.3)
    for _ in range(2000):
        clock.advance(0)
    assert not any(step.waits for step in steps)


class Slow:
    """A state whose answers are given by the test."""

    holder = "slow"

    def __init__(self):
        self.answers = []
        self.given = []

    def take(self, slot, claims):
        self.answers.append(Deferred())
        return self.answers[-1]

    def give(self, slot, outcome=None):
        self.given.append(slot)
        done = Deferred()
        done.callback(None)
        return done


def test_a_session_that_ended_before_the_answer_keeps_nothing():
    door = Door(max_sessions=1)
    door.admission._state = door.state = Slow()
    step = door.arrive("a")
    door.end("a")
    assert door.state.given == []
    door.state.answers[0].callback(None)
    assert step.outcome is None and door.state.given == ["a"]


def test_a_slot_released_during_a_try_is_tried_again():
    door = Door(max_sessions=1, queue_timeout=5.0)
    door.admission._state = state = door.state = Slow()
    first = door.arrive("a")
    state.answers.pop().callback(None)
    assert first.outcome is None
    step = door.arrive("b")
    (claim,) = door.connection_limits.on_arrival(door.sessions["b"].request)
    state.answers.pop().callback(claim)
    door.advance(0.3)  # its turn: the attempt begins
    door.end("a")
    state.answers.pop().callback(claim)  # an outdated answer
    assert step.waits
    state.answers.pop().callback(None)
    assert step.outcome is None


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, asyncio.CancelledError])
@pytest.mark.parametrize("way", ["raises", "has failed", "fails"])
def test_a_session_ends_though_its_slot_cannot_be_released(error, way):
    door = Door(max_sessions=1)
    door.admission._state = state = door.state = Slow()
    giving = Deferred()
    step = door.arrive("a")
    state.answers.pop().callback(None)

    def give(slot, outcome=None):
        if way == "raises":
            raise error
        return giving

    state.give = give
    if way == "has failed":
        giving.errback(error())
    with capturedLogs() as events:
        door.end("a")
        if way == "fails":
            giving.errback(error())
    assert step.outcome is None
    assert ["release of slot" in event["log_format"] for event in events] == [True]
