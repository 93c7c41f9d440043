"""The deadlines of the HTTP exchanges on one client connection."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from esxiproxy.core.errors import MalformedRequest, SessionError, UpstreamTimeout
from esxiproxy.core.http.forwarding import Forwarding
from esxiproxy.core.session.session import Session
from esxiproxy.net.http.flow_control import HttpFlow
from esxiproxy.net.sockets.timers import Timers

RATE_WINDOW = 10.0
"""The seconds over which ``min_body_rate`` is measured."""
CHECKS_PER_TIMEOUT = 8
"""The checks in a ``response_timeout`` of whether the fast path, which calls nothing, has forwarded bytes."""


class HttpDeadlines:
    """The deadlines of the side that has to send next, of one exchange after the other.

    ``min_body_rate``
        The client sends the request's body.  Its rate is measured over ``RATE_WINDOW`` seconds.  A
        window in which its connection was paused does not count.
    ``response_timeout``
        The request is complete, or the client waits for a 100 (Continue).  The upstream may send nothing for
        this time.  The time in which the upstream is not read does not count.  It is off for event streams of
        the portal.
    ``stall_timeout``
        The client is not read, since its body exceeds the buffer and there is no upstream yet.

    The timers check periodically, so that no timer is armed again for every chunk.  The one of
    ``response_timeout`` is not cancelled between two exchanges either.
    """

    def __init__(self, flow: HttpFlow, clock: IReactorTime) -> None:
        self._flow = flow
        self._clock = clock
        self._timers: Timers | None = None
        self._forwarding: Forwarding | None = None
        self._session: Session | None = None
        self._fail: Callable[[SessionError], None] | None = None
        self._answer_check: IDelayedCall | None = None
        self._answer_check_at = 0.0
        self._response_progressed_at = 0.0
        self._is_answer_due = False
        self._never_expires = False
        self._was_paused = False
        self._octets_before = 0

    def begin(self, forwarding: Forwarding, session: Session, fail: Callable[[SessionError], None]) -> None:
        """Begin an exchange; ``fail`` is called when one of its deadlines has expired."""
        self._forwarding, self._session, self._fail = forwarding, session, fail
        self._is_answer_due = self._never_expires = False

    def end(self) -> None:
        """End the exchange."""
        self._forwarding = self._session = self._fail = None
        self._is_answer_due = False
        if self._timers is not None:
            self._timers.clear()

    def stop(self) -> None:
        """Cancel all timers, at the end of the connection."""
        self.end()
        self._cancel_answer_check()

    def request_forwarded(self) -> None:
        """Note that the request's head was written to the upstream."""
        if self._timers is not None:
            self._timers.disarm("held")
        if self._forwarding is not None and self._forwarding.request_complete:
            self._expect_answer()
        else:
            self.request_progressed()

    def request_progressed(self) -> None:
        """Note that bytes were received from the client, or may be from now on."""
        forwarding = self._forwarding
        if forwarding is None:
            return
        if forwarding.request_complete:
            if self._timers is not None:
                self._timers.disarm("rate")
            self._expect_answer()
        elif forwarding.expects_continue:
            self._expect_answer()
        elif self._timers is None or "rate" not in self._timers:
            self._arm_rate()

    def response_progressed(self) -> None:
        """Note that bytes were received from the upstream, or that it is read again."""
        self._response_progressed_at = self._clock.seconds()

    def response_passes_fast(self) -> None:
        """Note that the fast path forwards the response, and begin to check whether bytes pass."""
        if self._session is not None and self._answer_check is not None and self._is_answer_due:
            step = self._session.limits.response_timeout / CHECKS_PER_TIMEOUT
            self._arm_answer_check(min(self._answer_check_at, self._clock.seconds() + step))

    def client_paused(self) -> None:
        """Note that the client is not read, so that its rate is not judged in this window."""
        self._was_paused = True

    def request_held(self) -> None:
        """Note that the client is not read since there is no upstream yet."""
        session, fail, timers = self._session, self._fail, self._client_timers()
        if session is None or fail is None or "held" in timers:
            return
        limit = session.limits.stall_timeout
        waited = f"no connection to an upstream within {limit:g} s, and the request's body fills the buffer"
        timers.arm("held", limit, fail, UpstreamTimeout(waited, timeout="stall_timeout"))

    def never_expire(self) -> None:
        """Wait for any time for the next bytes of the upstream, which is an event stream."""
        self._never_expires = True
        self._is_answer_due = False

    # The client's deadline

    def _arm_rate(self) -> None:
        forwarding, session = self._forwarding, self._session
        if forwarding is not None and session is not None and session.limits.min_body_rate is not None:
            self._was_paused = self._flow.paused
            self._octets_before = forwarding.octets_up
            self._client_timers().arm("rate", RATE_WINDOW, self._check_rate, session.limits.min_body_rate)

    def _check_rate(self, rate: int) -> None:
        forwarding, fail = self._forwarding, self._fail
        if forwarding is None or fail is None:
            return
        came = forwarding.octets_up - self._octets_before
        if not self._was_paused and came < rate * RATE_WINDOW:
            slow = f"the request's body was slower than min_body_rate ({rate} bytes per second)"
            fail(MalformedRequest(slow, status=408))
        else:
            self._client_timers().disarm("rate")
            self._arm_rate()

    def _client_timers(self) -> Timers:
        if self._timers is None:  # only requests with a body need them
            self._timers = Timers(self._clock)
        return self._timers

    # The upstream's deadline

    def _expect_answer(self) -> None:
        if self._session is None or self._never_expires:
            return
        self._response_progressed_at = now = self._clock.seconds()
        self._is_answer_due = True
        due = now + self._session.limits.response_timeout
        if self._answer_check is None or due < self._answer_check_at:
            self._arm_answer_check(due)

    def _arm_answer_check(self, due: float) -> None:
        if self._answer_check is not None:
            self._cancel_answer_check()
        self._answer_check_at = due
        self._answer_check = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._check_answer)

    def _cancel_answer_check(self) -> None:
        check, self._answer_check = self._answer_check, None
        if check is not None and check.active():
            check.cancel()

    def _check_answer(self) -> None:
        self._answer_check = None
        forwarding, session, fail = self._forwarding, self._session, self._fail
        if forwarding is None or session is None or fail is None or not self._is_answer_due:
            return
        if not forwarding.request_complete and not forwarding.expects_continue:
            self._is_answer_due = False  # the client sends its body
            return
        limit = session.limits.response_timeout
        body, now = forwarding.response_body, self._clock.seconds()
        if self._flow.blocked or (body is not None and body.heard):
            self.response_progressed()
        due = self._response_progressed_at + limit
        if due > now and body is not None:
            body.heard = False
            self._arm_answer_check(min(due, now + limit / CHECKS_PER_TIMEOUT))
        elif due > now:
            self._arm_answer_check(due)
        else:
            silent = f"the upstream sent nothing for {limit:g} s"
            fail(UpstreamTimeout(silent, timeout="response_timeout"))
