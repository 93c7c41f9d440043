"""The private site of the admin process that routers ask for machines and tickets."""

from __future__ import annotations

from typing import Any

from esxiproxy.app.private_site import PrivateSite
from esxiproxy.core.config.model import Config
from esxiproxy.core.private_sites import TICKETS, PrivateSites
from esxiproxy.vsphere.service import VSphereService


def tickets_site(config: Config, vsphere: VSphereService, sites: PrivateSites, reactor: Any) -> PrivateSite:
    """Return the site for the routers of a configuration."""

    def make_factory() -> Any:
        # A proxy without the site does not import twisted.web.
        from esxiproxy.admin.tickets import ConsoleTickets, scopes_of
        from esxiproxy.admin.tickets_site import TicketsSite

        return TicketsSite(ConsoleTickets(vsphere, scopes_of(config), reactor), reactor)

    return PrivateSite(sites, TICKETS, make_factory, reactor)
