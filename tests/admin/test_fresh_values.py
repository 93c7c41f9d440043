"""Values that are computed for all who wait, one at a time, and never before the call."""

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from esxiproxy.admin.fresh_values import LONGEST_REST, MAX_AGE, MAX_WAITING, REST, FreshValues, TooManyWait
from tests.support.outcome import result


class Computed:
    """Values whose computations the test ends."""

    def __init__(self):
        self.clock = Clock()
        self.begun = []
        self.values = FreshValues(self._compute, self.clock)

    def _compute(self, key):
        self.begun.append((key, Deferred()))
        return self.begun[-1][1]

    def get(self, key="text"):
        return Deferred.fromCoroutine(self.values.get(key))

    def end(self, seconds, value):
        """End the computation that has run for this time, and the pause after it."""
        self.clock.advance(seconds)
        self.begun[-1][1].callback(value)
        self.clock.advance(min(LONGEST_REST, REST * seconds))


@pytest.fixture
def computed():
    return Computed()


def test_a_value_is_no_older_than_its_call(computed):
    """A scrape that begins while another one is collected gets the numbers of later."""
    first = computed.get()
    late = [computed.get() for _ in range(50)]
    computed.end(0.1, "one")
    assert result(first) == "one" and not any(each.called for each in late)
    assert len(computed.begun) == 2
    computed.end(0.1, "two")
    assert [result(each) for each in late] == ["two"] * 50
    assert len(computed.begun) == 2, "nobody waits any more"


def test_one_value_at_a_time_is_computed_with_a_pause_after_it(computed):
    wanted = [computed.get(key) for key in ("text", "openmetrics", "text", "other", "openmetrics")]
    durations = (0.05, 0.2, 9.0, 0.1)
    for number, seconds in enumerate(durations, 1):
        assert len(computed.begun) == number
        computed.clock.advance(seconds)
        computed.begun[-1][1].callback(seconds)
        rest = min(LONGEST_REST, REST * seconds)
        computed.clock.advance(rest - 0.001)
        assert len(computed.begun) == number
        computed.clock.advance(0.0011)
    assert [key for key, _ in computed.begun] == ["text", "openmetrics", "text", "other"]
    assert [result(each) for each in wanted] == [0.05, 0.2, 9.0, 0.1, 0.2]
    assert computed.clock.getDelayedCalls() == []


def test_an_error_is_for_those_who_waited(computed):
    wanted = [computed.get("text"), computed.get("other")]
    computed.begun[0][1].errback(ValueError("broken"))
    computed.clock.advance(0)
    with pytest.raises(ValueError, match="broken"):
        result(wanted[0])
    computed.end(0, "fine")
    assert result(wanted[1]) == "fine"


def test_a_computation_that_fails_at_once_does_not_block_the_next_one():
    clock, answers = Clock(), [fail(ValueError("broken")), "fine"]

    async def compute(_key):
        answer = answers.pop(0)
        return await answer if isinstance(answer, Deferred) else answer

    values = FreshValues(compute, clock)
    with pytest.raises(ValueError, match="broken"):
        result(Deferred.fromCoroutine(values.get("a")))
    clock.advance(0)
    assert result(Deferred.fromCoroutine(values.get("a"))) == "fine"


def test_a_caller_that_leaves_disturbs_no_other_one(computed):
    leaving, staying = computed.get(), computed.get()
    computed.end(0, "first")
    gone = computed.get()
    gone.addErrback(lambda _: None).cancel()
    computed.end(0, "second")
    assert (result(leaving), result(staying)) == ("first", "second")


def test_only_so_many_callers_wait(computed):
    wanted = [computed.get(str(number % 3)) for number in range(MAX_WAITING)]
    with pytest.raises(TooManyWait):
        result(computed.get())
    for _ in range(4):
        computed.end(0, "value")
    assert [result(each) for each in wanted] == ["value"] * MAX_WAITING
    later = computed.get()
    computed.end(0, "later")
    assert result(later) == "later"


def test_a_client_that_asks_all_the_time_does_not_keep_out_the_others(computed):
    """A load balancer got 503 while a client asked more often than a value was computed."""
    flood = [computed.get() for _ in range(MAX_WAITING)]
    with pytest.raises(TooManyWait):
        result(computed.get())
    for number in range(20):
        computed.clock.advance(0.05)
        computed.begun[-1][1].callback(number)
        flood += [computed.get() for _ in range(MAX_WAITING)]
        assert result(computed.get()) == number
        computed.clock.advance(REST * 0.05)
    assert len(computed.begun) == 21
    with pytest.raises(TooManyWait):
        result(computed.get("another key"))
    computed.clock.advance(MAX_AGE)
    with pytest.raises(TooManyWait):
        result(computed.get())
    for each in flood:
        each.addErrback(lambda _: None)


def test_a_value_is_dropped_when_nobody_waits(computed):
    computed.get()
    computed.end(0.1, "old")
    refused = [computed.get() for _ in range(MAX_WAITING + 1)][-1]
    with pytest.raises(TooManyWait):
        result(refused)


def test_an_error_is_no_value_for_those_who_may_not_wait(computed):
    computed.get()
    computed.get("other")
    computed.begun[0][1].callback("fine")
    computed.clock.advance(0)
    again = computed.get()
    computed.begun[1][1].callback("other")
    computed.clock.advance(0)
    computed.begun[2][1].errback(ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        result(again)
    refused = [computed.get() for _ in range(MAX_WAITING + 1)][-1]
    with pytest.raises(TooManyWait):
        result(refused)
