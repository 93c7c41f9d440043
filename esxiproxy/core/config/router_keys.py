"""The keys that routers share: the template of their hosts, and the networks that may be dialled."""

from __future__ import annotations

from ipaddress import ip_network

from esxiproxy.core.config.errors import BadValue, shown
from esxiproxy.core.config.key import ROUTER, TEMPLATE, Key, plain
from esxiproxy.core.config.section import SectionValues
from esxiproxy.core.networks import Network, Networks


def networks(text: str) -> tuple[Network, ...]:
    """Return networks and addresses that are separated by commas.  Raise BadValue."""
    return tuple(_network(part.strip()) for part in text.split(","))


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        hint = "has host bits set" if "host bits" in str(error) else "is no network"
        raise BadValue(f"{shown(text)} {hint}: write 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32")


NETWORKS = plain("networks", networks)

TEMPLATE_KEY = Key(
    "template",
    ROUTER,
    TEMPLATE,
    None,
    "NAME of the upstream whose settings all hosts share. It needs neither `url` nor `pin`.",
    required=True,
)
ALLOW = Key(
    "allow",
    ROUTER,
    NETWORKS,
    None,
    "Networks whose addresses may be dialled, separated by commas, as in `10.20.0.0/16, 2001:db8::/32`. Every"
    " address of a name is checked. Loopback, link-local and other special addresses have to be listed too.",
    required=True,
)
DENY = Key(
    "deny",
    ROUTER,
    NETWORKS,
    None,
    "Networks whose addresses are never dialled, separated by commas. `deny` precedes `allow`.",
)


def networks_of(settings: SectionValues) -> Networks:
    """Return the rule of the keys ``allow`` and ``deny`` of a section."""
    return Networks(allow=settings["allow"], deny=settings["deny"] or ())
