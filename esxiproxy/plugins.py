"""Finds plugins by name, those of this package and of others.

A package declares a plugin as an entry point, in its pyproject.toml or setup.cfg, of one of these groups:

``esxiproxy.routers``, ``esxiproxy.authenticators``
    a callable that takes the Config and the Listener, and returns an IRouter or an IAuthenticator;
``esxiproxy.services``
    a callable that takes the Config and the reactor, and returns a Twisted IService.  A reload keeps the
    service while its name is among those in ``services``.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

ROUTERS = "esxiproxy.routers"
AUTHENTICATORS = "esxiproxy.authenticators"
SERVICES = "esxiproxy.services"


class UnknownPlugin(LookupError):
    """No installed package has a plugin of that name."""


def load_plugin(group: str, name: str) -> Any:
    """Return the callable of a plugin.  Raises UnknownPlugin, whose text lists the installed plugins."""
    found = entry_points(group=group, name=name)
    if not found:
        known = ", ".join(sorted({point.name for point in entry_points(group=group)})) or "none"
        raise UnknownPlugin(f"no plugin {name!r} in {group}; installed: {known}")
    return next(iter(found)).load()
