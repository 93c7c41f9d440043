"""An authenticator that admits every client; the ESXi ticket in the target authorizes the console."""

from __future__ import annotations

from zope.interface import implementer

from esxiproxy.core.config.loader import Config, Listener
from esxiproxy.core.http.request import Request
from esxiproxy.core.routing import Principal
from esxiproxy.interfaces import IAuthenticator

ANONYMOUS = Principal("anonymous")


@implementer(IAuthenticator)
class Anonymous:
    """An authenticator that returns one anonymous principal for every client."""

    ambient = False

    async def authenticate(self, request: Request) -> Principal:
        return ANONYMOUS


def from_config(config: Config, listener: Listener) -> Anonymous:
    """Return the authenticator; it has no settings."""
    return Anonymous()
