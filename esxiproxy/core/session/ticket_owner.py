"""The owner of a ticket that was asked for through the proxy."""

from __future__ import annotations

from esxiproxy.core.routing import Principal
from esxiproxy.core.session.connection_limits import ANONYMOUS_NAME


def owner_of(principal: Principal | None) -> str:
    """Return the name under which a client owns its tickets, empty for one that was not identified."""
    return "" if principal is None or principal.name == ANONYMOUS_NAME else principal.names[1]
