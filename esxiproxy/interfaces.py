"""The seams: what a router, an authenticator, an observer and a state promise, and what they are given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from zope.interface import Attribute, Interface

from esxiproxy.core.http.request import Request
from esxiproxy.core.routing import Principal, Route
from esxiproxy.core.session.claim import Claim
from esxiproxy.core.session.command import Command
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.core.session.record import Record
from esxiproxy.core.session.session import Session


class IAuthenticator(Interface):
    """Says who a client is."""

    def authenticate(request: Request) -> Awaitable[Principal]:
        """Who sends this request.

        Called once a session, before anything is dialled; has ``decision_timeout`` for it,
        and is cancelled after that, and when the client leaves.  Raises
        :class:`~esxiproxy.core.errors.AccessDenied`; any other exception counts as a bug and is answered with
        500.  The fields that the answer was read from belong into
        :attr:`~esxiproxy.core.routing.Principal.consumed`, so that they do not go upstream.
        """


class IRouter(Interface):
    """Says where a session goes."""

    def route(request: Request, principal: Principal) -> Awaitable[Route]:
        """The upstream, and the target to ask it for.

        Raises :class:`~esxiproxy.core.errors.RouteNotFound`; any other exception counts as a bug and is
        answered with 500.  Cancelled when the client leaves, or ``decision_timeout`` is over.
        """


class ISessionObserver(Interface):
    """Is told of every session; must not block, and what it raises is logged and changes nothing."""

    def opened(session: Session) -> None:
        """The console is open: both sides have their 101.

        Later on the head of ``session.request`` has no fields any more.
        """

    def closed(record: Record) -> None:
        """The session has ended, or was refused.

        Called once for every opening handshake and for every plain HTTP request, those with an unreadable
        head among them: ``record.kind`` tells them apart.
        """


class IState(Interface):
    """What several processes agree on: slots, used tokens, tickets, who has which session, and commands.

    Each process has one of these, which is a *holder*.  What it has, slots and entries, it has on a lease
    that the state renews by itself from ``start`` to ``stop``; when a holder is killed, its lease runs out,
    and all of it comes back: its slots are free, and its sessions are listed no more.  Nobody calls them lost
    before somebody knows that it is dead, and has it buried.  A holder that was only slow (a stopped process,
    a machine that slept) gets what it had again, even if a limit is exceeded by that: its sessions are there.

    Every call is asynchronous and ends within a few seconds.  When what is shared cannot be reached, it fails
    with :class:`~esxiproxy.core.errors.StateUnavailable`.  Nothing on the way of a frame calls any of this.
    """

    instance_id: str = Attribute("The name of this process, which no other one has.")

    def start(obey: Callable[[Command], None]) -> Awaitable[None]:
        """Take part.  From now on ``obey`` is called with every command for a session published here."""

    def stop() -> Awaitable[None]:
        """Give everything back, and take no further part.  Never fails."""

    def take(slot: str, claims: Sequence[Claim]) -> Awaitable[Claim | None]:
        """Take what is claimed, all of it or nothing, and have it under the name ``slot``.

        None when it is taken, and otherwise the first claim that could not be had.  A slot may take more
        later; what it has already under a name, it does not take twice.  Cancelled or failed, nothing of this
        call stays taken.
        """

    def give(slot: str) -> Awaitable[None]:
        """Give back all that is taken under this name, or nothing where there is none.

        Never fails: what cannot be given back now is given back as soon as the state is there again.
        """

    def in_use(names: Sequence[str]) -> Awaitable[Mapping[str, int]]:
        """How many slots are taken under each of these names of claims."""

    def use(token: str, seconds: float) -> Awaitable[bool]:
        """Mark a token as used, for so long as anybody might accept it.  True the first time only."""

    def keep(ticket: str, content: str, seconds: float) -> Awaitable[None]:
        """Keep what a ticket stands for until it expires; one that is kept already gets a new content."""

    def kept(ticket: str) -> Awaitable[str | None]:
        """What the ticket stands for; None if there is none, or none any more."""

    def redeem(ticket: str) -> Awaitable[str | None]:
        """The same, for one caller only: afterwards the ticket is gone."""

    def publish(entry: SessionEntry) -> Awaitable[None]:
        """List a session of this holder's.  Never fails, as ``give``."""

    def withdraw(session: str) -> Awaitable[None]:
        """Take it off the list.  Never fails, as ``give``."""

    def sessions() -> Awaitable[Sequence[SessionEntry]]:
        """The sessions of all holders, the oldest first."""

    def reclaim(holder: str) -> Awaitable[Sequence[SessionEntry]]:
        """Take back at once all that a holder had which is known to be dead; the sessions that it had listed.

        They are told for a day, whether its lease has run out meanwhile or not.  Whoever is told of a session
        here is the only one: a second call finds nothing.  A call that fails takes nothing from the next one.
        """

    def tell(command: Command) -> Awaitable[bool]:
        """Pass a command to whoever has the session, within seconds; False when nobody has it."""
