"""Makes links of a router of the type ``links``, for the terminal and for the admin API."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from esxiproxy.core.config.model import Config, Listener
from esxiproxy.core.config.plugin_type import PluginSection
from esxiproxy.core.config.router_keys import networks_of
from esxiproxy.core.errors import LinkInvalid
from esxiproxy.core.host_name import plain_host
from esxiproxy.core.http.link_place import LinkPlace
from esxiproxy.core.link import LEEWAY, LONGEST, MANY, make_token, new_id, read_claims, sealed_claims
from esxiproxy.core.link_keys import InvalidKeys, read_keys
from esxiproxy.core.networks import Networks
from esxiproxy.core.routing import Upstream
from esxiproxy.core.sealing import key_of
from esxiproxy.routers.links import OPAQUE_SPACE, destination_of
from esxiproxy.routers.vmrc_url import VmrcUnusable, vmrc_console

DEFAULT_TTL = 300.0
"""Seconds until a link expires by default."""
MAX_ID = 128
"""Characters of the id of a link."""


class LinkRefused(Exception):
    """The order cannot be carried out; the text gives the reason and what to do."""


@dataclass(frozen=True, slots=True)
class LinkOrder:
    """An order for a link.

    ``router`` is the name of a router.  ``to`` is ``HOST[:PORT][/PATH]``, where the path may be a ticket.
    ``ttl`` and ``reuse`` are in seconds; ``many`` lets the link work until it expires.  ``listener`` is the
    listener where several name the router.  ``vmrc`` asks for a URL for VMware Remote Console, with the path
    ``vmx`` of the machine's file in it.
    """

    router: str
    to: str = field(repr=False)
    ttl: float = DEFAULT_TTL
    reuse: float | None = None
    many: bool = False
    subject: str | None = None
    pins: tuple[str, ...] = ()
    net: str | None = None
    listener: str | None = None
    vmrc: bool = False
    vmx: str | None = None


@dataclass(frozen=True, slots=True)
class StoredClaims:
    """The sealed claims of an opaque link, which ``IState.put`` has to store before the link works."""

    space: str
    key: str
    value: str = field(repr=False)
    expires: float


@dataclass(frozen=True, slots=True)
class MadeLink:
    """A link.

    ``kind`` and ``field`` are the cookie or subprotocol that a client sends beside its URL.  ``vmrc`` is the
    URL for VMware Remote Console, if it was asked for.
    """

    url: str = field(repr=False)
    id: str
    expires: float
    kind: str
    vmrc: str | None = field(default=None, repr=False)
    field: str | None = field(default=None, repr=False)
    stored: StoredClaims | None = None


def link_router(config: Config, name: str) -> PluginSection:
    """Return the router of this name.  Raises LinkRefused if it is none of the type ``links``."""
    router = config.routers.get(name)
    if router is None or router.type.name != "links":
        links = [name for name, each in config.routers.items() if each.type.name == "links"]
        there = f"there is {', '.join(links)}" if links else "there is none"
        raise LinkRefused(f"{config.source} has no [router {name}] with type = links: {there}")
    return router


def make_link(config: Config, order: LinkOrder, time_of_day: Callable[[], float] = time.time) -> MadeLink:
    """Return a new link.  Raises LinkRefused or InvalidKeys.

    The keys of the router are read from their file.
    """
    router = link_router(config, order.router)
    settings = router.settings
    listener, public_url = _listener(config, router, order.listener)
    try:
        console = vmrc_console(listener, settings) if order.vmrc else None
    except VmrcUnusable as error:
        raise LinkRefused(str(error)) from None
    if order.vmx is not None and not order.vmrc:
        raise LinkRefused("vmx: only with vmrc, whose URL it stands in")
    template = config.upstreams[settings["template"]]
    claims = _claims(order, settings, template, time_of_day())
    try:
        link = read_claims(claims, settings["issuer"], settings["audience"], claims["iat"])
        destination = destination_of(link, template, networks_of(settings))
    except LinkInvalid as error:
        raise LinkRefused(error.detail) from None
    if not _may_be_dialled(link.host, destination.networks):
        raise LinkRefused(f"{link.host} is not in `allow` of the [{router.section}], or in its `deny`")
    stored = None
    if settings["opaque"]:
        text = new_id()
        sealed = sealed_claims(claims, text, router.section)
        stored = StoredClaims(OPAQUE_SPACE, key_of(text), sealed, link.expires + LEEWAY)
    else:
        text = _signed(claims, router)
    place: LinkPlace = settings["locate"]
    return MadeLink(
        place.url(public_url, text),
        link.id,
        link.expires,
        place.kind.value,
        None if console is None else console.url(text, order.vmx),
        place.field(text) or None,
        stored,
    )


def revoked_until(time_of_day: Callable[[], float] = time.time) -> float:
    """Return the time of day until which a revocation is stored: no link is valid for longer."""
    return time_of_day() + LONGEST + 2 * LEEWAY


def is_link_id(text: str) -> bool:
    """Return whether a text may be the id of a link."""
    return 0 < len(text) <= MAX_ID and text.isascii() and text.isprintable() and " " not in text


def _listener(config: Config, router: PluginSection, wanted: str | None) -> tuple[Listener, str]:
    """Return the listener that names a router, and its public URL."""
    found = [each for each in config.listeners if router in each.routers]
    names = ", ".join(each.name for each in found)
    if wanted is not None:
        found = [each for each in found if each.name == wanted]
    if not found:
        names = f": those that do are {names}" if names else ""
        which = "no listener names" if wanted is None else f"no [listener {wanted}] names"
        raise LinkRefused(f"{which} the [{router.section}] in its `router`{names}")
    if len(found) > 1:
        raise LinkRefused(f"several listeners name the [{router.section}]: choose with `listener`: {names}")
    if found[0].public_url is None:
        raise LinkRefused(
            f"[listener {found[0].name}] has no public_url, with which links begin: "
            "write public_url = https://consoles.example.com"
        )
    return found[0], found[0].public_url


def _may_be_dialled(host: str, networks: Networks) -> bool:
    """Return whether an address may be dialled; that of a name is known when a console opens."""
    try:
        return networks.permits(ip_address(host))
    except ValueError:
        return True


def _claims(order: LinkOrder, settings: Any, template: Upstream, now: float) -> dict[str, Any]:
    host, port, path = _target(order.to, 443 if template.secure else 80)
    claims: dict[str, Any] = {
        "iss": settings["issuer"],
        "aud": settings["audience"],
        "iat": now,
        "nbf": now,
        "exp": now + order.ttl,
        "jti": secrets.token_hex(16),
        "to": {"host": host, "port": port, "path": path},
    }
    optional = {"sub": order.subject, "pin": list(order.pins) or None, "net": order.net}
    claims.update({name: value for name, value in optional.items() if value is not None})
    if order.many or order.reuse is not None:
        claims["reuse"] = MANY if order.many else order.reuse
    return claims


def _target(text: str, port: int) -> tuple[str, int, str]:
    """Return host, port and path in ``HOST[:PORT][/PATH]``."""
    authority, slash, path = text.partition("/")
    host, colon, number = authority.rpartition(":")
    if authority.startswith("["):
        host, bracket, number = authority[1:].partition("]")
        colon, number = number[:1], number[1:]
        if not bracket or ":" not in host or colon not in ("", ":"):
            raise LinkRefused("to: an IPv6 address stands in brackets, as in [2001:db8::1]:443")
    elif not colon:
        host, number = authority, ""
    try:
        host = plain_host(host)
    except ValueError as error:
        raise LinkRefused(f"to: {error}: write HOST[:PORT][/PATH], as in esxi1.example.com") from None
    if colon:
        if not (number.isascii() and number.isdigit() and 0 < len(number) <= 5 and 0 < int(number) < 65536):
            raise LinkRefused("to: the port is no number from 1 to 65535")
        port = int(number)
    return host, port, f"{slash or '/'}{path}"


def _signed(claims: dict[str, Any], router: PluginSection) -> str:
    wanted = router.settings["signing_key"]
    if wanted is None:
        raise LinkRefused(
            f"[{router.section}] has no signing_key: name the KID of a private key in its `keys`"
        )
    try:
        return make_token(claims, read_keys(router.settings["keys"])[wanted])
    except KeyError:
        raise LinkRefused(f"{router.settings['keys']} has no key {wanted!r} any more") from None
    except InvalidKeys:
        raise
    except ValueError as error:
        raise LinkRefused(str(error)) from None
