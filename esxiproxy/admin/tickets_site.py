"""The site on the private socket that routers ask for machines and tickets, on twisted.web."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import resource, server

from esxiproxy.admin.site import AdminRequest
from esxiproxy.admin.tickets import ConsoleTickets

_REQUEST_TIMEOUT = 60
"""Seconds for a whole question; twisted.web does not count while it is answered."""


class TicketsSite(server.Site):
    """The factory of the connections, without an access log.

    Each question has its own connection: a client cannot know whether one that was open has ended meanwhile,
    and a question for a ticket is not repeated.  A question whose connection ends is given up.
    """

    noisy = False
    displayTracebacks = False

    def __init__(self, tickets: ConsoleTickets, reactor: Any) -> None:
        self._questions = _Questions(tickets)
        super().__init__(
            self._questions, requestFactory=AdminRequest, timeout=_REQUEST_TIMEOUT, reactor=reactor
        )

    @property
    def in_flight(self) -> int:
        """The number of questions that have no answer yet."""
        return self._questions.in_flight

    def log(self, request: Any) -> None:
        """Write nothing."""


class _Questions(resource.Resource):
    isLeaf = True
    _log = Logger()

    def __init__(self, tickets: ConsoleTickets) -> None:
        super().__init__()
        self._tickets = tickets
        self.in_flight = 0

    def render(self, request: Any) -> Any:
        request.channel.persistent = False
        request.setHeader("Connection", "close")
        if request.method != b"POST" or request.is_too_long:
            request.setResponseCode(413 if request.is_too_long else 405)
            request.setHeader("Allow", "POST")
            return b""
        path = request.uri.decode("latin-1")
        answering = Deferred.fromCoroutine(self._tickets.answer(path, request.content.read()))
        lost = request.notifyFinish()
        lost.addErrback(lambda _: answering.cancel())
        self.in_flight += 1
        answering.addBoth(self._answered)
        answering.addCallbacks(self._send, self._failed, callbackArgs=(request,), errbackArgs=(request,))
        return server.NOT_DONE_YET

    def _answered(self, outcome: Any) -> Any:
        self.in_flight -= 1
        return outcome

    def _send(self, answer: tuple[int, bytes], request: Any) -> None:
        if request._disconnected:
            return
        status, body = answer
        request.setResponseCode(status)
        request.setHeader("Content-Type", "application/json")
        request.setHeader("Content-Length", str(len(body)))
        request.write(body)
        request.finish()

    def _failed(self, failure: Failure, request: Any) -> None:
        if not failure.check(CancelledError):
            self._log.failure("cannot answer a question for a ticket", failure)
        if not request._disconnected:
            self._send((500, b"{}"), request)
