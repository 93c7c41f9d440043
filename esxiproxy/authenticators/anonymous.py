"""An authenticator that admits every client; the ESXi ticket in the target authorizes the console."""

from __future__ import annotations

from zope.interface import implementer

from esxiproxy.core.http.request import Request
from esxiproxy.core.routing import Principal
from esxiproxy.interfaces import IAuthenticator
from esxiproxy.plugins import Context, Key, Names, SectionValues


@implementer(IAuthenticator)
class Anonymous:
    """An authenticator that returns one anonymous principal for every client."""

    ambient = False
    never_refuses = True

    def __init__(self, section: str = "authenticator") -> None:
        self._principal = Principal("anonymous", authenticator=section)

    async def authenticate(self, request: Request) -> Principal:
        return self._principal


class AnonymousType:
    """The type ``anonymous``."""

    name = "anonymous"
    help = "Admits every client: the ticket in the target authorizes the console."
    keys: tuple[Key, ...] = ()

    def conflicts(self, settings: SectionValues, names: Names) -> tuple[tuple[str, str], ...]:
        """Return nothing: there are no keys."""
        return ()

    def create(self, settings: SectionValues, context: Context) -> Anonymous:
        """Return the authenticator."""
        return Anonymous(context.section)


TYPE = AnonymousType()
