"""Asks the authenticators and routers of a listener about one session, each within its deadline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.core.coroutines import Rest, awaited_call, begin
from esxiproxy.core.errors import (
    AccessDenied,
    DecisionTimeout,
    Internal,
    MachineAmbiguous,
    MachineHidden,
    MachineNotFound,
    RouteNotFound,
    SessionError,
)
from esxiproxy.core.routing import UNRESTRICTED, Challenge, Principal, Route
from esxiproxy.core.session.connection_limits import ANONYMOUS_NAME
from esxiproxy.core.session.record import Kind
from esxiproxy.core.session.session import Session
from esxiproxy.net.sessions import log_bug


@dataclass(eq=False, slots=True)
class Plugin:
    """An authenticator or a router with the name of its section, for messages.

    ``ready`` is set while the plugin starts: no call is made before it fires.  ``reauthenticate`` is the time
    in seconds between two checks of a login, and ``grace`` the time for which a login counts that cannot be
    checked.
    """

    section: str
    instance: Any
    ready: Deferred[None] | None = None
    reauthenticate: float | None = None
    grace: float = 0.0


class Decision:
    """The decision on one session: the principal, and then the route, each call within ``decision_timeout``.

    Authenticators are asked in order until one knows the client, and routers until one has a route.
    ``router_cookies`` are the names of cookies that are for the routers.
    """

    _log = Logger()
    authenticator: Plugin | None = None
    """The authenticator that knows the client, from its answer on."""
    upgrades_only = False
    """Whether the router that has the route is for consoles only."""
    # A decision without a wait sets none of the following ones but _asked.
    _is_over = False
    _asked = ""
    _asked_at = 0.0
    _deciding: Deferred[Any] | None = None
    _result: Deferred[Any] | None = None
    _deadline: IDelayedCall | None = None

    def __init__(
        self,
        session: Session,
        authenticators: Sequence[Plugin],
        routers: Sequence[Plugin],
        clock: IReactorTime,
        router_cookies: frozenset[bytes] = frozenset(),
    ) -> None:
        self._session = session
        self._router_cookies = router_cookies
        self._authenticators = authenticators
        self._routers = routers
        self._clock = clock

    def start(self) -> tuple[Principal, Route] | Deferred[tuple[Principal, Route]]:
        """Return the decision, or what fires with it if a plugin waits for something.

        The Deferred fails with DecisionTimeout after its time, even if a plugin ignores its cancellation.
        """
        context = copy_context()  # a plugin's context variables are those of this session
        decided = context.run(begin, self._decide())
        return self._start(decided.steps(context.run)) if isinstance(decided, Rest) else decided

    async def authenticate(self) -> Principal:
        """Return the principal alone, as ``start`` does."""
        principal: Principal = await self._start(self._authenticate())
        return principal

    async def recognise(self) -> Principal | None:
        """Return the principal alone, or None for a client that no authenticator knows."""
        principal: Principal | None = await self._start(self._recognise())
        return principal

    def _start(
        self, steps: Coroutine[Deferred[Any], Any, Any] | Generator[Deferred[Any], Any, Any]
    ) -> Deferred[Any]:
        deciding: Deferred[Any] = Deferred.fromCoroutine(steps)
        if deciding.called:
            return deciding
        self._deciding = deciding
        result: Deferred[Any] = Deferred(lambda _: self._give_up(CancelledError()))
        self._result = result
        self._asked_at = self._clock.seconds()
        self._deadline = self._clock.callLater(self._session.limits.decision_timeout, self._expire)
        deciding.addBoth(self._finish)
        return result

    async def _decide(self) -> tuple[Principal, Route]:
        """Ask the authenticators, and then the routers unless the decision was given up meanwhile."""
        session = self._session
        principal = await self._recognise()
        if principal is None:
            raise self._unauthenticated()
        missing: MachineNotFound | None = None
        """The answer of a router that does not know the machine, which the next one of its type may know."""
        asked: type | None = None
        for plugin in self._routers:
            if asked is not None and type(plugin.instance) is not asked:
                continue
            if (starting := self._begin(plugin)) is not None:
                await starting
                self._check_over()
            try:
                route = await plugin.instance.route(session.request, principal)
                if self._is_over:
                    self._check_over()
                if route is not None:
                    if isinstance(route, Route) and route.acquire is not None:
                        acquire = partial(self._acquire, plugin, route.acquire, copy_context())
                        route = replace(route, acquire=acquire)
                    session.routed(route, plugin.section)
                    self.upgrades_only = getattr(plugin.instance, "upgrades_only", False)
                    return self._identified(principal, plugin, route), route
            except MachineAmbiguous:
                raise
            except MachineNotFound as error:
                if missing is None or isinstance(error, MachineHidden):
                    missing = error
                asked = type(plugin.instance)
            except Exception as error:
                raise self._explained(plugin, error) from None
        if missing is not None:
            try:
                raise missing
            finally:
                missing = None  # an exception that refers to this frame would be a reference cycle
        raise RouteNotFound("no router has a host for this request")

    async def _authenticate(self) -> Principal:
        principal = await self._recognise()
        if principal is None:
            raise self._unauthenticated()
        return principal

    async def _recognise(self) -> Principal | None:
        """Ask the authenticators in their order, and return the first principal."""
        session = self._session
        for plugin in self._authenticators:
            if (starting := self._begin(plugin)) is not None:
                await starting
                self._check_over()
            try:
                principal: Principal | None = await plugin.instance.authenticate(session.request)
                if self._is_over:
                    self._check_over()
                if principal is not None:
                    session.authenticated(principal)
                    if principal.authenticator != plugin.section and (
                        principal.authenticator not in getattr(plugin.instance, "vouches_for", ())
                    ):
                        principal = replace(principal, authenticator=plugin.section)
                        session.principal = principal
                    self.authenticator = plugin
                    return principal
            except Exception as error:
                raise self._explained(plugin, error) from None
        return None

    def _identified(self, principal: Principal, router: Plugin, route: Route) -> Principal:
        """Return the principal of the session, which a router may know as well.

        No cookie for a router is forwarded, whichever has the route: a browser sends the link of another
        console as well.  Raises AccessDenied if the router knows another principal, or if the console has a
        restriction that the proxy cannot enforce.
        """
        if route.policy is not UNRESTRICTED and route.policy != UNRESTRICTED:
            raise AccessDenied("the console has a restriction that this proxy cannot enforce")
        cookies = self._router_cookies
        known = route.principal
        if known is None and not cookies:
            return principal
        if known is not None and principal.name != ANONYMOUS_NAME and not _is_same(principal, known):
            raise AccessDenied("the console belongs to another user")
        if known is not None and principal.name == ANONYMOUS_NAME:
            principal = replace(
                known,
                authenticator=known.authenticator or router.section,
                consumed=known.consumed | principal.consumed,
                response_fields=known.response_fields + principal.response_fields,
            )
        consumed_cookies = principal.consumed_cookies | cookies
        principal = self._session.principal = replace(principal, consumed_cookies=consumed_cookies)
        return principal

    async def _acquire(
        self, plugin: Plugin, acquire: Callable[[], Awaitable[Route]], context: Context
    ) -> Route:
        """Return the final route of a session that has a slot of its host, such as one with a ticket."""
        seconds = self._session.limits.decision_timeout
        try:
            acquiring = context.run(Deferred.fromCoroutine, awaited_call(acquire))
            route = await acquiring.addTimeout(seconds, self._clock)
            if not isinstance(route, Route):
                raise TypeError(f"acquire() returned {type(route).__name__} instead of a Route")
            if route.policy != UNRESTRICTED:
                raise AccessDenied("the console has a restriction that this proxy cannot enforce")
            return route
        except TimeoutError:
            text = f"the {plugin.section} did not answer within {seconds:g} s"
            raise DecisionTimeout(text, timeout="decision_timeout") from None
        except Exception as error:
            raise self._explained(plugin, error) from None

    def _begin(self, plugin: Plugin) -> Deferred[None] | None:
        """Note which plugin is asked from now on, and return what fires when it has started."""
        self._asked = plugin.section
        if self._deadline is not None:
            self._asked_at = self._clock.seconds()
        return None if plugin.ready is None else _fired(plugin.ready)

    def _explained(self, plugin: Plugin, error: Exception) -> Exception:
        """Return the error to end the session with; log what is not a SessionError as a bug of the plugin."""
        if isinstance(error, SessionError | CancelledError):
            return error
        log_bug(self._log, f"the {plugin.section} failed", Failure(), self._session.id)
        return Internal("an internal error, see the log of the proxy")

    def _unauthenticated(self) -> AccessDenied:
        """Return the refusal of a client that no authenticator knows, with the challenges of all of them.

        A page is redirected if a challenge has a Location; an opening handshake never is.
        """
        is_page = self._session.kind is Kind.HTTP
        request = self._session.request
        fields: list[tuple[bytes, bytes]] = []
        for plugin in self._authenticators:
            challenge = getattr(plugin.instance, "challenge", None)
            if challenge is None:
                continue
            try:
                answer: Challenge | None = challenge(request)
                fields.extend(() if answer is None else answer.fields)
            except Exception:
                log_bug(self._log, f"challenge() of the {plugin.section} failed", Failure(), self._session.id)
        redirects = is_page and any(name.lower() == b"location" for name, _ in fields)
        error = AccessDenied("no authenticator knows the client", status=302 if redirects else 401)
        error.fields = tuple(each for each in fields if redirects or each[0].lower() != b"location")
        return error

    def _check_over(self) -> None:
        if self._is_over:  # the plugin has ignored its cancellation
            raise CancelledError

    def _expire(self) -> None:
        seconds = self._session.limits.decision_timeout
        if (rest := self._asked_at + seconds - self._clock.seconds()) > 0:
            self._deadline = self._clock.callLater(rest, self._expire)  # each plugin has its own deadline
            return
        message = f"the {self._asked} did not answer within {seconds:g} s"
        self._give_up(DecisionTimeout(message, timeout="decision_timeout"))

    def _give_up(self, error: Exception) -> None:
        deciding = self._deciding
        self._finish(Failure(error))
        if deciding is not None:
            deciding.cancel()

    def _finish(self, outcome: object) -> None:
        """Pass on the outcome, and keep nothing that would be a reference cycle."""
        result, self._result, self._deciding = self._result, None, None
        deadline, self._deadline = self._deadline, None
        self._is_over = True
        if deadline is not None and deadline.active():
            deadline.cancel()
        if result is not None:
            result.callback(outcome)


def _is_same(principal: Principal, known: Principal) -> bool:
    """Return whether a router means this principal: two authenticators may know two users of one name."""
    if known.authenticator:
        return principal.names[1] == known.names[1]
    return principal.name == known.name


def _fired(event: Deferred[None]) -> Deferred[None]:
    """Return a Deferred that fires after another one; cancelling it does not cancel the other one."""
    waiter: Deferred[None] = Deferred()

    def fire(outcome: None) -> None:
        if not waiter.called:
            waiter.callback(None)
        return outcome

    event.addBoth(fire)
    return waiter
