"""The seams: what a router, an authenticator and an observer promise, and what they are given."""

from __future__ import annotations

from collections.abc import Awaitable

from zope.interface import Interface

from esxiproxy.core.record import Record
from esxiproxy.core.request import Request
from esxiproxy.core.routing import Principal, Route
from esxiproxy.core.session import Session


class IAuthenticator(Interface):
    """Says who a client is."""

    def authenticate(request: Request) -> Awaitable[Principal]:
        """Who sends this request.

        Called once a session, before anything is dialled; may take its time, and is cancelled when the client
        leaves.  Raises :class:`~esxiproxy.core.errors.AccessDenied`; any other exception counts as a bug and
        is answered with 500.  The fields that the answer was read from belong into
        :attr:`~esxiproxy.core.routing.Principal.consumed`, so that they do not go upstream.
        """


class IRouter(Interface):
    """Says where a session goes."""

    def route(request: Request, principal: Principal) -> Awaitable[Route]:
        """The upstream, and the target to ask it for.

        Raises :class:`~esxiproxy.core.errors.RouteNotFound`; any other exception counts as a bug and is
        answered with 500.  Cancelled when the client leaves.
        """


class ISessionObserver(Interface):
    """Is told of every session; must not block, and what it raises is logged and changes nothing."""

    def opened(session: Session) -> None:
        """The console is open: both sides have their 101."""

    def closed(record: Record) -> None:
        """The session has ended, or was refused.

        Called once for every opening handshake and for every plain HTTP request, those with an unreadable
        head among them: ``record.kind`` tells them apart.
        """
