"""The keys of a listener that changes tickets in answers of vCenter or ESXi, and their checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum

from esxiproxy.core.config.consistency import Conflict
from esxiproxy.core.config.key import CERTIFICATES, LISTENER, Key, choice
from esxiproxy.core.config.plugin_type import PluginSection
from esxiproxy.core.config.router_keys import NETWORKS
from esxiproxy.core.config.section import SectionValues
from esxiproxy.core.http.paths import is_under
from esxiproxy.core.http.policy import Http

TICKETS = b"/ticket/"
"""The path below which clients open consoles."""
ROUTER_TYPE = "issued"
"""The type of the router that opens the consoles of these tickets."""


class Tickets(Enum):
    """The treatment of tickets in answers to forwarded HTTP requests."""

    PASS = "pass"
    """Tickets name the host."""
    REWRITE = "rewrite"
    """Tickets name the proxy."""


TICKET_KEYS = (
    Key(
        "tickets",
        LISTENER,
        choice(Tickets),
        "pass",
        "With `http = forward` to vCenter or ESXi: whether console tickets in the answers of AcquireTicket,"
        " AcquireMksTicket and the REST interface name the host (`pass`), or the proxy (`rewrite`). The"
        " consoles are opened by a router `issued`. Other answers are not changed.",
    ),
    Key(
        "tickets_allow",
        LISTENER,
        NETWORKS,
        None,
        "Networks of the hosts whose tickets are passed on, separated by commas, as in `10.20.0.0/16`. A"
        " ticket for another host is refused. Required by `tickets = rewrite`.",
    ),
    Key(
        "public_certificate",
        LISTENER,
        CERTIFICATES,
        None,
        "The certificate that clients of `public_url` get, where another proxy in front ends TLS. Tickets"
        " and links for VMRC have its thumbprints. The default is `certificate`.",
    ),
)


def issued_conflicts(listener: SectionValues, routers: Sequence[PluginSection]) -> Iterator[Conflict]:
    """Yield what keeps a router of this type among those of a listener from opening any console."""
    types = [router.type.name for router in routers]
    if ROUTER_TYPE not in types:
        return
    place = types.index(ROUTER_TYPE)
    if "static" in types[:place]:
        name = routers[place].settings.name
        yield "router", f"static answers every request, so {name} behind it is never asked: name {name} first"
    if listener["paths"] and not any(is_under(TICKETS, prefix) for prefix in listener["paths"]):
        yield "paths", "leaves out /ticket, where clients open the consoles of their tickets"


def issued_warnings(router: PluginSection, listeners: Sequence[SectionValues]) -> Iterator[Conflict]:
    """Yield a warning for a router of this type that gets no tickets from any listener."""
    if router.type.name == ROUTER_TYPE and not any(
        listener.is_invalid("tickets") or listener["tickets"] is Tickets.REWRITE for listener in listeners
    ):
        yield "type", "opens no console, since no listener of this configuration has tickets = rewrite"


def ticket_conflicts(listener: SectionValues, routers: Sequence[PluginSection]) -> Iterator[Conflict]:
    """Yield the problems of the keys for tickets in a listener with these routers."""
    if listener.has("public_certificate") and "public_url" not in listener.present:
        yield "public_certificate", "needs a public_url in the same section"
    if listener.is_invalid("tickets"):
        return
    if listener["tickets"] is Tickets.PASS:
        if listener.has("tickets_allow"):
            yield "tickets_allow", "only with tickets = rewrite"
        return
    if not listener.is_invalid("http") and listener["http"] is not Http.FORWARD:
        yield "tickets", "rewrite only with http = forward"
    if "tickets_allow" not in listener.present:
        yield "tickets", "rewrite needs tickets_allow, the networks of the hosts, in the same section"
    if not {"certificate", "public_certificate"} & listener.present:
        yield "tickets", "rewrite needs a certificate, or a public_certificate where TLS ends in front"
    if not any(router.type.name == ROUTER_TYPE for router in routers) and not listener.is_invalid("router"):
        yield "tickets", f"rewrite needs a router of the type {ROUTER_TYPE}, which opens the consoles"
    if not listener.is_invalid("public_url"):
        url: str | None = listener["public_url"]
        if url is None:
            yield "tickets", "rewrite needs a public_url in the same section, which tickets then name"
        elif not url.startswith("https://") or "/" in url.removeprefix("https://"):
            yield (
                "public_url",
                "tickets = rewrite needs https://HOST[:PORT] without a path, since clients add one",
            )
