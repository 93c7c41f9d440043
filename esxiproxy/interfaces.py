"""The interfaces of authenticators, routers, session observers and shared state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zope.interface import Attribute, Interface

from esxiproxy.core.http.request import Request
from esxiproxy.core.routing import Identity, Principal, Route
from esxiproxy.core.session.claim import Claim, Outcome
from esxiproxy.core.session.command import Command, Selector
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.core.session.record import Record
from esxiproxy.core.session.session import Session


class IAuthenticator(Interface):
    """An object that identifies the client of a request.

    It may have three more attributes.  ``identity_fields`` are the names, in lower case, of fields in which
    it puts the client's name for upstreams; a client may not send them.  ``never_refuses`` is whether it
    admits every client; a plain request to a listener whose plugins refuse nothing gets a 426 at once.
    ``vouches_for`` has the sections of other authenticators, such as ``authenticator staff``, whose
    principals it returns.
    """

    ambient: bool = Attribute(
        "Whether a browser sends these credentials by itself, as it does with cookies and passwords. The "
        "listener then accepts its own origin only, unless `origins` is set.  A missing attribute is False."
    )

    def authenticate(request: Request) -> Awaitable[Principal | None]:
        """Return the principal that sends this request, or None if it has no credentials for this object.

        Called once for each session, before the upstream is dialled.  The call is cancelled when the client
        disconnects and after ``decision_timeout`` seconds.  After None the listener's next authenticator is
        asked.  If none knows the client, it is refused with status 401.

        Raise :class:`~esxiproxy.core.errors.AccessDenied` to refuse the client.  Any other exception is
        logged as a bug and answered with status 500.

        Put the names of the header fields that carry credentials for the proxy into
        :attr:`~esxiproxy.core.routing.Principal.consumed`: they are not forwarded to the upstream.

        An authenticator may also have a method ``challenge(request)``, which returns the
        :class:`~esxiproxy.core.routing.Challenge` for a client that no authenticator knows, or None.
        """


class IReauthenticator(Interface):
    """An authenticator that can check the login of an open console again."""

    def remember(request: Request, principal: Principal) -> object:
        """Return what ``reauthenticate`` needs.

        Called before the head of the request is forgotten, if ``reauthenticate`` is set.
        """

    def reauthenticate(remembered: Any) -> Awaitable[Principal | None]:
        """Return the principal of a login, or None if the login has ended.

        A login whose service cannot be asked raises
        :class:`~esxiproxy.core.errors.ServiceUnavailable`; the console then stays open for
        ``reauthenticate_grace``.
        """


class IPasswordCheck(Interface):
    """An authenticator that can check a name and a password."""

    def check_password(name: str, password: str, network: str | None) -> Awaitable[Principal | None]:
        """Return the principal of a name and its password, or None if they do not fit.

        ``network`` is the client's network, whose failures are slowed down.
        """


class IRouter(Interface):
    """An object that selects the upstream of a session."""

    ambient: bool = Attribute(
        "Whether the router reads credentials that a browser sends by itself, such as a cookie. The listener "
        "then accepts its own origin only, unless `origins` is set.  A missing attribute is False."
    )
    secrets: Sequence[tuple[str, bytes]] = Attribute(
        "Where the links or tokens of the router stand in a target: pairs of `path` and a prefix, or of "
        "`query` or `cookie` and a name. They are hidden in every log line and record, and cookies are not "
        "forwarded.  A missing attribute is empty."
    )
    consumed_cookies: frozenset[bytes] = Attribute(
        "Names of further cookies that are for the router: they are not forwarded, whichever router of the "
        "listener has the route.  A missing attribute is empty."
    )
    upgrades_only: bool = Attribute(
        "Whether the router is for consoles only, so that plain requests to its targets are never forwarded. "
        "A missing attribute is False."
    )

    def route(request: Request, principal: Principal) -> Awaitable[Route | None]:
        """Return the upstream of this session and, optionally, the request target to send to it.

        None means that the request is not for this router; the listener's next router is asked.

        Called once for each session, after ``authenticate``.  The call is cancelled when the client
        disconnects and after ``decision_timeout`` seconds.

        Raise :class:`~esxiproxy.core.errors.RouteNotFound` when there is no upstream for the request.  Any
        other exception is logged as a bug and answered with status 500.
        """


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request of :class:`IHttpClient`: status, fields in their order, and body."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes


class IHttpClient(Interface):
    """An HTTP client with pooled connections, for requests of the proxy itself."""

    def request(
        method: str,
        url: str,
        fields: Sequence[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        timeout: float = 10.0,
        max_body: int = 1 << 20,
        identity: Identity | None = None,
        socket: Path | None = None,
    ) -> Awaitable[Answer]:
        """Send a request and return its answer; redirects are not followed.

        ``timeout`` is in seconds and covers everything.  An answer of more than ``max_body`` bytes is an
        error.  ``identity`` says how the server's certificate is verified, by default by the authorities of
        the machine.  ``socket`` is the path of a unix socket to connect to.  Raises
        :class:`~esxiproxy.core.errors.ServiceUnavailable`.
        """


class ISessionObserver(Interface):
    """An object that is notified when a session opens and when it ends.

    The methods must not block.  An exception that they raise is logged and does not affect the session.

    An observer may also have a method ``refused(limit)``.  It is called at each refusal under a limit on
    sessions or connections, with the configuration key of the limit, or with ``descriptors``.
    """

    def opened(session: Session) -> None:
        """Handle the opening of a console: client and upstream have both completed the WebSocket handshake.

        The header fields of ``session.request`` are discarded after this call.
        """

    def closed(record: Record) -> None:
        """Handle the end of a session, or its refusal.

        Called once for every opening handshake and every plain HTTP request, also if its head could not be
        parsed.  ``record.kind`` distinguishes consoles from HTTP requests.
        """


class IState(Interface):
    """The state that several processes share: slots, marks, items, leaders, live sessions and commands.

    Each process has one instance, which is called a *holder*.  Slots and published sessions belong to their
    holder for the time of a lease, which the instance renews between ``start`` and ``stop``.  After a holder
    has crashed, its lease expires: its slots become free and its sessions are no longer listed.  These
    sessions are not reported as lost until another process calls ``reclaim`` for the holder, or
    ``reclaim_expired`` long after that.  A holder that was only suspended gets its slots and sessions back
    when it continues, even if that exceeds a limit.

    Every call is asynchronous and ends within a few seconds.  It fails with
    :class:`~esxiproxy.core.errors.StateUnavailable` when the shared storage cannot be reached.  No call is
    made while a frame is relayed.
    """

    instance_id: str = Attribute("The unique name of this process.")
    admits_when_down: bool = Attribute("Whether consoles are admitted while the storage is away.")
    since: float = Attribute("The time of day since which no used mark is missing; infinite while unknown.")

    def start(obey: Callable[[Command], None]) -> Awaitable[None]:
        """Begin to take part; ``obey`` is called with each command for sessions of this holder."""

    def stop() -> Awaitable[None]:
        """Release everything that this holder has, and stop to take part.  Never fails."""

    def take(slot: str, claims: Sequence[Claim]) -> Awaitable[Claim | None]:
        """Acquire all of the claims or none of them, under the name ``slot``.

        Return None on success, and otherwise the first claim that could not be acquired.  Further claims may
        be added to a slot later; a claim that the slot already has is not acquired twice.  If the call is
        cancelled or fails, the slot keeps none of its claims.
        """

    def first_refused(claims: Sequence[Claim]) -> Awaitable[Claim | None]:
        """Return the first claim that a new slot could not acquire now, or None; acquire none of them."""

    def give(slot: str, outcome: Outcome = Outcome.DONE) -> Awaitable[None]:
        """Release all claims of this slot; do nothing if it has none.

        ``outcome`` decides whether its marks may be taken again.  A holder that crashed or stopped has
        disconnected: the outcome of its slots is ``DONE``.

        Never fails: if the storage cannot be reached, the slot is released when it is reachable again.
        """

    def in_use(names: Sequence[str]) -> Awaitable[Mapping[str, int]]:
        """Return the number of slots that are in use for each of these claim names."""

    def put(
        space: str, key: str, value: str, expires: float, new: bool = False, before: str | None = None
    ) -> Awaitable[bool]:
        """Store a value under a key until a time of day, which may be infinite, and return True.

        A value that was stored before is replaced.  With ``new`` it stays, and the result is False.  With
        ``before``, nothing is stored and the result is False unless the value is this one.  The key of a
        secret is :func:`~esxiproxy.core.sealing.key_of` the secret.  A value that holds a secret is sealed.
        """

    def get(space: str, key: str) -> Awaitable[str | None]:
        """Return the value of a key; None if there is none or it has expired."""

    def pop(space: str, key: str) -> Awaitable[str | None]:
        """Return the value of a key as ``get`` does, and delete it; only one caller receives it."""

    def remove(space: str, key: str) -> Awaitable[None]:
        """Delete the value of a key, if there is one."""

    def items(space: str, after: str, most: int) -> Awaitable[Sequence[tuple[str, str]]]:
        """Return the keys of a space after this one, with their values, in their order.

        At most ``most`` pairs are returned.  The first page is that after the empty key.
        """

    def lead(task: str) -> Awaitable[bool]:
        """Return whether this holder leads a task, which one holder of all does.

        The first holder that asks is the leader until it stops or its lease ends.  Ask before each run.
        """

    def publish(entry: SessionEntry) -> Awaitable[None]:
        """Add a session of this holder to the list of live sessions.  Never fails, as ``give``."""

    def withdraw(session: str) -> Awaitable[None]:
        """Remove a session of this holder from the list of live sessions.  Never fails, as ``give``."""

    def sessions(
        after: str = "", most: int | None = None, where: Selector | None = None
    ) -> Awaitable[Sequence[SessionEntry]]:
        """Return the live sessions of all holders that a selector selects, the oldest first.

        ``after`` is the ``cursor`` of the last entry of the page before, and ``most`` the length of a page.
        """

    def report(figures: Mapping[str, float]) -> Awaitable[None]:
        """Store figures of this holder, such as totals, for 15 s.  Called every 5 s."""

    def reports() -> Awaitable[Mapping[str, Mapping[str, float]]]:
        """Return the figures of all holders that reported within the last 15 s, by their id."""

    def reclaim(holder: str) -> Awaitable[Sequence[SessionEntry]]:
        """Release everything held by a dead process and return the sessions it had published, oldest first.

        Each session is returned by one call only, for up to a day after its lease has expired.  If a call
        fails, the next one returns the sessions.
        """

    def reclaim_expired(seconds: float) -> Awaitable[Sequence[SessionEntry]]:
        """Return the sessions of one holder whose expired lease was found ``seconds`` ago or earlier.

        The result is empty when there is no such holder.  Each session is returned by one call only, of this
        method or of ``reclaim``.  A holder that has continued meanwhile has no lost sessions.
        """

    def tell(command: Command) -> Awaitable[bool]:
        """Deliver a command to the holder of its session within seconds; return False if there is none.

        A command with a selector is delivered to every holder, this one included, and the result is True.
        """
