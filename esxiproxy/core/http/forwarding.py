"""One HTTP exchange without I/O, which turns bytes of one side into bytes for the other side.

``h11`` frames both sides, with one ``h11.Connection`` for each side and request.  Bytes behind a request are
returned, so that :mod:`esxiproxy.core.http.head` checks every head of a connection.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import h11

from esxiproxy.core.errors import BodyTooLarge, MalformedRequest, UpstreamInvalid, UpstreamLost
from esxiproxy.core.http.answer_filter import AnswerFilter, HeldAnswer, changed_fields
from esxiproxy.core.http.chunks import Chunks
from esxiproxy.core.http.head import MAX_HEAD, Fields
from esxiproxy.core.http.message import check_answer, forwarded_answer, trailer_fields
from esxiproxy.core.http.request import Request
from esxiproxy.core.http.response_reader import MAX_ANSWER_HEAD, ResponseReader
from esxiproxy.core.http.rewriting import ResponseRewriter


class Forwarding:
    """The forwarding of one request and its response.

    ``dropped_trailers`` are the names (lower case) of trailer fields of the request that are not forwarded.

    ``request_complete``, ``started``, ``response_complete``
        whether the request is complete, the response's head was sent to the client, the response is complete.
    ``delimited``
        whether the client detects an incomplete response by its framing, without the end of the connection.
    ``trailing_data``
        the bytes that the client sent behind its request.
    ``closing``
        whether the response announces the end of the connection.
    ``status``
        the status of the response, 0 before it; with a filter, that of the whole response that was held.
    ``is_event_stream``
        whether the response is a stream of events, which may last for any time.
    ``octets_up``, ``octets_down``
        bytes of the two bodies so far, without their framing.
    """

    def __init__(
        self,
        request: Request,
        max_body: int | None = None,
        dropped_trailers: frozenset[bytes] = frozenset(),
    ) -> None:
        self._head = head = request.head
        self._session = request.session
        self._max_body = max_body
        self._dropped_trailers = dropped_trailers
        self._chunked: Chunks | None = None
        if head.values(b"transfer-encoding"):
            self._chunked = Chunks(MalformedRequest, "the request's body")
        self._server = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._connect()
        self._view: ResponseRewriter | None = None
        self._more: Fields = ()
        self._filter: AnswerFilter | None = None
        self._held: HeldAnswer | None = None
        self._made: list[bytes] = []
        self.request_complete = self.started = self.response_complete = self.closing = self.delimited = False
        self.is_event_stream = False
        self.trailing_data = b""
        self.status = 0
        self.octets_up = self.octets_down = 0
        length = head.value(b"content-length")
        if max_body is not None and length is not None and int(length) > max_body:
            raise BodyTooLarge(f"the body has more than {max_body} bytes")
        self._server.receive_data(head.raw)
        try:
            event = self._server.next_event()
        except h11.RemoteProtocolError:  # h11 accepts every head that passed the strict parser
            event = None
        if not isinstance(event, h11.Request):
            raise MalformedRequest("the request head cannot be read")

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for a 100 before it sends its body (RFC 9110 10.1.1)."""
        return self._server.they_are_waiting_for_100_continue

    @property
    def response_started(self) -> bool:
        """Whether the upstream has sent any byte for this request."""
        return self._reader.started

    @property
    def more_request(self) -> bool:
        """Whether ``take_request(b"")`` has to read further chunks of the request's body in another turn."""
        return self._chunked is not None and self._chunked.more

    @property
    def more_answer(self) -> bool:
        """Whether ``take_answer(b"")`` has to read further chunks of the response's body in another turn."""
        return self._reader.more

    @property
    def keeps_client(self) -> bool:
        """Whether the client's connection may be used for another request."""
        states = self._server.states
        return not self.closing and states[h11.CLIENT] is h11.DONE and states[h11.SERVER] is h11.DONE

    @property
    def keeps_upstream(self) -> bool:
        """Whether the upstream's connection may be used for another request."""
        states, (beyond, ended) = self._client.states, self._client.trailing_data
        both_done = states[h11.CLIENT] is h11.DONE and states[h11.SERVER] is h11.DONE
        return both_done and not beyond and not ended

    def begin(
        self,
        target: bytes,
        fields: Fields,
        view: ResponseRewriter,
        more: Fields = (),
        answer_filter: AnswerFilter | None = None,
    ) -> bytes:
        """Return the head of the request for the upstream.

        ``more`` are fields that the response to the client gets in addition.  ``answer_filter`` may change
        the response.  A second call prepares a second attempt on another connection.
        """
        self._connect()
        self._view, self._more = view, more
        self._filter, self._held = answer_filter, None
        request = h11.Request(method=self._head.method, target=target, headers=list(fields))
        octets = self._client.send(request)
        if self.request_complete:  # a request is repeated only if it has no body
            octets += self._client.send(h11.EndOfMessage())
        return octets

    def _connect(self) -> None:
        self._client = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER_HEAD)
        self._reader = ResponseReader(self._client, self._head.method == b"HEAD")

    # The request

    def take_request(self, octets: bytes) -> bytes:
        """Add bytes from the client and return the bytes for the upstream.

        Raise MalformedRequest or BodyTooLarge.
        """
        if self.request_complete:
            self.trailing_data += octets
            return b""
        if self._chunked is not None:
            self._chunked.feed(octets)
            octets = self._chunked.take()
            if self._chunked.is_invalid:
                self._chunked.take()
        if octets:
            self._server.receive_data(octets)
        sent: list[bytes] = []
        try:
            while not self.request_complete:
                event = self._server.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    break
                self._request_event(event, sent)
        except h11.RemoteProtocolError:
            raise MalformedRequest("the request's body is not framed as its head says")
        return b"".join(sent)

    def _request_event(self, event: Any, sent: list[bytes]) -> None:
        if isinstance(event, h11.Data):
            self.octets_up += len(event.data)
            if self._max_body is not None and self.octets_up > self._max_body:
                raise BodyTooLarge(f"the body has more than {self._max_body} bytes")
            sent.append(self._up(event))
        elif isinstance(event, h11.EndOfMessage):
            self.request_complete = True
            self.trailing_data = self._server.trailing_data[0]
            trailers = tuple(event.headers.raw_items())
            sent.append(self._up(h11.EndOfMessage(headers=trailer_fields(trailers, self._dropped_trailers))))

    def _up(self, event: Any) -> bytes:
        with suppress(h11.LocalProtocolError):  # the upstream has ended the exchange, so the rest is dropped
            return bytes(self._client.send(event))
        return b""

    # The answer

    @property
    def unfiltered_body(self) -> bytes | None:
        """The whole body that waits for ``filtered``, or None."""
        return self._held.body if self._held is not None and self._held.is_complete else None

    def filtered(self, body: bytes) -> bytes:
        """Return the response with this body, the result of the filter, for the client."""
        held, self._held, self._filter = self._held, None, None
        assert held is not None and held.is_complete
        head = held.head
        fields = changed_fields(tuple(head.headers.raw_items()), len(body))
        octets = self._response(
            h11.Response(
                status_code=head.status_code,
                headers=list(fields),
                reason=head.reason,
                http_version=head.http_version,
            )
        )
        self.octets_down += len(body)
        self.response_complete = True
        return octets + self._server.send(h11.Data(data=body)) + self._server.send(h11.EndOfMessage())

    def take_answer(self, octets: bytes) -> bytes:
        """Add bytes from the upstream and return the bytes for the client.  Raise UpstreamInvalid."""
        self._reader.feed(octets)
        return self._answer()

    def left(self) -> bytes:
        """Return the bytes for the client that ``take_answer`` had produced when it raised."""
        made, self._made = self._made, []
        return b"".join(made)

    def upstream_ended(self, clean: bool) -> bytes:
        """Note the end of the upstream's connection and return the last bytes for the client.

        ``clean`` is whether it ended with a FIN and not with a reset.  Raise UpstreamLost if the response is
        incomplete.
        """
        if not clean:
            raise UpstreamLost("the upstream's connection was reset before the answer was complete")
        self._reader.end()
        try:
            sent = self._answer()
        except UpstreamInvalid:
            raise UpstreamLost("the upstream ended the connection before the answer was complete")
        if not self.response_complete and self.unfiltered_body is None:
            raise UpstreamLost("the upstream ended the connection without an answer")
        return sent

    def _answer(self) -> bytes:
        try:
            while not self.response_complete and self.unfiltered_body is None:
                event = self._reader.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                    break
                self._made.append(self._answer_event(event))
        except h11.RemoteProtocolError:
            raise UpstreamInvalid("the upstream's answer is no HTTP/1.1")
        except h11.LocalProtocolError:
            raise UpstreamInvalid("the upstream's answer has fields that cannot be passed on")
        return self.left()

    def _held_event(self, event: Any) -> bytes:
        """Hold an event of a response for its filter, or return what the client gets with it."""
        assert self._filter is not None
        if self._held is None:
            fields = tuple(event.headers.raw_items())
            check_answer(event.http_version, fields)  # a changed answer has a framing of its own
            if self._filter.takes(event.status_code, fields):
                self._held = HeldAnswer(event)
                return b""
            self._filter = None
            return self._response(event)
        held = self._held
        if isinstance(event, h11.Data):
            octets = bytes(event.data)
            held.add(octets)
            if self._filter.feed(octets):
                return b""
            event = None
        elif self._filter.feed(b""):
            held.is_complete = True
            self.status = held.head.status_code
            return b""
        self._filter = self._held = None
        sent = self._response(held.head)
        if body := held.body:
            sent += self._answer_event(h11.Data(data=body))
        return sent if event is None else sent + self._answer_event(event)

    def _answer_event(self, event: Any) -> bytes:
        if isinstance(event, h11.InformationalResponse):
            if self._head.version == (1, 0):  # RFC 9110 15.2
                return b""
            fields = self._answer_fields(event)
            return self._server.send(
                h11.InformationalResponse(status_code=event.status_code, headers=fields, reason=event.reason)
            )
        if self._filter is not None:
            return self._held_event(event)
        if isinstance(event, h11.Response):
            return self._response(event)
        if isinstance(event, h11.Data):
            self.octets_down += len(event.data)
            return self._server.send(h11.Data(data=event.data))
        self.response_complete = True
        return self._server.send(h11.EndOfMessage(headers=self._trailers(event)))

    def _response(self, event: h11.Response) -> bytes:
        fields = [*self._answer_fields(event), *self._more]
        if self.closing or not self.request_complete:
            # A client that has its response may never send the rest of its request.
            self.closing = True
            fields.append((b"Connection", b"close"))
        self.status = event.status_code
        types = [value for name, value in event.headers if name == b"content-type"]
        self.is_event_stream = any(value.lower().startswith(b"text/event-stream") for value in types)
        response = h11.Response(status_code=event.status_code, headers=fields, reason=event.reason)
        octets = self._server.send(response)
        sized = any(name.lower() == b"content-length" for name, _ in fields)
        self.delimited = sized or self._head.version != (1, 0)
        self.started = True
        return octets

    def _answer_fields(self, event: Any) -> list[tuple[bytes, bytes]]:
        assert self._view is not None, "the answer comes after the request"
        fields = tuple(event.headers.raw_items())
        check_answer(event.http_version, fields)
        return forwarded_answer(fields, event.status_code, event.http_version, self._view, self._session)

    def _trailers(self, event: h11.EndOfMessage) -> list[tuple[bytes, bytes]]:
        """Return the trailer fields for the client, none for HTTP/1.0."""
        if self._head.version == (1, 0) or self._head.method == b"HEAD":
            return []
        return trailer_fields(tuple(event.headers.raw_items()))
