"""One HTTP exchange through the proxy, without a network: bytes of one side in, bytes for the other out.

``h11`` frames both sides.  There is one ``h11.Connection`` a side and a request: what a client sends behind
its request is given back, so that every head of a connection is checked by :mod:`esxiproxy.core.http.head`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import h11

from esxiproxy.core.errors import BodyTooLarge, MalformedRequest, UpstreamInvalid, UpstreamLost
from esxiproxy.core.http.chunks import Chunks
from esxiproxy.core.http.head import MAX_HEAD, Fields
from esxiproxy.core.http.message import check_answer, forwarded_answer, trailer_fields
from esxiproxy.core.http.request import Request
from esxiproxy.core.http.response_reader import MAX_ANSWER_HEAD, ResponseReader
from esxiproxy.core.http.rewriting import ResponseRewriter


class Forwarding:
    """A request on its way up and its answer on its way down, chunk by chunk.

    ``asked``, ``started``, ``answered``
        the request is complete; the answer's head has gone to the client; the answer is complete.
    ``delimited``
        the client sees by the framing of the answer whether it is whole, not by the end of the connection.
    ``rest``
        what the client has sent behind its request.
    ``closing``
        the answer says that the connection will be closed.
    ``status``
        the answer's, 0 before it.
    ``octets_up``, ``octets_down``
        bytes of the two bodies so far, without their framing.
    """

    def __init__(self, request: Request, max_body: int | None = None) -> None:
        self._head = head = request.head
        self._session = request.session
        self._max_body = max_body
        self._chunked: Chunks | None = None
        if head.values(b"transfer-encoding"):
            self._chunked = Chunks(MalformedRequest, "the request's body")
        self._server = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._connect()
        self._view: ResponseRewriter | None = None
        self._made: list[bytes] = []
        self.request_complete = self.started = self.response_complete = self.closing = self.delimited = False
        self.trailing_data = b""
        self.status = 0
        self.octets_up = self.octets_down = 0
        length = head.value(b"content-length")
        if max_body is not None and length is not None and int(length) > max_body:
            raise BodyTooLarge(f"the body has more than {max_body} bytes")
        self._server.receive_data(head.raw)
        try:
            event = self._server.next_event()
        except h11.RemoteProtocolError:  # the strict check admits nothing that h11 refuses
            event = None
        if not isinstance(event, h11.Request):
            raise MalformedRequest("the request head cannot be read")

    @property
    def expects_continue(self) -> bool:
        """Whether the client sends its body only after a 100 (RFC 9110 10.1.1)."""
        return self._server.they_are_waiting_for_100_continue

    @property
    def response_started(self) -> bool:
        """Whether the upstream has sent anything for this request."""
        return self._reader.heard

    @property
    def more_request(self) -> bool:
        """Whether the request's body has chunks that ``take_request(b"")`` is to read in another turn."""
        return self._chunked is not None and self._chunked.more

    @property
    def more_answer(self) -> bool:
        """Whether the answer's body has chunks that ``take_answer(b"")`` is to read in another turn."""
        return self._reader.more

    @property
    def keeps_client(self) -> bool:
        """Whether the client's connection may carry another request."""
        states = self._server.states
        return not self.closing and states[h11.CLIENT] is h11.DONE and states[h11.SERVER] is h11.DONE

    @property
    def keeps_upstream(self) -> bool:
        """Whether the upstream's connection may carry another request."""
        states, (beyond, ended) = self._client.states, self._client.trailing_data
        both_done = states[h11.CLIENT] is h11.DONE and states[h11.SERVER] is h11.DONE
        return both_done and not beyond and not ended

    def begin(self, target: bytes, fields: Fields, view: ResponseRewriter) -> bytes:
        """The head of the request to the upstream; again, for a second try on another connection."""
        self._connect()
        self._view = view
        request = h11.Request(method=self._head.method, target=target, headers=list(fields))
        octets = self._client.send(request)
        if self.request_complete:  # it has no body: that is why there may be a second try
            octets += self._client.send(h11.EndOfMessage())
        return octets

    def _connect(self) -> None:
        self._client = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER_HEAD)
        self._reader = ResponseReader(self._client, self._head.method == b"HEAD")

    # The request

    def take_request(self, octets: bytes) -> bytes:
        """What came from the client, as the upstream gets it.  Raises MalformedRequest."""
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
            sent.append(self._up(h11.EndOfMessage(headers=trailer_fields(trailers))))

    def _up(self, event: Any) -> bytes:
        with suppress(h11.LocalProtocolError):  # the upstream has ended the exchange: nobody wants the rest
            return bytes(self._client.send(event))
        return b""

    # The answer

    def take_answer(self, octets: bytes) -> bytes:
        """What came from the upstream, as the client gets it.  Raises UpstreamInvalid or UpstreamLost."""
        self._reader.feed(octets)
        return self._answer()

    def left(self) -> bytes:
        """Return what was made of the answer before it failed, and was not returned."""
        made, self._made = self._made, []
        return b"".join(made)

    def upstream_ended(self, clean: bool) -> bytes:
        """The upstream's connection has ended; ``clean`` says, with a FIN and no reset.

        Raises UpstreamLost when the answer was not complete by that.
        """
        if not clean:
            raise UpstreamLost("the upstream's connection was reset before the answer was complete")
        self._reader.end()
        try:
            sent = self._answer()
        except UpstreamInvalid:
            raise UpstreamLost("the upstream ended the connection before the answer was complete")
        if not self.response_complete:
            raise UpstreamLost("the upstream ended the connection without an answer")
        return sent

    def _answer(self) -> bytes:
        try:
            while not self.response_complete:
                event = self._reader.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                    break
                self._made.append(self._answer_event(event))
        except h11.RemoteProtocolError:
            raise UpstreamInvalid("the upstream's answer is no HTTP/1.1")
        except h11.LocalProtocolError:
            raise UpstreamInvalid("the upstream's answer has fields that cannot be passed on")
        return self.left()

    def _answer_event(self, event: Any) -> bytes:
        if isinstance(event, h11.InformationalResponse):
            if self._head.version == (1, 0):  # RFC 9110 15.2
                return b""
            fields = self._answer_fields(event)
            return self._server.send(
                h11.InformationalResponse(status_code=event.status_code, headers=fields, reason=event.reason)
            )
        if isinstance(event, h11.Response):
            return self._response(event)
        if isinstance(event, h11.Data):
            self.octets_down += len(event.data)
            return self._server.send(h11.Data(data=event.data))
        self.response_complete = True
        return self._server.send(h11.EndOfMessage(headers=self._trailers(event)))

    def _response(self, event: h11.Response) -> bytes:
        fields = self._answer_fields(event)
        if self.closing or not self.request_complete:
            # Who has its answer may never send the rest of its request: there is no next one here.
            self.closing = True
            fields.append((b"Connection", b"close"))
        self.status = event.status_code
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
        """HTTP/1.0 has no place for them."""
        if self._head.version == (1, 0) or self._head.method == b"HEAD":
            return []
        return trailer_fields(tuple(event.headers.raw_items()))
