"""Types of routers and authenticators that tests install."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from esxiproxy.core.config.key import SectionKind


class PluginType:
    """A type with these keys, whose instances `make` returns."""

    help = "A type of a test."

    def __init__(
        self,
        name: str,
        *keys: Any,
        conflicts: Callable[..., Any] = lambda _settings, _names: (),
        make: Callable[..., Any] = lambda _settings, _context: None,
    ) -> None:
        self.name = name
        self.keys = keys
        self.conflicts = conflicts
        self.create = make


def types(routers: Any = (), authenticators: Any = ()) -> Any:
    """Return these types as `load` takes them."""
    return MappingProxyType(
        {
            SectionKind.ROUTER: {each.name: each for each in routers},
            SectionKind.AUTHENTICATOR: {each.name: each for each in authenticators},
        }
    )
