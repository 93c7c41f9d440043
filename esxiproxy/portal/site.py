"""The HTTP site of the portal, on twisted.web.

It is served on a private socket, to the workers alone.  They say who sends a request.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.web import http, resource, server

from esxiproxy.admin.site import STREAM_LIFE, AdminRequest, EventWriter, StaticFile
from esxiproxy.authenticators.login_store import LoginStore
from esxiproxy.core.errors import SessionError, StateUnavailable
from esxiproxy.core.http.head import MAX_HEAD
from esxiproxy.core.http.portal import MAX_VISITOR_FIELDS, visitor_of
from esxiproxy.core.redaction import redact_text
from esxiproxy.portal.api import PortalApi
from esxiproxy.portal.arrival import PortalAnswer, PortalArrival, PortalError
from esxiproxy.portal.assets import Assets, is_asset
from esxiproxy.portal.login_form import LoginForm, next_path, to_login
from esxiproxy.portal.machine_events import MachineEvents
from esxiproxy.portal.settings import PortalListener
from esxiproxy.portal.single_sign_on import SingleSignOn

MAX_STREAMS = 1000
"""Event streams of all users."""
MAX_STREAMS_EACH = 16
"""Event streams of one user."""
LOGIN_CHECK = 15.0
"""Seconds between two looks whether the login of an event stream has ended."""
_IDLE_TIMEOUT = 60
_LINK = re.compile(r"/c/[A-Za-z0-9_-]{43}")
"""The path of a link that opens a console once."""
_HTML = "text/html; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"
_FAILURE = "an internal error: the log of the proxy has its traceback"


class PortalChannel(http.HTTPChannel):
    """A connection whose heads have room for what a client and its listener send."""

    totalHeadersSize = MAX_LENGTH = 2 * MAX_HEAD + MAX_VISITOR_FIELDS


class PortalSite(server.Site):
    """The factory of the connections, without an access log: the workers write one."""

    protocol: Any = PortalChannel
    noisy = False
    displayTracebacks = False

    def __init__(self, root: PortalRoot, reactor: Any) -> None:
        super().__init__(root, requestFactory=AdminRequest, timeout=_IDLE_TIMEOUT, reactor=reactor)
        self.root = root

    @property
    def in_flight(self) -> int:
        """The number of requests that have no answer yet; event streams do not count."""
        return self.root.in_flight

    def log(self, request: Any) -> None:
        """Write nothing."""


class PortalRoot(resource.Resource):
    """All paths of the portal."""

    isLeaf = True
    _log = Logger()

    def __init__(
        self,
        listeners: Mapping[str, PortalListener],
        api: PortalApi,
        assets: Assets,
        clock: Any,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._time_of_day = time_of_day
        self._listeners = listeners
        self._api = api
        self._assets = assets
        self._clock = clock
        self._login_form = LoginForm(assets.page("page/login.html"))
        self._single_sign_on = SingleSignOn()
        self._list = assets.page("page/index.html").encode()
        self._console = assets.page("viewer/viewer.html").encode()
        self._streams: dict[EventWriter, PortalArrival] = {}
        self._of_user: Counter[tuple[str, str]] = Counter()
        self.in_flight = 0
        """The number of requests that have no answer yet; event streams do not count."""

    def render(self, request: Any) -> Any:
        """Answer a request.

        When its client leaves, a read of the API ends.  An action goes on, and so does a login at a provider:
        others may wait for what it reads there.
        """
        answering = Deferred.fromCoroutine(self._answer(request))
        self.in_flight += 1
        answering.addErrback(self._failed, request)
        answering.addBoth(self._answered)
        is_read = request.method in (b"GET", b"HEAD") and request.uri.startswith(b"/api/")
        request.notifyFinish().addErrback(lambda _: answering.cancel() if is_read else None)
        return server.NOT_DONE_YET

    def close_streams(self) -> None:
        """End all event streams; pages open them again."""
        for stream in list(self._streams):
            stream.finish()

    def _answered(self, _outcome: object) -> None:
        self.in_flight -= 1

    def _failed(self, failure: Any, request: Any) -> None:
        if not failure.check(CancelledError):
            traceback = redact_text(failure.getTraceback())
            self._log.error("bug in the portal: {traceback}", traceback=traceback)
        if not request._disconnected and not request.startedWriting:
            self._send(request, PortalAnswer(500, _TEXT, f"{_FAILURE}\n".encode()), {})

    async def _answer(self, request: Any) -> None:
        """Answer a request that a listener has sent: a file, the event stream, or an operation."""
        try:
            visitor = visitor_of(request.requestHeaders.getRawHeaders)
        except ValueError as error:
            self._send(request, _text_error(PortalError(400, f"no listener has sent this: {error}")), {})
            return
        listener = self._listeners.get(visitor.listener)
        if listener is None:
            text = b"the portal of this listener is not configured any more: reload the page\n"
            self._send(request, PortalAnswer(503, _TEXT, text, ((b"Retry-After", b"3"),)), {})
            return
        security = listener.security()
        path, _, query = request.uri.partition(b"?")
        if request.is_too_long:
            request.channel.persistent = False
            self._send(request, _json_error(PortalError(413, "the body is too long")), security)
            return
        if is_asset(path):
            self._send_file(request, self._assets.find(path), security)
            return
        fields = tuple(
            (name.lower(), value)
            for name, values in request.requestHeaders.getAllRawHeaders()
            for value in values
        )
        arrival = PortalArrival(
            request.method,
            path.decode("latin-1"),
            query.decode("latin-1"),
            fields,
            request.content.read(),
            visitor,
            listener,
        )
        if arrival.path == "/api/events":
            await self._stream(request, arrival, security)
        else:
            self._send(request, await self._answer_to(arrival), security)

    async def _answer_to(self, arrival: PortalArrival) -> PortalAnswer:
        is_api = arrival.path.startswith("/api/")
        try:
            if arrival.path == "/api/logout":
                return await self._logout(arrival)
            if is_api:
                return await self._api.answer(arrival)
            if arrival.path == "/login":
                return await self._login(arrival)
            if self._single_sign_on.handles(arrival.path):
                return await self._single_sign_on.answer(arrival)
            return self._show_page(arrival)
        except PortalError as error:
            return _json_error(error) if is_api else self._failure(arrival, error)
        except SessionError as error:
            return (
                _json_error(PortalError.of(error))
                if is_api
                else self._failure(arrival, PortalError.of(error))
            )

    def _failure(self, arrival: PortalArrival, error: PortalError) -> PortalAnswer:
        """Return the page of a failure: after a login at a provider it has the way to another one."""
        if arrival.method == b"GET" and self._single_sign_on.handles(arrival.path):
            return self._login_form.show_failure(arrival, error)
        return _text_error(error)

    async def _login(self, arrival: PortalArrival) -> PortalAnswer:
        if arrival.method in (b"GET", b"HEAD"):
            return self._login_form.show(arrival)
        if arrival.method != b"POST":
            raise PortalError(405, "this path takes GET and POST", ((b"Allow", b"GET, HEAD, POST"),))
        return await self._login_form.submitted(arrival)

    async def _logout(self, arrival: PortalArrival) -> PortalAnswer:
        if arrival.method != b"POST":
            raise PortalError(405, "this path takes POST", ((b"Allow", b"POST"),))
        arrival.check_own_page()
        arrival.json()
        answer = await self._login_form.ended(arrival)
        for stream, of in list(self._streams.items()):
            if of.visitor.login == arrival.visitor.login:
                stream.finish()
        return answer

    def _show_page(self, arrival: PortalArrival) -> PortalAnswer:
        """Return the list of machines or the page of a console, or the way to the login form."""
        is_link = _LINK.fullmatch(arrival.path) is not None  # who has the link needs no login
        if arrival.path != "/" and not arrival.path.startswith("/vm/") and not is_link:
            raise PortalError(404, "there is no such page")
        if arrival.method not in (b"GET", b"HEAD"):
            raise PortalError(405, "a page is read with GET", ((b"Allow", b"GET, HEAD"),))
        if arrival.visitor.principal is None and not is_link:
            return PortalAnswer.redirect(to_login(next_path(arrival.path)))
        return PortalAnswer(200, _HTML, self._list if arrival.path == "/" else self._console)

    async def _stream(self, request: Any, arrival: PortalArrival, security: Mapping[str, str]) -> None:
        try:
            user = (arrival.listener.name, arrival.principal.names[1])
            if self._of_user.total() >= MAX_STREAMS or self._of_user[user] >= MAX_STREAMS_EACH:
                raise PortalError(503, "too many pages are open: close some", ((b"Retry-After", b"5"),))
        except PortalError as error:
            self._send(request, _json_error(error), security)
            return
        self._of_user[user] += 1
        has_begun = False
        try:
            events = await self._api.events(arrival)
            if not request._disconnected:
                has_begun = self._write_events(request, events, arrival, user, security)
        except PortalError as error:
            self._send(request, _json_error(error), security)
        except SessionError as error:
            self._send(request, _json_error(PortalError.of(error)), security)
        finally:
            if not has_begun:
                self._stream_ended(user)

    def _write_events(
        self,
        request: Any,
        events: MachineEvents,
        arrival: PortalArrival,
        user: tuple[str, str],
        security: Mapping[str, str],
    ) -> bool:
        """Begin to write events, and return whether there are some: the answer to a HEAD has none."""

        def ended(writer: EventWriter) -> None:
            if self._streams.pop(writer, None) is not None:
                self._stream_ended(user)

        writer = EventWriter(request, events, ended)
        expires = arrival.principal.expires
        left = STREAM_LIFE if expires is None else max(0.0, expires - self._time_of_day())
        timer = self._clock.callLater(min(STREAM_LIFE, left), writer.finish)
        request.notifyFinish().addBoth(lambda _: timer.cancel() if timer.active() else None)
        _prepare(request, PortalAnswer(200, "text/event-stream", b""), security)
        request.setHeader("Cache-Control", "no-store")
        request.setHeader("X-Accel-Buffering", "no")
        if request.method == b"HEAD":
            events.close()
            request.finish()
            return False
        self._streams[writer] = arrival
        writer.start()
        if arrival.visitor.login and arrival.listener.logins is not None:
            logged_out = Deferred.fromCoroutine(
                self._logged_out(arrival.listener.logins, arrival.visitor.login)
            )
            logged_out.addCallbacks(lambda _: writer.finish(), self._check_ended)
            request.notifyFinish().addBoth(lambda _: logged_out.cancel())
        return True

    async def _logged_out(self, logins: LoginStore, key: str) -> None:
        """Wait for the end of a login, at another process or machine as well."""
        while True:
            await deferLater(self._clock, LOGIN_CHECK)
            with suppress(StateUnavailable):
                if await logins.find(key, is_use=False) is None:
                    return

    def _check_ended(self, failure: Any) -> None:
        if not failure.check(CancelledError):
            traceback = redact_text(failure.getTraceback())
            self._log.error("bug in the check of an event stream's login: {traceback}", traceback=traceback)

    def _stream_ended(self, user: tuple[str, str]) -> None:
        self._of_user[user] -= 1
        if not self._of_user[user]:
            del self._of_user[user]

    def _send_file(self, request: Any, file: StaticFile | None, security: Mapping[str, str]) -> None:
        if file is None or request.method not in (b"GET", b"HEAD"):
            self._send(request, _text_error(PortalError(404, "there is no such file")), security)
            return
        _prepare(request, PortalAnswer(200, file.content_type, b""), security)
        is_versioned = request.uri.startswith(self._assets.root.encode())
        lasting = "public, max-age=31536000, immutable"
        request.setHeader("Cache-Control", lasting if is_versioned else "public, max-age=3600")
        if request.setETag(file.etag.encode()) is None:
            request.setHeader("Content-Length", str(len(file.content)))
            request.write(file.content)
        request.finish()

    def _send(self, request: Any, answer: PortalAnswer, security: Mapping[str, str]) -> None:
        if request._disconnected:
            return
        _prepare(request, answer, security)
        is_picture = answer.content_type.startswith("image/")
        request.setHeader("Cache-Control", "private, max-age=30" if is_picture else "no-store")
        request.setHeader("Content-Length", str(len(answer.body)))
        request.write(answer.body)
        request.finish()


def _prepare(request: Any, answer: PortalAnswer, security: Mapping[str, str]) -> None:
    request.setResponseCode(answer.status)
    request.setHeader("Server", "esxiproxy")
    request.setHeader("Content-Type", answer.content_type)
    for name, value in security.items():
        request.setHeader(name, value)
    for field, content in answer.fields:
        request.responseHeaders.addRawHeader(field, content)


def _json_error(error: PortalError) -> PortalAnswer:
    return PortalAnswer.of({"error": str(error)}, error.status, error.fields)


def _text_error(error: PortalError) -> PortalAnswer:
    return PortalAnswer(error.status, _TEXT, f"{error}\n".encode(), error.fields)
