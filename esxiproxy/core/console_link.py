"""Links that open the console of one machine once: made for the portals of others, opened by a router.

A link is a random id.  The machine and the principal stand sealed in the state, and no ticket does.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass, field
from typing import Any, TypeVar

from esxiproxy.core.errors import LinkExpired, LinkInvalid
from esxiproxy.core.routing import Principal
from esxiproxy.core.sealing import key_of, seal, unseal

T = TypeVar("T")

SPACE = "console_links"
"""The space of the state with the sealed links, by the digests of their ids."""
PATH = b"/c/"
"""The path in front of an id."""
DEFAULT_TTL = 60.0
"""Seconds within which a link has to be opened by default."""
LONGEST_TTL = 3600.0
"""Maximum number of seconds within which a link has to be opened."""
_LABEL = "esxiproxy console link"
_ID = re.compile(rb"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class ConsoleLink:
    """The content of a link: the machine as ``SECTION/UUID``, who opens it, and the time of its expiry."""

    machine: str
    principal: Principal
    expires: float

    @property
    def text(self) -> str:
        """The content as JSON."""
        principal = self.principal
        return json.dumps(
            {
                "machine": self.machine,
                "name": principal.name,
                "authenticator": principal.authenticator,
                "groups": sorted(principal.groups),
                "login": principal.login,
                "login_expires": None if principal.expires is None else float(principal.expires),
                "expires": float(self.expires),
            }
        )


@dataclass(frozen=True, slots=True)
class MintedLink:
    """A new link, which works as soon as ``IState.put`` has stored its value.

    ``url`` and ``value`` are secrets.  ``expires`` is a time of day.
    """

    url: str = field(repr=False)
    expires: float
    key: str
    value: str = field(repr=False)
    space: str = SPACE


def mint_console_link(
    machine: str, principal: Principal, public_url: str, now: float, ttl: float = DEFAULT_TTL
) -> MintedLink:
    """Return a link for a machine, ``SECTION/UUID``, that a principal may open.

    ``public_url`` is that of a listener whose router opens such links.  ``now`` is the time of day.  Raises
    ValueError for a lifetime that is too long.
    """
    if not 0 < ttl <= LONGEST_TTL:
        raise ValueError(f"a link lives for more than 0 and at most {LONGEST_TTL:g} seconds")
    link = secrets.token_urlsafe(32)
    content = ConsoleLink(machine, principal, now + ttl)
    sealed = seal(content.text, link, _LABEL)
    return MintedLink(f"{public_url}{PATH.decode()}{link}", content.expires, key_of(link), sealed)


def link_in(target: bytes) -> str | None:
    """Return the id of a link in a request target; None if there is nothing in the form of one."""
    path = target.partition(b"?")[0]
    link = path.removeprefix(PATH) if path.startswith(PATH) else b""
    return link.decode("ascii") if _ID.fullmatch(link) else None


def open_console_link(stored: str | None, link: str, now: float) -> ConsoleLink:
    """Return the content of a link, as it is stored.  Raises LinkInvalid or LinkExpired."""
    try:
        found = json.loads(unseal(stored or "", link, _LABEL))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise LinkInvalid("there is no such link, or it was opened or has expired")
    machine, name, authenticator, login = (
        _checked(found.get(key), str) for key in ("machine", "name", "authenticator", "login")
    )
    groups = frozenset(_checked(group, str) for group in _checked(found.get("groups"), list))
    ends = None if found.get("login_expires") is None else _checked(found["login_expires"], float)
    expires = _checked(found.get("expires"), float)
    if now >= expires or (ends is not None and now >= ends):
        raise LinkExpired("the link has expired")
    return ConsoleLink(
        machine, Principal(name, frozenset(), groups, authenticator, ends, login=login), expires
    )


def _checked(value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise LinkInvalid("the link was made by another version of the proxy")
    return value
