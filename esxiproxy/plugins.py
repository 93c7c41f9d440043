"""Finds plugins by their name, ours and those of other packages.

A package offers one as an entry point (``[options.entry_points]`` in its setup.cfg) of the group

``esxiproxy.routers``, ``esxiproxy.authenticators``
    a callable that takes the Config and the Listener and gives an IRouter, an IAuthenticator;
``esxiproxy.services``
    a callable that takes the Config and the reactor and gives a Twisted IService, which is kept over a reload
    for as long as its name is among those in ``beside``.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

ROUTERS = "esxiproxy.routers"
AUTHENTICATORS = "esxiproxy.authenticators"
SERVICES = "esxiproxy.services"


class UnknownPlugin(LookupError):
    """No installed package offers a plugin of that name."""


def plugin(group: str, name: str) -> Any:
    """The callable that makes the plugin.  Raises UnknownPlugin, which says what there is."""
    found = entry_points(group=group, name=name)
    if not found:
        known = ", ".join(sorted({point.name for point in entry_points(group=group)})) or "none"
        raise UnknownPlugin(f"no plugin {name!r} in {group}; installed: {known}")
    return next(iter(found)).load()
