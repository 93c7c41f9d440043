"""Coroutines that run with callbacks, and those of which most wait for nothing."""

import asyncio

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed

from esxiproxy.core.coroutines import Rest, begin
from esxiproxy.net.coroutines import run


class Outcome:
    """The calls of ``done`` and ``failed``."""

    def __init__(self, error=None):
        self.results, self.errors, self.error = [], [], error

    def done(self, result):
        self.results.append(result)
        if self.error is not None:
            raise self.error

    def failed(self, failure):
        self.errors.append(failure.value)

    def run(self, steps):
        return run(steps, self.done, self.failed)


async def waited(*many):
    return [await each for each in many]


def test_a_coroutine_that_waits_for_nothing_has_ended_at_once():
    outcome = Outcome()
    assert outcome.run(waited(succeed(1), succeed(2))) is None
    assert outcome.results == [[1, 2]] and not outcome.errors


def test_a_coroutine_continues_when_its_deferred_has_fired():
    outcome, first, second = Outcome(), Deferred(), Deferred()
    running = outcome.run(waited(first, succeed(2), second))
    first.callback(1)
    assert not outcome.results
    second.callback(3)
    assert outcome.results == [[1, 2, 3]] and not outcome.errors
    running.cancel()
    assert outcome.results == [[1, 2, 3]] and not outcome.errors


errors = pytest.mark.parametrize(
    "error", [KeyError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError]
)


@errors
@pytest.mark.parametrize("waits", [False, True])
def test_an_exception_is_passed_on_once(waits, error):
    outcome, waiting = Outcome(), Deferred()
    if not waits:
        waiting.errback(error("x"))
    outcome.run(waited(waiting))
    if waits:
        waiting.errback(error("x"))
    assert not outcome.results and [type(each) for each in outcome.errors] == [error]


@errors
def test_an_exception_raised_after_a_wait_is_passed_on(error):
    async def fail():
        await waiting
        raise error("x")

    outcome, waiting = Outcome(), Deferred()
    outcome.run(fail())
    waiting.callback(None)
    assert not outcome.results and [type(each) for each in outcome.errors] == [error]


@errors
@pytest.mark.parametrize("waits", [False, True])
def test_an_exception_of_the_callback_is_passed_on_too(waits, error):
    outcome, waiting = Outcome(error=error("x")), Deferred()
    if not waits:
        waiting.callback(1)
    outcome.run(waited(waiting))
    if waits:
        waiting.callback(1)
    assert outcome.results == [[1]] and outcome.errors == [outcome.error]


@errors
@pytest.mark.parametrize("caught", [False, True])
def test_the_rest_of_a_coroutine_gets_every_exception(error, caught):
    seen = []

    async def steps():
        try:
            await waiting
        except BaseException as raised:
            seen.append(type(raised))
            if not caught:
                raise
        return "caught"

    waiting, found = Deferred(), []
    rest = begin(steps())
    Deferred.fromCoroutine(rest.steps()).addBoth(found.append)
    waiting.errback(error("x"))
    assert seen == [error]
    ends = caught and error is not GeneratorExit  # which closes a coroutine that is awaited
    assert found == ["caught"] if ends else found[0].type is error


def test_a_cancelled_coroutine_fails_with_its_cancellation():
    outcome, cancelled = Outcome(), []
    outcome.run(waited(Deferred(cancelled.append))).cancel()
    assert len(cancelled) == 1 and [type(error) for error in outcome.errors] == [CancelledError]


def test_a_coroutine_may_go_on_after_its_cancellation():
    more = Deferred()

    async def stubborn():
        try:
            await Deferred()
        except CancelledError:
            return await more

    outcome = Outcome()
    running = outcome.run(stubborn())
    running.cancel()
    assert not outcome.errors
    more.callback(4)
    assert outcome.results == [4]


def test_the_rest_of_a_coroutine_is_run_later():
    assert begin(waited(succeed(1))) == [1]
    waiting = Deferred()
    rest = begin(waited(waiting))
    assert isinstance(rest, Rest)
    found = []
    Deferred.fromCoroutine(rest.steps()).addCallback(found.append)
    waiting.callback(5)
    assert found == [[5]]
