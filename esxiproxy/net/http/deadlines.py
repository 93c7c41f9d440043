"""The deadlines of one HTTP exchange: who is due, and for how long nothing has come."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from esxiproxy.core.errors import MalformedRequest, SessionError, UpstreamTimeout
from esxiproxy.core.http.forwarding import Forwarding
from esxiproxy.core.session.session import Session
from esxiproxy.net.http.flow_control import HttpFlow
from esxiproxy.net.sockets.timers import Timers

RATE_WINDOW = 10.0
"""Seconds over which ``min_body_rate`` is measured."""


class HttpDeadlines:
    """At any time of an exchange one of the two sides is due.

    The client is while its body comes: it keeps to ``min_body_rate``, measured over ten seconds in which we
    read from it all the time.  The upstream is when the request is complete, or the client waits for a 100:
    it is silent for no longer than ``response_timeout``, the time not counted in which we do not read it.
    A client that is not read since too much is held has ``stall_timeout``.  Looks are taken now and then,
    so that nothing is armed again for every chunk.
    """

    def __init__(
        self,
        forwarding: Forwarding,
        session: Session,
        flow: HttpFlow,
        clock: IReactorTime,
        fail: Callable[[SessionError], None],
    ) -> None:
        self._forwarding = forwarding
        self._session = session
        self._flow = flow
        self._clock = clock
        self._fail = fail
        self._timers = Timers(clock)
        self._moved_at = 0.0
        self._paused = False
        self._octets = 0

    def clear(self) -> None:
        """The exchange is over."""
        self._timers.clear()

    def request_forwarded(self) -> None:
        """The request's head is with the upstream."""
        self._timers.disarm("held")
        self.request_moved()

    def request_moved(self) -> None:
        """Bytes came from the client, or may come from now on."""
        forwarding = self._forwarding
        if forwarding.request_complete:
            self._timers.disarm("rate")
        elif not forwarding.expects_continue and "rate" not in self._timers:
            self._arm_rate()
        if forwarding.request_complete or forwarding.expects_continue:
            self._expect_answer()

    def answer_moved(self) -> None:
        """Bytes came from the upstream, or it is read again."""
        self._moved_at = self._clock.seconds()

    def client_paused(self) -> None:
        """The client is not read now: what it sends in this while says nothing of its rate."""
        self._paused = True

    def request_held(self) -> None:
        """The client is not read, and there is no upstream yet."""
        if "held" not in self._timers:
            limit = self._session.limits.stall_timeout
            waited = f"no upstream for the request's body within {limit:g} s"
            error = UpstreamTimeout(waited, timeout="stall_timeout")
            self._timers.arm("held", limit, self._fail, error)

    # The client's part

    def _arm_rate(self) -> None:
        if self._session.limits.min_body_rate is not None:
            self._paused = self._flow.paused
            self._octets = self._forwarding.octets_up
            self._timers.arm("rate", RATE_WINDOW, self._check_rate)

    def _check_rate(self) -> None:
        rate = self._session.limits.min_body_rate
        came = self._forwarding.octets_up - self._octets
        if rate is not None and not self._paused and came < rate * RATE_WINDOW:
            slow = f"the body came with less than {rate} bytes a second"
            self._fail(MalformedRequest(slow, status=408))
        else:
            self._timers.disarm("rate")
            self._arm_rate()

    # The upstream's part

    def _expect_answer(self) -> None:
        self.answer_moved()
        if "answer" not in self._timers:
            self._timers.arm("answer", self._session.limits.response_timeout, self._check_answer)

    def _check_answer(self) -> None:
        self._timers.disarm("answer")
        forwarding, limit = self._forwarding, self._session.limits.response_timeout
        if not forwarding.request_complete and not forwarding.expects_continue:
            return  # the client sends its body, and is due
        if self._flow.blocked:
            self.answer_moved()
        rest = self._moved_at + limit - self._clock.seconds()
        if rest > 0:
            self._timers.arm("answer", rest, self._check_answer)
        else:
            silent = f"the upstream said nothing for {limit:g} s"
            self._fail(UpstreamTimeout(silent, timeout="response_timeout"))
