"""A router that reads hosts from the token files of websockify."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from twisted.internet.defer import Deferred
from zope.interface import implementer

from esxiproxy.core.config.consistency import template_conflicts
from esxiproxy.core.config.router_keys import ALLOW, DENY, TEMPLATE_KEY, networks_of
from esxiproxy.core.errors import RouteNotFound, ServiceUnavailable, SessionError
from esxiproxy.core.http.request import Request
from esxiproxy.core.locate import Locate, LocateKind
from esxiproxy.core.networks import Networks
from esxiproxy.core.routing import Destination, Principal, Route, TCPAddress, Upstream, Verify
from esxiproxy.core.websockify_tokens import (
    MAX_FAULTS,
    Tokens,
    TokenSourceError,
    read_tokens,
    token_target,
)
from esxiproxy.interfaces import IRouter
from esxiproxy.plugins import ROUTER, Context, Key, Names, SectionValues, path

_LOCATE = Locate(LocateKind.QUERY, b"token")


@implementer(IRouter)
class TokensRouter:
    """A router that finds the host of a session by a token in a file, or in the files of a folder.

    The files are read by the first request after a change.
    """

    ambient = False
    upgrades_only = True
    secrets = _LOCATE.secrets
    consumed_cookies = _LOCATE.cookies

    def __init__(self, source: Path, template: Upstream, networks: Networks, context: Context) -> None:
        self._source = source
        self._template = template
        self._networks = networks
        self._context = context
        self._tokens: Tokens | None = None
        self._version = 0
        self._waiting: list[Deferred[None]] | None = None
        self._logged = ""
        context.watch(source, self._changed)

    async def route(self, request: Request, principal: Principal) -> Route | None:
        token = _LOCATE.find(request)
        if token is None:
            return None
        text = (await self._current()).targets.get(token.rstrip("\n"))
        if text is None:
            raise RouteNotFound("there is no such token")
        try:
            found = token_target(text)
        except ValueError as error:
            raise RouteNotFound(str(error)) from None
        address = TCPAddress(found.host, found.port)
        destination = Destination(
            (address,), found.secure, self._template.identity, found.host, self._template, self._networks
        )
        return Route(destination, _LOCATE.target(request) if found.target is None else found.target)

    def _changed(self) -> None:
        self._version += 1
        self._tokens = None

    async def _current(self) -> Tokens:
        """Return the tokens of now.  Raise ServiceUnavailable if they cannot be read."""
        while (tokens := self._tokens) is None:
            await self._reading()
        return tokens

    def _reading(self) -> Deferred[None]:
        """Return a Deferred that fires when the files were read.

        Requests that wait share one reading, which continues when one of them is cancelled.
        """
        waiter: Deferred[None] = Deferred()
        if self._waiting is not None:
            self._waiting.append(waiter)
            return waiter
        self._waiting = [waiter]
        Deferred.fromCoroutine(self._read())
        return waiter

    async def _read(self) -> None:
        version, error = self._version, None
        try:
            tokens = await self._context.in_thread(read_tokens, self._source)
        except TokenSourceError as found:
            error = str(found)
        except SessionError as found:  # too many calls wait for a thread
            error = f"{self._source} cannot be read: {found}"
        except Exception:
            error = f"{self._source} cannot be read: see the log"
            self._context.log.failure("cannot read {source}", source=str(self._source))
        else:
            if version == self._version:
                self._tokens = tokens
            self._report(tokens)
        if error is not None and error != self._logged:
            self._context.log.error("{error}: every token is refused", error=error)
        self._logged = error or ""
        waiting, self._waiting = self._waiting or [], None
        for waiter in waiting:
            if waiter.called:  # it was cancelled
                continue
            if error is None:
                waiter.callback(None)
            else:
                waiter.errback(ServiceUnavailable(error))

    def _report(self, tokens: Tokens) -> None:
        for place in tokens.faults:
            self._context.log.error("{place}: is no line TOKEN: TARGET and is not used", place=place)
        if len(tokens.faults) >= MAX_FAULTS:
            self._context.log.error("{source} may have more such lines", source=str(self._source))


class TokensType:
    """The type ``tokens``."""

    name = "tokens"
    help = "Sends sessions to the hosts of websockify's token files, by the parameter `token` of the query."
    keys = (
        Key(
            "source",
            ROUTER,
            path("file or folder"),
            None,
            "A token file of websockify, or a folder with such files. A line is `TOKEN: TARGET`. The target "
            "has to be a WebSocket server: `HOST:PORT` is `wss://HOST:PORT` with the path of the client, and "
            "a `ws://` or `wss://` URL is taken with its path. A raw TCP target (VNC, a unix socket) cannot "
            "be used. A change is in force for the next console.",
            required=True,
        ),
        TEMPLATE_KEY,
        ALLOW,
        DENY,
    )

    def conflicts(self, settings: SectionValues, names: Names) -> Iterator[tuple[str, str]]:
        """Yield a template that does not exist or verifies no host, and a source that does not exist."""
        yield from template_conflicts("template", settings, names)
        template = names.upstreams.get(settings["template"])
        if template is not None and template.verify is Verify.PIN and not template.pins:
            yield "template", f"verify = pin needs a pin in [upstream {template.name}]: a token has none"
        try:
            if not settings["source"].exists():
                yield "source", f"no such file or folder: {settings['source']}"
        except (OSError, ValueError) as error:
            yield "source", f"cannot be read: {getattr(error, 'strerror', None) or error}"

    def create(self, settings: SectionValues, context: Context) -> TokensRouter:
        """Return the router."""
        template = context.upstreams[settings["template"]]
        return TokensRouter(settings["source"], template, networks_of(settings), context)


TYPE = TokensType()
