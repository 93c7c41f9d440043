"""The operations on links: list, make and revoke."""

from __future__ import annotations

from typing import Any

from esxiproxy.admin.api.kill import end_sessions
from esxiproxy.admin.call import ApiError, Call
from esxiproxy.admin.control import Control
from esxiproxy.admin.live import LIFE, Live
from esxiproxy.admin.shared_value import SharedValue
from esxiproxy.core.link_keys import InvalidKeys
from esxiproxy.core.sealing import key_of
from esxiproxy.core.session.command import Selector, SelectorKind
from esxiproxy.routers.link_orders import (
    DEFAULT_TTL,
    LinkOrder,
    LinkRefused,
    make_link,
    revoked_until,
)
from esxiproxy.routers.links import OPAQUE_SPACE, REVOKED_SPACE

_PAGE = 1000
_MAX_REVOKED = 10_000
"""Revoked links that are listed."""


class LinkOperations:
    """The operations on links of the routers of the type ``links``."""

    def __init__(self, control: Control, live: Live) -> None:
        self._control = control
        self._state = control.state
        self._live = live
        self._rows = SharedValue(self._read, LIFE, live.clock)

    async def list_links(self, call: Call) -> Any:
        """List the links with open consoles, and the revoked ones."""
        return {"links": await self._rows.get()}

    async def _read(self) -> list[dict[str, Any]]:
        """Return the links that are listed.  Raises StateUnavailable."""
        found: dict[str, dict[str, Any]] = {}
        principals: dict[str, dict[str, None]] = {}
        for entry in await self._live.entries():
            if entry.link:
                found.setdefault(entry.link, _row(entry.link, entry.host))["sessions"] += 1
                principals.setdefault(entry.link, {})[entry.principal] = None
        for identity, names in principals.items():
            found[identity]["principals"] = list(names)
        for identity in await self._revoked():
            found.setdefault(identity, _row(identity, ""))["revoked"] = True
        return sorted(found.values(), key=lambda link: (-link["sessions"], link["id"]))

    async def _revoked(self) -> list[str]:
        """Return the ids of revoked links; those of older versions are stored without their ids."""
        found: list[str] = []
        after = ""
        while len(found) < _MAX_REVOKED:
            page = await self._state.items(REVOKED_SPACE, after, _PAGE)
            found.extend(value for _, value in page if value)
            if len(page) < _PAGE:
                break
            after = page[-1][0]
        return found

    async def make_link(self, call: Call) -> Any:
        """Make a link; the answer is the only place where it is shown."""
        body = call.body
        order = LinkOrder(
            router=body["router"],
            to=body["to"],
            ttl=body.get("ttl", DEFAULT_TTL),
            reuse=body.get("reuse"),
            many=body.get("many", False),
            subject=body.get("subject"),
            pins=tuple(body.get("pins", ())),
            net=body.get("net"),
            listener=body.get("listener"),
            vmrc=body.get("vmrc", False),
            vmx=body.get("vmx"),
        )
        if order.router not in self._control.config.routers:
            raise ApiError(404, "the configuration has no router of this name")
        try:
            made = await self._control.in_thread(make_link, self._control.config, order)
        except (LinkRefused, InvalidKeys) as error:
            raise ApiError(409, str(error)) from None
        if (stored := made.stored) is not None:
            await self._state.put(stored.space, stored.key, stored.value, stored.expires, True)
        field = None if made.field is None else f"{made.kind}: {made.field}"
        return {"url": made.url, "id": made.id, "expires": made.expires, "field": field, "vmrc": made.vmrc}

    async def check_revocation(self, call: Call) -> None:
        """Raise ApiError for a link in place of its id, since the audit log must not have a link."""
        identity = call.body["id"]
        is_token = identity.count(".") == 2
        if is_token or await self._state.get(OPAQUE_SPACE, key_of(identity)) is not None:
            raise ApiError(400, "id is a link and not its id: esxiproxy sessions and links show the id")

    async def revoke_link(self, call: Call) -> Any:
        """Revoke a link, and end the consoles that it has opened."""
        identity = call.body["id"]
        await self._state.put(REVOKED_SPACE, key_of(identity), identity, revoked_until())
        self._rows.forget()
        reason = call.body["reason"]
        return {"sessions": await end_sessions(self._state, Selector(SelectorKind.LINK, identity), reason)}


def _row(identity: str, host: str) -> dict[str, Any]:
    return {"id": identity, "sessions": 0, "principals": [], "host": host, "revoked": False}
