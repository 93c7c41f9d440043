"""The HTTP sites of the admin service, on twisted.web."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.web import resource, server
from zope.interface import implementer

from esxiproxy.admin.access import Arrival
from esxiproxy.admin.call import Actor, ApiError
from esxiproxy.admin.connections import connection_of
from esxiproxy.admin.dispatch import Dispatcher, Fields, Reply
from esxiproxy.admin.openapi.operations import BASE
from esxiproxy.admin.probes import ProbeAnswers
from esxiproxy.admin.requests import MAX_BODY
from esxiproxy.core.peer_address import PeerAddress

MAX_STREAMS = 64
"""Event streams on one address of the admin service."""
_MAX_DISCARDED = 1 << 20
"""Bytes of a body that is too long, which are read before the connection is closed."""
STREAM_LIFE = 300.0
"""Seconds after which an event stream ends; the page opens it again, with its login as it is then."""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_TEXT = "text/plain; charset=utf-8"
_PAGES = (b"/", b"/index.html")
"""The paths that need a login, so that a browser asks for it."""
_SECURITY: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class Stream(Protocol):
    """An event stream: ``next`` returns the next events as soon as there are some."""

    def next(self) -> Deferred[bytes]:
        """Return the next events; the Deferred may be cancelled."""

    def close(self) -> None:
        """End the stream."""


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file of the page, with the ETag of its content."""

    content_type: str
    content: bytes
    etag: str


class AdminRequest(server.Request):
    """A request whose body stays in memory and has a bound."""

    content: Any
    is_too_long = False
    _received = 0

    def gotLength(self, length: int | None) -> None:
        self.is_too_long = length is not None and length > MAX_BODY
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > MAX_BODY:
            self.is_too_long = True
        if self._received > _MAX_DISCARDED:
            self.channel.forceAbortClient()
        elif not self.is_too_long:
            super().handleContentChunk(data)


class Root(resource.Resource):
    """All paths of one address: the probes, and with a ``dispatcher`` the API and the page."""

    isLeaf = True
    _log = Logger()

    def __init__(
        self,
        probes: ProbeAnswers,
        dispatcher: Dispatcher | None = None,
        files: Mapping[bytes, StaticFile] | None = None,
        open_stream: Callable[[Actor, Mapping[str, Any]], Stream] | None = None,
        clock: Any = None,
    ) -> None:
        super().__init__()
        self._clock = clock
        self._probes = probes
        self._dispatcher = dispatcher
        self._files = files or {}
        self._open_stream = open_stream
        self._streams: set[EventWriter] = set()
        self._in_flight = 0
        self._before: Root | None = None

    def render(self, request: Any) -> Any:
        if request.channel._waitingForTransport:
            # The client sends requests without reading the answers, which would fill the memory.
            request.channel.forceAbortClient()
            return server.NOT_DONE_YET
        connection = connection_of(request.channel.transport)
        connection.request_begins()
        request.notifyFinish().addBoth(lambda _: connection.request_ends())
        self._in_flight += 1
        answering = Deferred.fromCoroutine(self._answer(request))
        answering.addErrback(self._failed, request)
        answering.addBoth(self._answered)
        request.notifyFinish().addErrback(lambda _: None)  # an action of a client that has left goes on
        return server.NOT_DONE_YET

    @property
    def in_flight(self) -> int:
        """Number of requests that have no answer yet, also of the root before this one."""
        return self._in_flight + (0 if self._before is None else self._before.in_flight)

    def take_over(self, before: Root) -> None:
        """Serve in place of another root, whose event streams end; pages open them again."""
        before._before = None if before._before is None or not before._before.in_flight else before._before
        self._before = before if before.in_flight else None
        before.close_streams()

    def close_streams(self) -> None:
        """End all event streams; pages open them again."""
        for stream in list(self._streams):
            stream.finish()

    def _answered(self, _result: object) -> None:
        self._in_flight -= 1

    def _failed(self, failure: Any, request: Any) -> None:
        self._log.failure("bug in the admin site", failure)
        self._send(request, 500, _TEXT, b"an internal error\n")

    async def _answer(self, request: Any) -> None:
        """Answer a request: a page, an operation of the API or a probe."""
        path = request.uri.partition(b"?")[0]
        if request.is_too_long:
            request.channel.persistent = False
            self._send_json(request, Reply(413, {"error": f"a body has at most {MAX_BODY} bytes"}))
            return
        if self._dispatcher is not None and path in _PAGES:
            login = await self._dispatcher.page_login(arrival_of(request))
            if isinstance(login, Reply):
                self._send(request, login.status, _TEXT, f"{login.value['error']}\n".encode(), login.fields)
                return
            for field, content in login:
                request.responseHeaders.addRawHeader(field, content)
        elif self._dispatcher is not None and path.startswith(BASE.encode() + b"/"):
            reply = await self._dispatcher.reply(arrival_of(request), request.content.read())
            if reply.events is None:
                self._send_json(request, reply)
            else:
                self._stream(request, reply)
            return
        if not await self._check_site(request):
            return
        accept = request.getHeader("accept") or ""
        found = await self._probes.answer(path, accept)
        file = self._files.get(path)
        if found is None and file is None:
            self._send(request, 404, _TEXT, b"there is no such path\n")
        elif request.method not in (b"GET", b"HEAD"):
            request.setHeader("Allow", "GET, HEAD")
            self._send(request, 405, _TEXT, b"this path takes GET and HEAD\n")
        elif found is not None:
            self._send(request, *found)
        elif file is not None:
            self._send_file(request, file)

    async def _check_site(self, request: Any) -> bool:
        """Return whether the Host field is right; else the request is answered."""
        if self._dispatcher is None:
            return True
        reply = self._dispatcher.host_refusal(arrival_of(request))
        if reply is not None:
            self._send_json(request, reply)
        return reply is None

    def _stream(self, request: Any, reply: Reply) -> None:
        """Begin an event stream, or refuse it if there are too many."""
        assert self._open_stream is not None and reply.events is not None
        if request._disconnected:
            return
        if len(self._streams) >= MAX_STREAMS:
            text = f"there are {MAX_STREAMS} event streams already: close a page"
            self._send_json(request, Reply(503, {"error": text}, ((b"Retry-After", b"5"),)))
            return
        try:
            stream = self._open_stream(reply.events.actor, reply.events.parameters)
        except ApiError as error:
            self._send_json(request, Reply(error.status, {"error": str(error)}))
            return
        writer = EventWriter(request, stream, self._streams.discard)
        life = STREAM_LIFE if reply.events.actor.left is None else min(STREAM_LIFE, reply.events.actor.left)
        timer = self._clock.callLater(life, writer.finish)
        request.notifyFinish().addBoth(lambda _: timer.cancel() if timer.active() else None)
        _prepare(request, 200, "text/event-stream", reply.fields)
        request.setHeader("Cache-Control", "no-store")
        request.setHeader("X-Accel-Buffering", "no")
        if request.method == b"HEAD":
            stream.close()
            request.finish()
            return
        self._streams.add(writer)
        writer.start()

    def _send_json(self, request: Any, reply: Reply) -> None:
        body = json.dumps(reply.value).encode() + b"\n"
        self._send(request, reply.status, "application/json", body, reply.fields)

    def _send_file(self, request: Any, file: StaticFile) -> None:
        _prepare(request, 200, file.content_type)
        request.setHeader("Cache-Control", "no-cache")
        if request.setETag(file.etag.encode()) is not None:
            request.finish()
            return
        request.setHeader("Content-Length", str(len(file.content)))
        request.write(file.content)
        request.finish()

    def _send(self, request: Any, status: int, content_type: str, body: bytes, fields: Fields = ()) -> None:
        if request._disconnected:
            return
        _prepare(request, status, content_type, fields)
        request.setHeader("Cache-Control", "no-store")
        request.setHeader("Content-Length", str(len(body)))
        request.write(body)
        request.finish()


def _prepare(request: Any, status: int, content_type: str, fields: Fields = ()) -> None:
    request.setResponseCode(status)
    request.setHeader("Server", "esxiproxy")
    request.setHeader("Content-Type", content_type)
    for name, value in _SECURITY.items():
        request.setHeader(name, value)
    for field, content in fields:
        request.responseHeaders.addRawHeader(field, content)


def arrival_of(request: Any) -> Arrival:
    """Return the facts of a twisted.web request that the rules of access need."""
    return Arrival(
        method=request.method,
        target=request.uri,
        fields=tuple(
            (name.lower(), value)
            for name, values in request.requestHeaders.getAllRawHeaders()
            for value in values
        ),
        client=PeerAddress.of(request.getClientAddress()),
        secure=request.isSecure(),
        transport=request.channel.transport,
    )


@implementer(IPushProducer)
class EventWriter:
    """Writes an event stream into a response, no faster than the client reads."""

    _log = Logger()

    def __init__(self, request: Any, stream: Stream, on_end: Callable[[EventWriter], None]) -> None:
        self._request = request
        self._stream = stream
        self._on_end = on_end
        self._is_paused = self._has_ended = False
        self._waiting: Deferred[Any] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._request.notifyFinish().addBoth(lambda _: self._end())
        self._request.registerProducer(self, True)
        self._next()

    def finish(self) -> None:
        """End the response."""
        if not self._has_ended:
            self._request.unregisterProducer()
            self._request.finish()

    def pauseProducing(self) -> None:
        self._is_paused = True

    def resumeProducing(self) -> None:
        self._is_paused = False
        self._next()

    def stopProducing(self) -> None:
        self._end()

    def _next(self) -> None:
        if self._waiting is None and not self._is_paused and not self._has_ended:
            self._waiting = waiting = self._stream.next()
            waiting.addCallbacks(self._write, self._failed)

    def _write(self, octets: bytes) -> None:
        self._waiting = None
        if not self._has_ended:
            self._request.write(octets)
            self._next()

    def _failed(self, failure: Any) -> None:
        self._waiting = None
        if not self._has_ended:
            self._log.failure("an event stream failed: the page opens it again", failure)
            self.finish()

    def _end(self) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.addErrback(lambda _: None)
            waiting.cancel()
        self._stream.close()
        self._on_end(self)
