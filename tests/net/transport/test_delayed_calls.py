"""Delayed calls in queues: the same as those of a clock, and bounded whatever is cancelled."""

import random

import pytest
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from esxiproxy.net.transport.delayed_calls import MAX_QUEUES, DelayedCalls, QueuedCall


class Scene:
    """A clock with queues, and the calls that were made, with their times."""

    def __init__(self):
        self.clock = Clock()
        self.call_later = DelayedCalls(self.clock).call_later
        self.made = []

    def note(self, what):
        self.made.append((self.clock.seconds(), what))


@pytest.fixture
def scene():
    return Scene()


def test_a_call_is_made_at_its_time(scene):
    call = scene.call_later(5, scene.note, "a")
    assert verifyObject(IDelayedCall, call) and isinstance(call, QueuedCall)
    assert call.active() and call.getTime() == 5
    scene.clock.advance(4.9)
    assert not scene.made
    scene.clock.advance(0.1)
    assert scene.made == [(5.0, "a")] and not call.active()
    for method in (call.cancel, lambda: call.reset(1), lambda: call.delay(1)):
        with pytest.raises(AlreadyCalled):
            method()
    assert not scene.clock.getDelayedCalls()


def test_a_cancelled_call_is_not_made(scene):
    first, second, third = (scene.call_later(5, scene.note, name) for name in "abc")
    first.cancel()
    third.cancel()
    for call in (first, third):
        with pytest.raises(AlreadyCancelled):
            call.cancel()
    scene.clock.advance(20)
    assert [what for _, what in scene.made] == ["b"] and not second.active()


def test_a_call_that_is_reset_or_delayed_is_made_once(scene):
    early, late = scene.call_later(5, scene.note, "early"), scene.call_later(5, scene.note, "late")
    again = scene.call_later(5, scene.note, "again")
    never = scene.call_later(5, scene.note, "never")
    early.reset(2)
    late.delay(3)
    again.reset(1)
    again.reset(9)
    never.reset(1)
    never.cancel()
    assert (early.getTime(), late.getTime(), again.getTime(), never.active()) == (2, 8, 9, False)
    scene.clock.pump([1] * 20)
    assert scene.made == [(2, "early"), (8, "late"), (9, "again")]


def test_an_exception_of_a_call_does_not_hold_up_the_others(scene):
    scene.call_later(1, lambda: 1 / 0)
    scene.call_later(1, scene.note, "next")
    with pytest.raises(ZeroDivisionError):
        scene.clock.advance(1)
    scene.clock.advance(0)
    assert scene.made == [(1, "next")]


def test_a_call_may_add_and_cancel_calls(scene):
    def first():
        second.cancel()
        scene.call_later(1, scene.note, "third")

    scene.call_later(1, first)
    second = scene.call_later(1, scene.note, "second")
    scene.clock.pump([1] * 5)
    assert scene.made == [(2, "third")]


def test_other_delays_are_left_to_the_clock(scene):
    for delay in (0, 0.1, 1.23456, 0.4):
        assert not isinstance(scene.call_later(delay, scene.note, delay), QueuedCall)
    assert not isinstance(scene.call_later(1, scene.note, what="keyword"), QueuedCall)
    found = [scene.call_later(delay, scene.note, delay) for delay in range(2, 100 + MAX_QUEUES)]
    assert sum(isinstance(call, QueuedCall) for call in found) <= MAX_QUEUES
    scene.clock.pump([1] * 200)
    assert sorted(str(what) for _, what in scene.made) == sorted(
        map(str, [0, 0.1, 1.23456, 0.4, "keyword", *range(2, 100 + MAX_QUEUES)])
    )


def test_a_clock_that_was_set_back_delays_no_new_call(scene):
    scene.clock.advance(1000)
    scene.call_later(5, scene.note, "before")
    scene.clock.rightNow = 10.0
    scene.call_later(5, scene.note, "after")
    scene.clock.advance(5)
    assert scene.made == [(15, "after")]


def test_cancelled_calls_fill_no_memory_and_wake_nobody(scene):
    oldest = scene.call_later(60, scene.note, "oldest")
    for _ in range(10_000):
        scene.call_later(60, scene.note, "x").cancel()
    running = [scene.call_later(60, scene.note, number) for number in range(5000)]
    for call in random.Random(1).sample(running, 4990):
        call.cancel()
    assert len(oldest._queue.calls) < 200
    assert len(scene.clock.getDelayedCalls()) == 1
    scene.clock.advance(60)
    assert len(scene.made) == 11 and not scene.clock.getDelayedCalls()


def test_calls_are_those_of_a_clock_whatever_happens_to_them():
    chance = random.Random(7)
    scene, plain = Scene(), Scene()
    plain.call_later = plain.clock.callLater
    calls = []
    for step in range(3000):
        what = chance.random()
        if what < 0.5:
            delay = chance.choice([0.5, 1, 2, 5, 0.25])
            calls.append(tuple(each.call_later(delay, each.note, step) for each in (scene, plain)))
        elif calls and what < 0.8:
            queued, known = chance.choice(calls)
            assert queued.active() == bool(known.active())
            if known.active():
                action, by = (
                    chance.choice(["cancel", "cancel", "reset", "delay"]),
                    chance.choice([0.25, 1, 4]),
                )
                for each in (queued, known):
                    getattr(each, action)(*([] if action == "cancel" else [by]))
        else:
            for each in (scene, plain):
                each.clock.advance(0.25)
    for each in (scene, plain):
        each.clock.pump([0.25] * 100)
    assert sorted(scene.made, key=str) == sorted(plain.made, key=str) and len(scene.made) > 500
