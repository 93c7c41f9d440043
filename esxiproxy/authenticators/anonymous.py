"""The authenticator that lets everybody in: the ticket in the target is what opens a console."""

from __future__ import annotations

from zope.interface import implementer

from esxiproxy.core.config.loader import Config, Listener
from esxiproxy.core.http.request import Request
from esxiproxy.core.routing import Principal
from esxiproxy.interfaces import IAuthenticator

ANONYMOUS = Principal("anonymous")


@implementer(IAuthenticator)
class Anonymous:
    """Everybody is the same nobody."""

    async def authenticate(self, request: Request) -> Principal:
        return ANONYMOUS


def from_config(config: Config, listener: Listener) -> Anonymous:
    """There is nothing to configure."""
    return Anonymous()
