"""One HTTP exchange without I/O, which turns bytes of one side into bytes for the other side.

Each head is read once and written once.  :mod:`esxiproxy.core.http.head` has checked the request's, and
:mod:`esxiproxy.core.http.answer_head` reads the response's.  Bytes behind a request are returned, so that
every head of a connection is checked.
"""

from __future__ import annotations

from functools import partial

from esxiproxy.core.errors import BodyTooLarge, MalformedRequest, UpstreamInvalid, UpstreamLost
from esxiproxy.core.http.answer_filter import AnswerFilter, HeldAnswer, changed_fields
from esxiproxy.core.http.answer_head import AnswerHead, AnswerHeadReader, Framing, take_usual_head
from esxiproxy.core.http.body import Body, FixedBody
from esxiproxy.core.http.chunked_body import ChunkedBody
from esxiproxy.core.http.fields import one_connection
from esxiproxy.core.http.head import Fields, RequestHead, tokens
from esxiproxy.core.http.head_writer import answer_head
from esxiproxy.core.http.message import LazyRewriter, forwarded_answer, plain_answer, trailer_fields
from esxiproxy.core.http.request import Request
from esxiproxy.core.http.response_body import response_body

_CHUNKED, _CLOSE = b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"
_CONNECTION_LINES = {
    (chunked, closing): _CHUNKED * chunked + _CLOSE * closing
    for chunked in (False, True)
    for closing in (False, True)
}
"""The lines of the client's connection: is the body chunked, and is the connection closed after it."""


class Forwarding:
    """The forwarding of one request and its response.

    ``dropped_trailers`` are the names (lower case) of trailer fields of the request that are not forwarded.

    ``expects_continue``
        whether the client waits for a 100 before it sends its body (RFC 9110 10.1.1).
    ``request_complete``, ``started``, ``response_complete``
        whether the request is complete, the response's head was sent to the client, the response is complete.
    ``response_started``
        whether the upstream has sent any byte for this request.
    ``continues_head``
        whether the upstream's last bytes have neither begun a head of its answer nor completed one.
    ``delimited``
        whether the client detects an incomplete response by its framing, without the end of the connection.
    ``trailing_data``
        the bytes that the client sent behind its request.
    ``closing``
        whether the response announces the end of the client's connection.
    ``status``
        the status of the response, 0 before it; with a filter, that of the whole response that was held.
    ``is_event_stream``
        whether the response is a stream of events, which may last for any time.
    ``request_body``, ``response_body``
        the bodies that are passed on, None for a request without one and before the response's head.
    """

    response_body: Body | None = None
    trailing_data = b""
    response_started = started = response_complete = delimited = is_event_stream = False
    status = 0
    # Few exchanges set the following ones.
    _reader: AnswerHeadReader | None = None
    _answer: AnswerHead | None = None
    _rewriter: LazyRewriter | None = None
    _more: Fields = ()
    _filter: AnswerFilter | None = None
    _held: HeldAnswer | None = None
    _made = b""
    continues_head = False
    _changed_octets = 0
    _upstream_ended = False

    def __init__(
        self,
        request: Request,
        max_body: int | None = None,
        dropped_trailers: frozenset[bytes] = frozenset(),
    ) -> None:
        self._head = head = request.head
        self._session = request.session
        self._is_old = head.version == (1, 0)
        self.closing = self._is_old or _wants_close(head)
        self.request_body = _request_body(head, max_body, dropped_trailers)
        self.request_complete = self.request_body is None
        self.expects_continue = not (self.request_complete or self._is_old) and _expects_continue(head)

    @property
    def octets_up(self) -> int:
        """Bytes of the request's body so far, without their framing."""
        return 0 if self.request_body is None else self.request_body.octets

    @property
    def octets_down(self) -> int:
        """Bytes of the response's body that the client gets so far, without their framing."""
        return self._changed_octets if self.response_body is None else self.response_body.octets

    @property
    def more_request(self) -> bool:
        """Whether ``take_request(b"")`` has to read further chunks of the request's body in another turn."""
        return self.request_body is not None and self.request_body.more

    @property
    def more_answer(self) -> bool:
        """Whether ``take_answer(b"")`` has to read further chunks of the response's body in another turn."""
        body = self._source
        return body is not None and body.more

    @property
    def keeps_client(self) -> bool:
        """Whether the client's connection may be used for another request."""
        return self.request_complete and self.response_complete and not self.closing

    @property
    def keeps_upstream(self) -> bool:
        """Whether the upstream's connection may be used for another request."""
        body, answer = self._source, self._answer
        if body is None or answer is None or not self.request_complete or self._upstream_ended:
            return False
        return body.is_complete and not body.trailing and not answer.closes

    @property
    def _source(self) -> Body | None:
        """The body that reads the upstream's bytes, if a response has begun."""
        return self.response_body if self._held is None else self._held.payload

    def begin(
        self, rewriter: LazyRewriter, more: Fields = (), answer_filter: AnswerFilter | None = None
    ) -> None:
        """Note that the head of the request is sent to an upstream.

        ``more`` are fields that the response to the client gets in addition.  ``answer_filter`` may change
        the response.  A second call begins a second attempt on another connection.
        """
        self._rewriter, self._more, self._filter = rewriter, more, answer_filter
        if self.response_started or self._upstream_ended:
            self.response_started = self._upstream_ended = self.continues_head = False
            self._reader = self._held = None

    # The request

    def take_request(self, octets: bytes) -> bytes:
        """Add bytes from the client and return the bytes for the upstream.

        Raise MalformedRequest or BodyTooLarge.
        """
        body = self.request_body
        if body is None or self.request_complete:
            self.trailing_data += octets
            return b""
        sent = body.take(octets)
        if octets:
            self.expects_continue = False
        if body.is_invalid:
            body.take(b"")
        if body.is_complete:
            self.request_complete = True
            self.trailing_data, body.trailing = body.trailing, b""
        return sent

    # The answer

    @property
    def unfiltered_body(self) -> bytes | None:
        """The whole body that waits for ``filtered``, or None."""
        return self._held.body if self._held is not None and self._held.is_complete else None

    def filtered(self, body: bytes) -> bytes:
        """Return the response with this body, the result of the filter, for the client."""
        held, self._held, self._filter = self._held, None, None
        assert held is not None and held.is_complete
        fields = changed_fields(held.head.fields, len(body))
        has_body = held.head.framing is not Framing.NONE
        sent = self._begin_response(held.head.with_body(fields))
        self._changed_octets = len(body) if has_body else 0
        self.response_complete = True
        return sent + body if has_body else sent

    def take_answer(self, octets: bytes) -> bytes:
        """Add bytes from the upstream and return the bytes for the client.  Raise UpstreamInvalid."""
        if octets:
            self.response_started = True
        body = self.response_body
        if body is not None:
            return self._take_body(body, octets)
        return self._take_heads(octets) if self._held is None else self._hold(self._held, octets)

    def left(self) -> bytes:
        """Return the bytes for the client that ``take_answer`` had produced when it raised."""
        made, self._made = self._made, b""
        return made

    def upstream_ended(self, clean: bool) -> bytes:
        """Note the end of the upstream's connection and return the last bytes for the client.

        ``clean`` is whether it ended with a FIN and not with a reset.  Raise UpstreamLost if the response is
        incomplete.
        """
        self._upstream_ended = True
        held, body = self._held, self.response_body
        if body is not None:
            sent = body.end(clean)
            self.response_complete = True
            return sent
        if held is not None:
            if held.is_complete:
                return b""
            held.end(clean)
            return self._judge(held, b"")
        if not clean:
            raise UpstreamLost("the upstream's connection was reset before the answer was complete")
        if self.response_started:
            raise UpstreamLost("the upstream ended the connection before the answer was complete")
        raise UpstreamLost("the upstream ended the connection without an answer")

    def _take_heads(self, octets: bytes) -> bytes:
        """Read the heads of interim responses and of the response, and the body behind it."""
        reader = self._reader
        if reader is None:
            bodiless = self._head.method == b"HEAD"
            if (whole := take_usual_head(octets, bodiless)) is not None:
                return self._take_final(*whole)
            self._reader = reader = AnswerHeadReader(bodiless)
        self.continues_head = reader.has_part
        reader.feed(octets)
        while (head := reader.take()) is not None:
            self.continues_head = False
            if head.status >= 200:
                self._reader = None
                return self._take_final(head, reader.rest)
            self._made += self._interim(head)
        return self.left()

    def _interim(self, head: AnswerHead) -> bytes:
        """Return an interim response for the client, nothing for HTTP/1.0 (RFC 9110 15.2)."""
        if head.status == 101:
            raise UpstreamInvalid("the upstream switched protocols, which the request did not ask for")
        if self._is_old:
            return b""
        self.expects_continue = False
        assert self._rewriter is not None, "the answer comes after the request"
        return self._written(head, forwarded_answer(head, self._rewriter, self._session))

    def _take_final(self, head: AnswerHead, rest: bytes) -> bytes:
        self._answer = head
        body = response_body(head, payload_only=self._is_old)
        if self._filter is not None:
            if self._filter.takes(head.status, head.fields):
                self._held = HeldAnswer(head, response_body(head, payload_only=True), body)
                return self._hold(self._held, rest)
            self._filter = None
        sent = self._made + self._begin_response(head)
        self.response_body = body
        self._made = sent  # for the client, if the body is invalid
        if rest:
            sent += self._take_body(body, rest)
        else:
            self.response_complete = body.is_complete
        self._made = b""
        return sent

    def _take_body(self, body: Body, octets: bytes) -> bytes:
        sent = body.take(octets)
        if body.is_complete:
            self.response_complete = True
        elif body.is_invalid:
            self._made += sent
            body.take(b"")
        return sent

    def _hold(self, held: HeldAnswer, octets: bytes) -> bytes:
        """Hold bytes of a response for its filter, and return all of them once it has ended."""
        return b"" if held.is_complete else self._judge(held, held.take(octets))

    def _judge(self, held: HeldAnswer, payload: bytes) -> bytes:
        """Pass the next bytes of the body to the filter, and all bytes to the client if it has ended."""
        assert self._filter is not None
        wants = not payload or self._filter.feed(payload)
        if wants and held.payload.is_invalid:
            held.payload.take(b"")
        if wants and held.payload.is_complete:
            wants = self._filter.feed(b"")
            if wants:
                held.is_complete = True
                self.status = held.head.status
        if wants:
            return self.left()
        self._filter = self._held = None
        self._made += self._begin_response(held.head) + held.unchanged
        self.response_body = body = held.framed
        self.response_complete = body.is_complete
        if body.is_invalid:
            body.take(b"")
        return self.left()

    def _begin_response(self, head: AnswerHead) -> bytes:
        """Return the head of the response for the client, with the framing of its body."""
        if self._more:
            self._check_more()
        status = head.status
        chunked = not head.has_length and not self._is_old and status != 204 and status != 304
        if not self.request_complete:
            # A client that has its response may never send the rest of its request.
            self.closing = True
        framing = _CONNECTION_LINES[chunked, self.closing]
        octets = None if self._more else plain_answer(head, self._session, framing)
        if octets is None:
            assert self._rewriter is not None, "the answer comes after the request"
            fields = [*forwarded_answer(head, self._rewriter, self._session), *self._more]
            fields = one_connection(fields, self.closing)
            octets = self._written(head, fields, _CONNECTION_LINES[chunked, False])
        self.status = status
        self.delimited = head.has_length or not self._is_old
        self.is_event_stream = head.is_event_stream
        self.expects_continue = False
        self.started = True
        return octets

    def _check_more(self) -> None:
        """Raise UpstreamInvalid for an additional field that would change the framing of the response."""
        for name, value in self._more:
            key = name.lower()
            if key in (b"content-length", b"transfer-encoding"):
                raise UpstreamInvalid("the answer's additional fields cannot be passed on")
            if key == b"connection" and b"close" in tokens([value]):
                self.closing = True

    def _written(self, head: AnswerHead, fields: list[tuple[bytes, bytes]], framing: bytes = b"") -> bytes:
        try:
            return answer_head(head.status, head.reason, fields)[:-2] + framing + b"\r\n"
        except ValueError:
            raise UpstreamInvalid("the upstream's answer has fields that cannot be passed on") from None


def _request_body(head: RequestHead, max_body: int | None, dropped_trailers: frozenset[bytes]) -> Body | None:
    """Return the body of a request, or None if it has none.  Raise BodyTooLarge."""
    named = head.named
    if b"content-length" in named:
        size = int(named[b"content-length"][0])
        if max_body is not None and size > max_body:
            raise BodyTooLarge(f"the body has more than {max_body} bytes")
        return FixedBody(size) if size else None
    if b"transfer-encoding" not in named:
        return None
    trailers = partial(trailer_fields, dropped=dropped_trailers)
    return ChunkedBody(MalformedRequest, "the request's body", trailers, max_body)


def _wants_close(head: RequestHead) -> bool:
    return b"connection" in head.named and b"close" in head.tokens(b"connection")


def _expects_continue(head: RequestHead) -> bool:
    return b"expect" in head.named and b"100-continue" in head.tokens(b"expect")
