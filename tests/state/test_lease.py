"""The task that renews a lease continues after any exception of its call."""

import asyncio

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from esxiproxy.state.lease import PeriodicTask
from tests.support.logs import process_log


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, asyncio.CancelledError, CancelledError])
def test_a_call_that_raises_is_repeated_and_the_exception_is_logged(error):
    calls, clock = [], Clock()

    async def renew():
        calls.append(clock.seconds())
        if len(calls) == 1:
            raise error("from the test")

    task = PeriodicTask(renew, "renewing the lease", clock)
    task.start(5.0)
    with process_log() as log:
        clock.pump([5.0] * 3)
    assert calls == [5.0, 10.0, 15.0] and len(log) == 1
    assert "bug: renewing the lease failed and will be retried" in log[0]
    task.stop()
    clock.advance(5.0)
    assert len(calls) == 3 and not clock.getDelayedCalls()
