"""The deadlines of one HTTP exchange."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from esxiproxy.core.errors import MalformedRequest, SessionError, UpstreamTimeout
from esxiproxy.core.http.forwarding import Forwarding
from esxiproxy.core.session.session import Session
from esxiproxy.net.http.flow_control import HttpFlow
from esxiproxy.net.sockets.timers import Timers

RATE_WINDOW = 10.0
"""The seconds over which ``min_body_rate`` is measured."""


class HttpDeadlines:
    """The deadlines of the side that has to send next; ``fail`` is called when one has expired.

    ``min_body_rate``
        The client sends the request's body.  Its rate is measured over ``RATE_WINDOW`` seconds.  A
        window in which its connection was paused does not count.
    ``response_timeout``
        The request is complete, or the client waits for a 100 (Continue).  The upstream may send nothing for
        this time.  The time in which the upstream is not read does not count.  It is off for event streams of
        the portal.
    ``stall_timeout``
        The client is not read, since its body exceeds the buffer and there is no upstream yet.

    The timers check periodically, so that no timer is armed again for every chunk.
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
        self._response_progressed_at = 0.0
        self._was_paused = False
        self._octets_before = 0
        self._waits_for_answer = True

    def clear(self) -> None:
        """Cancel all deadlines, at the end of the exchange."""
        self._timers.clear()

    def request_forwarded(self) -> None:
        """Note that the request's head was written to the upstream."""
        self._timers.disarm("held")
        self.request_progressed()

    def request_progressed(self) -> None:
        """Note that bytes were received from the client, or may be from now on."""
        forwarding = self._forwarding
        if forwarding.request_complete:
            self._timers.disarm("rate")
        elif not forwarding.expects_continue and "rate" not in self._timers:
            self._arm_rate()
        if forwarding.request_complete or forwarding.expects_continue:
            self._expect_answer()

    def response_progressed(self) -> None:
        """Note that bytes were received from the upstream, or that it is read again."""
        self._response_progressed_at = self._clock.seconds()

    def client_paused(self) -> None:
        """Note that the client is not read, so that its rate is not judged in this window."""
        self._was_paused = True

    def request_held(self) -> None:
        """Note that the client is not read since there is no upstream yet."""
        if "held" not in self._timers:
            limit = self._session.limits.stall_timeout
            waited = (
                f"no connection to an upstream within {limit:g} s, and the request's body fills the buffer"
            )
            error = UpstreamTimeout(waited, timeout="stall_timeout")
            self._timers.arm("held", limit, self._fail, error)

    def never_expire(self) -> None:
        """Wait for any time for the next bytes of the upstream, which is an event stream."""
        self._waits_for_answer = False
        self._timers.disarm("answer")

    # The client's deadline

    def _arm_rate(self) -> None:
        if self._session.limits.min_body_rate is not None:
            self._was_paused = self._flow.paused
            self._octets_before = self._forwarding.octets_up
            self._timers.arm("rate", RATE_WINDOW, self._check_rate)

    def _check_rate(self) -> None:
        rate = self._session.limits.min_body_rate
        came = self._forwarding.octets_up - self._octets_before
        if rate is not None and not self._was_paused and came < rate * RATE_WINDOW:
            slow = f"the request's body was slower than min_body_rate ({rate} bytes per second)"
            self._fail(MalformedRequest(slow, status=408))
        else:
            self._timers.disarm("rate")
            self._arm_rate()

    # The upstream's deadline

    def _expect_answer(self) -> None:
        self.response_progressed()
        if "answer" not in self._timers and self._waits_for_answer:
            self._timers.arm("answer", self._session.limits.response_timeout, self._check_answer)

    def _check_answer(self) -> None:
        self._timers.disarm("answer")
        forwarding, limit = self._forwarding, self._session.limits.response_timeout
        if not forwarding.request_complete and not forwarding.expects_continue:
            return  # the client sends its body
        if self._flow.blocked:
            self.response_progressed()
        rest = self._response_progressed_at + limit - self._clock.seconds()
        if rest > 0:
            self._timers.arm("answer", rest, self._check_answer)
        else:
            silent = f"the upstream sent nothing for {limit:g} s"
            self._fail(UpstreamTimeout(silent, timeout="response_timeout"))
