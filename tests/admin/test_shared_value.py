"""A value that is computed once for all simultaneous callers."""

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from esxiproxy.admin.shared_value import SharedValue
from tests.support.outcome import result


class Computed:
    """A value whose computations the test ends."""

    def __init__(self):
        self.clock = Clock()
        self.running = []
        self.value = SharedValue(self._compute, 1.0, self.clock)

    def _compute(self):
        deferred = Deferred()
        self.running.append(deferred)
        return deferred

    def get(self):
        return Deferred.fromCoroutine(self.value.get())


def test_all_waiting_callers_get_one_value():
    computed = Computed()
    wanted = [computed.get() for _ in range(3)]
    (running,) = computed.running
    running.callback("value")
    assert [result(each) for each in wanted] == ["value"] * 3
    computed.clock.advance(0.9)
    assert result(computed.get()) == "value" and len(computed.running) == 1
    computed.clock.advance(0.2)
    computed.get()
    assert len(computed.running) == 2


def test_an_error_is_for_those_who_waited_and_the_next_one_tries_again():
    computed = Computed()
    wanted = [computed.get() for _ in range(2)]
    computed.running[0].errback(ValueError("broken"))
    for each in wanted:
        with pytest.raises(ValueError, match="broken"):
            result(each)
    again = computed.get()
    computed.running[1].callback("value")
    assert result(again) == "value"


def test_a_client_that_leaves_does_not_disturb_the_others():
    computed = Computed()
    one, other = computed.get(), computed.get()
    one.cancel()
    computed.running[0].callback("value")
    with pytest.raises(CancelledError):
        result(one)
    assert result(other) == "value"


def test_a_served_caller_may_cancel_the_next_one():
    computed = Computed()
    one, other = computed.get(), computed.get()
    one.addCallback(lambda _: other.cancel())
    computed.running[0].callback("value")
    with pytest.raises(CancelledError):
        result(other)


def test_a_slow_computation_rests():
    computed = Computed()
    computed.get()
    computed.clock.advance(2)
    computed.running[0].callback("value")
    computed.clock.advance(17)
    assert result(computed.get()) == "value"
    computed.clock.advance(2)
    computed.get()
    assert len(computed.running) == 2


def test_a_value_that_is_forgotten_while_it_is_computed_is_computed_again():
    """A link that was revoked during a look at the list was shown as valid in the next one."""
    computed = Computed()
    before = computed.get()
    computed.value.forget()
    after, gone = computed.get(), computed.get()
    gone.addErrback(lambda _: None).cancel()
    computed.running[0].callback("old")
    assert result(before) == "old" and not after.called
    computed.running[1].callback("new")
    assert result(after) == "new" == result(computed.get())
    assert len(computed.running) == 2


@pytest.mark.parametrize("outcome", ["old", ValueError("broken")])
def test_a_value_that_was_forgotten_is_not_kept_without_a_caller(outcome):
    computed = Computed()
    before = computed.get().addErrback(lambda _: None)
    computed.value.forget()
    computed.value.forget()
    finish = computed.running[0].errback if isinstance(outcome, ValueError) else computed.running[0].callback
    finish(outcome)
    assert before.called and len(computed.running) == 1
    after = computed.get()
    computed.running[1].callback("new")
    assert result(after) == "new"


def test_an_error_of_a_forgotten_computation_is_not_for_those_who_came_later():
    computed = Computed()
    before = computed.get()
    computed.value.forget()
    after = computed.get()
    computed.running[0].errback(ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        result(before)
    computed.running[1].callback("new")
    assert result(after) == "new"
