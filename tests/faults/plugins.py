"""Plugins that do what plugins should not."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from esxiproxy.core.errors import AccessDenied, LimitReached, RouteNotFound, StateUnavailable
from esxiproxy.core.routing import Principal
from esxiproxy.interfaces import IAuthenticator, IRouter
from tests.support.plugin_types import PluginType


@implementer(IAuthenticator, IRouter)
class Plugin:
    """An authenticator or a router that answers with what `answer` gives or raises."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def authenticate(self, request: Any) -> Any:
        return await self._answer(request)

    async def route(self, request: Any, principal: Any) -> Any:
        return await self._answer(request)


async def raises(request: Any) -> Any:
    raise RuntimeError(f"a bug, with {request.head.target!r} in it")


async def never(_request: Any) -> Any:
    await Deferred()


async def nonsense(_request: Any) -> Any:
    return 42


async def denies(_request: Any) -> Any:
    raise AccessDenied("who are you?", status=401)


async def forbids(_request: Any) -> Any:
    raise AccessDenied("not there")


async def finds_none(_request: Any) -> Any:
    raise RouteNotFound("no such machine")


async def is_full(_request: Any) -> Any:
    raise LimitReached("no seat is left")


async def is_cut_off(_request: Any) -> Any:
    raise StateUnavailable("the directory does not answer")


async def exits(_request: Any) -> Any:
    raise SystemExit(3)


async def named_none(_request: Any) -> Any:
    return Principal(None)  # type: ignore[arg-type]


ANSWERS = {
    answer.__name__.replace("_", "-"): answer
    for answer in (
        raises,
        never,
        nonsense,
        denies,
        forbids,
        finds_none,
        is_full,
        is_cut_off,
        exits,
        named_none,
    )
}


def __getattr__(name: str) -> Any:
    """Return an entry point by its name: `make_raises` creates plugins that raise, and so on."""
    if name.startswith("make_"):
        kind = name.removeprefix("make_").replace("_", "-")
        return PluginType(kind, make=lambda _settings, _context: Plugin(ANSWERS[kind]))
    raise AttributeError(name)


OFFERED = {
    group: {name: f"tests.faults.plugins:make_{name.replace('-', '_')}" for name in ANSWERS}
    for group in ("esxiproxy.routers", "esxiproxy.authenticators")
}
