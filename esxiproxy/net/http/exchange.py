"""One plain HTTP request and its response, from the checked head to the record."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.core.coroutines import awaited
from esxiproxy.core.errors import (
    ClientLost,
    Draining,
    Internal,
    SessionError,
    StallTimeout,
    UpstreamLost,
    UpstreamTimeout,
)
from esxiproxy.core.http.answer_filter import AnswerFilter
from esxiproxy.core.http.fields import rewriter_for
from esxiproxy.core.http.forwarding import Forwarding
from esxiproxy.core.http.head_writer import request_head
from esxiproxy.core.http.message import may_be_repeated
from esxiproxy.core.http.portal import portal_request
from esxiproxy.core.http.refusal import refusal
from esxiproxy.core.routing import Upstream
from esxiproxy.core.session.session import Session
from esxiproxy.core.session_limits import MAX_EARLY
from esxiproxy.net.coroutines import Run, run
from esxiproxy.net.http.flow_control import HttpFlow, PauseReason
from esxiproxy.net.http.interfaces import Downstream
from esxiproxy.net.http.upstream import HttpUpstream
from esxiproxy.net.sessions import log_bug
from esxiproxy.net.sockets.timers import Timers


class Exchange:
    """Forwards one request to its upstream, and the response to the client.

    The ``exchange_over`` of the client is called once, unless its connection was lost or aborted.
    """

    _log = Logger()
    _upstream: HttpUpstream | None = None
    _admission: Run[HttpUpstream] | None = None
    _filter: AnswerFilter | None = None
    _filtering: Deferred[bytes] | None = None
    _sender: Upstream | None = None
    _turns: Timers | None = None
    _held = b""
    _over = _repeated = False

    def __init__(self, session: Session, client: Downstream) -> None:
        self.session = session
        self._client = client
        self._forwarding = Forwarding(
            session.request, session.limits.max_body, client.gateway.identity_fields
        )
        self._deadlines = client.deadlines
        self._deadlines.begin(self._forwarding, session, self.fail)

    def start(self, rest: bytes) -> None:
        """Admit the session and connect to its upstream; ``rest`` was received with the request head."""
        client = self._client
        client.sessions.add(self)
        self._held = rest
        if client.sessions.draining:
            return self.fail(Draining("the proxy is shutting down"))
        client.flow.observer = self
        client.flow.timeout = self.session.limits.stall_timeout
        self._connect()

    def _connect(self) -> None:
        self._admission = run(self._open_upstream(), self._forward_head, self._on_admission_failed)

    async def _open_upstream(self) -> HttpUpstream:
        session, client, gateway = self.session, self._client, self._client.gateway
        if gateway.portal is not None:
            to_portal = partial(HttpUpstream, gateway.portal, session.limits, client.clock, b"")
            return await gateway.connect_portal(session, to_portal)
        destination = (session.route or (await gateway.decide(session))[1]).destination
        header = gateway.proxy_header(session, destination.template)
        claim_names = gateway.claim_names(session, destination.template)
        may_reuse = session.route is None or (session.route.acquire is None and not session.has_marks)
        if may_reuse and (idle := client.take_idle(destination, header, claim_names)) is not None:
            gateway.admission.mark_dialled(session)
            return idle
        make = partial(HttpUpstream, destination, session.limits, client.clock, header)
        return await gateway.connect(session, destination, make)

    def _forward_head(self, upstream: HttpUpstream) -> None:
        """Send the request's head to the upstream, which has accepted, and the bytes that followed it."""
        if self._over:  # the client disconnected in the turn in which the upstream accepted
            upstream.abort()
            return
        session, client, gateway = self.session, self._client, self._client.gateway
        route, principal = session.route, session.principal
        assert route is not None
        session.mark("connected")
        self._upstream = upstream
        upstream.acquire(self)
        upstream.flow.observer = self
        request = session.request
        if gateway.portal is not None:
            gateway.admission.mark_dialled(session)
            asked = portal_request(request, principal)
            head, rewriter = request_head(request.head.method, asked.target, asked.fields), asked.rewriter
        else:
            target = request.head.target if route.target is None else route.target
            if gateway.answer_filters is not None:
                self._filter = gateway.answer_filters.choose(request, target, principal)
            write = upstream.requests.head if self._filter is None else upstream.requests.uncompressed_head
            head = write(request, target, principal)
            rewriter = partial(rewriter_for, request, upstream.upstream, route.prefix)
        more = principal.response_fields if principal is not None else ()
        self._sender = upstream.upstream
        self._forwarding.begin(rewriter, more, self._filter)
        upstream.transport.write(head)
        held, self._held = self._held, b""
        self._deadlines.request_forwarded()
        if client.flow.blocked:
            self.flow_changed(client.flow)
        if held or not self._forwarding.request_complete:
            self._forward_request(held)
        if client.flow.paused:
            client.flow.set_paused(PauseReason.HELD, False)

    def _on_admission_failed(self, failure: Failure) -> None:
        self._on_failed(failure, "forwarding a request")

    def _on_failed(self, failure: Failure, doing: str) -> None:
        if self._over and failure.check(CancelledError):
            return
        if isinstance(failure.value, SessionError):
            self.fail(failure.value)
        else:
            log_bug(self._log, f"unexpected exception while {doing}", failure, self.session.id)
            self.fail(Internal("an internal error, see the log of the proxy"))

    # Forwarding

    def request_received(self, octets: bytes) -> None:
        """Handle bytes from the client: the request's body, or the next request."""
        if self._over:
            return
        has_upstream = self._upstream is not None or self._filtering is not None
        if has_upstream:
            self._forward_request(octets)
        else:
            self._held += octets
        if len(self._held) + len(self._forwarding.trailing_data) > MAX_EARLY:
            self._client.flow.set_paused(PauseReason.HELD, True)
            self._deadlines.client_paused()
            if not has_upstream:
                self._deadlines.request_held()

    def _forward_request(self, octets: bytes) -> None:
        try:
            sent = self._forwarding.take_request(octets)
        except SessionError as error:
            self.fail(error, "client")
            return
        if self._upstream is not None:  # the rest of a request that has its answer is dropped
            if sent:
                self._upstream.transport.write(sent)
            body = self._forwarding.request_body
            if body is not None and not self._forwarding.expects_continue:
                self._client.flow.pass_on(body, self._upstream.flow)
        self._schedule_next_turn(
            "request", self._client.flow, self._forwarding.more_request, self._forward_request
        )
        self._deadlines.request_progressed()

    def answer_received(self, octets: bytes) -> None:
        """Handle bytes from the upstream."""
        upstream, forwarding = self._upstream, self._forwarding
        assert upstream is not None
        if self._client.is_last:
            forwarding.closing = True
        try:
            sent = forwarding.take_answer(octets)
        except SessionError as error:
            self.fail(error, "upstream")
            return
        except Exception:  # the fields of a plugin may be anything
            self._on_failed(Failure(), "forwarding an answer")
            return
        if not forwarding.request_complete:  # a 100 (Continue) makes the client send its body
            self._deadlines.request_progressed()
        self._forward_response(sent)
        if self._over:
            return
        if not forwarding.continues_head:
            self._deadlines.response_progressed()
        body = forwarding.response_body
        if body is None or self._upstream is None or forwarding.is_event_stream:
            pass
        elif upstream.flow.pass_on(body, self._client.flow):
            self._deadlines.response_passes_fast()
        self._schedule_next_turn(
            "answer",
            upstream.flow,
            self._upstream is not None and forwarding.more_answer,
            self.answer_received,
        )

    def _schedule_next_turn(
        self, body: str, flow: HttpFlow, more: bool, take: Callable[[bytes], None]
    ) -> None:
        """Forward the remaining chunks in the next turn of the reactor; pause the connection until then."""
        if more or flow.paused:
            flow.set_paused(PauseReason.NEXT_TURN, more)
        if more:
            if self._turns is None:  # most exchanges never need one
                self._turns = Timers(self._client.clock)
            self._turns.arm(body, 0, take, b"")

    def _forward_response(self, sent: bytes) -> None:
        forwarding, session = self._forwarding, self.session
        if not session.status and forwarding.started:
            session.answered(forwarding.status)
            if self._upstream is not None:
                self._client.gateway.answered(self._upstream, forwarding.status)
            if forwarding.is_event_stream and self._client.gateway.portal is not None:
                self._deadlines.never_expire()
                self._client.sessions.event_streams.add(self._end_event_stream)
        if sent:
            self._client.transport.write(sent)
        if forwarding.response_complete:
            if not self._over:
                self._finish()
        elif forwarding.is_event_stream and self._client.is_last:
            self._end_event_stream()
        elif self._filter is not None and self._filtering is None and not self._over:
            self._change_answer()

    def _change_answer(self) -> None:
        """Let the filter change the answer, once it is whole."""
        assert self._filter is not None and self._sender is not None
        if (body := self._forwarding.unfiltered_body) is None:
            return
        if self._upstream is not None:
            self._client.gateway.answered(self._upstream, self._forwarding.status)
        self._release_upstream()  # it is not read any more, and its end is none of the answer's
        self._filtering = Deferred.fromCoroutine(awaited(self._filter.change(body, self._sender)))
        self._filtering.addCallback(self._on_filtered).addErrback(self._on_failed, "changing an answer")

    def _on_filtered(self, body: bytes) -> None:
        if not self._over:
            self._forward_response(self._forwarding.filtered(body))

    def upstream_lost(self, clean: bool, tls_error: SessionError | None = None) -> None:
        """Handle the end of the upstream's connection; ``clean`` is whether it ended with a FIN.

        ``tls_error`` is the TLS failure that ended it, if any.  In TLS 1.3 a host refuses a missing client
        certificate after the request may have been sent.
        """
        upstream, self._upstream = self._upstream, None
        assert upstream is not None
        forwarding = self._forwarding
        repeatable = forwarding.request_complete and may_be_repeated(self.session.request.head)
        if upstream.reused and not forwarding.response_started and repeatable and not self._repeated:
            self._repeated = True  # the upstream has closed the idle connection
            self._connect()
            return
        if self._turns is not None:
            self._turns.disarm("answer")
        try:
            while forwarding.more_answer:  # at most the chunks of one read
                self._forward_response(forwarding.take_answer(b""))
            if not self._over and self._filtering is None:
                self._forward_response(forwarding.upstream_ended(clean))
        except SessionError as error:
            unanswered = isinstance(error, UpstreamLost) and not forwarding.response_started
            self.fail(tls_error if tls_error is not None and unanswered else error, "upstream")

    # Flow control

    def flow_changed(self, flow: HttpFlow) -> None:
        """Pause reading one connection while the transport of the other one is full."""
        if flow is not self._client.flow:
            self._client.flow.set_paused(PauseReason.PEER_BLOCKED, flow.blocked)
            self._deadlines.client_paused()
            return
        if self._upstream is not None:
            self._upstream.flow.set_paused(PauseReason.PEER_BLOCKED, flow.blocked)
        self._deadlines.response_progressed()

    def flow_stalled(self, flow: HttpFlow) -> None:
        """End the exchange: one side has acknowledged nothing for ``stall_timeout``."""
        is_client = flow is self._client.flow
        error, side = (StallTimeout, "client") if is_client else (UpstreamTimeout, "upstream")
        limit = self.session.limits.stall_timeout
        stalled = error(
            f"the {side} acknowledged nothing for {limit:g} s (write buffer full)", timeout="stall_timeout"
        )
        self.fail(stalled, cut=is_client)

    # Ending

    def _release_upstream(self) -> None:
        """Keep the upstream's connection, whose answer is complete, for another exchange, or abort it."""
        upstream, self._upstream = self._upstream, None
        if self._turns is not None:
            self._turns.disarm("answer")
        if upstream is None or upstream.lost:
            return
        client = self._client
        if client.flow.paused:
            client.flow.set_paused(PauseReason.PEER_BLOCKED, False)
        # A request to the portal is never sent again.
        if client.gateway.portal is None and self._forwarding.keeps_upstream:
            upstream.release()
            client.keep_idle(upstream)
        else:
            upstream.flow.unobserve()
            upstream.abort()

    def _finish(self) -> None:
        forwarding = self._forwarding
        self._release_upstream()
        self._close_session()
        self._client.exchange_over(forwarding.trailing_data, forwarding.keeps_client)

    def fail(self, error: SessionError, ended_by: str = "", cut: bool = False) -> None:
        """End the exchange with ``error``: refuse the request, or cut the response off if it has begun.

        A client must not take a part of a body for the whole.  If the response's framing shows that it is
        incomplete, the client gets the bytes that were received, and the connection is closed.  Otherwise,
        or with ``cut``, the connection is reset.
        """
        if self._over:
            return
        client, forwarding = self._client, self._forwarding
        self.session.failed(error, ended_by)
        started = forwarding.started
        if not started:
            self.session.status = error.status_code
        elif not self.session.status:  # the head and the fault were in one read
            self.session.answered(forwarding.status)
        self._close_session()
        if started and (cut or not forwarding.delimited):
            client.transport.abortConnection()
            return
        client.transport.write(forwarding.left() if started else refusal(error, self.session.request))
        client.exchange_over(b"", False)

    def client_lost(self) -> None:
        """Handle the end of the client's connection."""
        if self._over:
            return
        if not self._forwarding.started:
            self.session.status = ClientLost.status
        self.session.failed(ClientLost("the client disconnected before the response was complete"), "client")
        self._close_session()

    def _end_event_stream(self) -> None:
        """End an event stream, since another process serves new requests; its page opens it again."""
        self.fail(Draining("the event stream ends, since another process serves new requests"))

    def _close_session(self) -> None:
        self._over = True
        client, session, forwarding = self._client, self.session, self._forwarding
        if forwarding.is_event_stream:
            client.sessions.event_streams.discard(self._end_event_stream)
        self._deadlines.end()
        if self._turns is not None:
            self._turns.clear()
        client.flow.unobserve()
        for waiting in (self._admission, self._filtering):
            if waiting is not None:
                waiting.cancel()
        if self._upstream is not None:
            self._upstream.abort()
        session.octets_up, session.octets_down = forwarding.octets_up, forwarding.octets_down
        client.sessions.closed(session)

    def end(self, error: SessionError) -> None:
        """End the exchange for an operator or a drain."""
        self.fail(error, cut=True)

    def abort(self) -> None:
        """Abort the client's connection."""
        self._client.transport.abortConnection()
