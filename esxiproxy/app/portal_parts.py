"""The rights and the links of the portal, by the routers of its listeners."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Sequence
from functools import lru_cache

from esxiproxy.admin.tickets import RouterScope, scopes_of
from esxiproxy.app.portal import PortalParts
from esxiproxy.core.access import Right
from esxiproxy.core.config.model import Config
from esxiproxy.core.console_link import mint_console_link
from esxiproxy.core.errors import LimitReached
from esxiproxy.core.routing import Principal
from esxiproxy.core.session.claim import RateClaim
from esxiproxy.core.session.connection_limits import ANONYMOUS_NAME
from esxiproxy.interfaces import IState
from esxiproxy.portal.machine_service import ApiLink
from esxiproxy.vsphere.machine import Machine
from esxiproxy.vsphere.service import VSphereService

LINKS_PER_SECOND, LINKS_AT_ONCE = 10, 600
"""Links that are stored for one principal: a second, and at once."""
_MAX_PRINCIPALS = 1024
"""Maximum number of principals whose rules are remembered."""


def portal_parts(
    config: Config,
    vsphere: VSphereService,
    state: IState,
    time_of_day: Callable[[], float] = time.time,
) -> PortalParts:
    """Return the parts of a portal whose users have the rights of the routers ``vsphere`` of a listener."""
    scopes = scopes_of(config)
    of_listeners = {
        listener.name: [
            scopes[router.settings.name] for router in listener.routers if router.settings.name in scopes
        ]
        for listener in config.listeners
    }

    @lru_cache(_MAX_PRINCIPALS)
    def remembered_scopes(listener: str, principal: Principal) -> Sequence[RouterScope]:
        found = of_listeners.get(listener, ())
        return tuple(RouterScope(scope.vspheres, scope.rules.of(principal)) for scope in found)

    def scopes_for(listener: str, principal: Principal) -> Sequence[RouterScope]:
        # A login and its Set-Cookie are not remembered, and all logins of a user share one entry.
        named = Principal(principal.name, groups=principal.groups, authenticator=principal.authenticator)
        return remembered_scopes(listener, named)

    def rights(listener: str, principal: Principal, machine: Machine) -> frozenset[Right]:
        found: frozenset[Right] = frozenset()
        for scope in scopes_for(listener, principal):
            if machine.vsphere in scope.vspheres:
                found |= scope.rules.rights_to(machine)
        return found

    def scope(listener: str, principal: Principal) -> Hashable:
        return tuple(
            (each.vspheres, tuple(rule.name for rule in each.rules.rules))
            for each in scopes_for(listener, principal)
        )

    vspheres_of = {
        listener: frozenset(name for scope in found for name in scope.vspheres)
        for listener, found in of_listeners.items()
    }

    def vspheres(listener: str) -> Collection[str]:
        return vspheres_of.get(listener, frozenset())

    limits_of = {
        (listener.name, name): listener.connection_limits.overridden_by(
            config.upstreams[router.settings["template"]].connection_limits
        )
        for listener in config.listeners
        for router in reversed(listener.routers)  # the first one opens the console
        if router.settings.name in scopes
        for name in scopes[router.settings.name].vspheres
    }

    async def is_full(listener: str, machine: Machine) -> bool:
        if vsphere.is_full(machine):
            return True
        limits = limits_of.get((listener, machine.vsphere))
        if limits is None:
            return False
        claims = limits.on_decision(ANONYMOUS_NAME, machine.id, max_consoles=machine.max_consoles)
        return await state.first_refused(claims) is not None

    async def mint(machine: Machine, principal: Principal, public_url: str) -> ApiLink:
        link = mint_console_link(machine.id, principal, public_url, time_of_day())
        rate = RateClaim("links", f"console links {principal.names[1]}", LINKS_PER_SECOND, LINKS_AT_ONCE)
        if await state.take(f"console link {link.key}", (rate,)) is not None:
            text = f"a user gets {LINKS_PER_SECOND} links a second, after {LINKS_AT_ONCE} at once"
            raise LimitReached(text)
        await state.put(link.space, link.key, link.value, link.expires, new=True)
        return ApiLink(link.url, link.expires)

    return PortalParts(vsphere, rights, scope, mint, vspheres, is_full)
