"""The operation ``list_listeners``."""

from __future__ import annotations

from typing import Any

from esxiproxy.admin.call import Call
from esxiproxy.admin.certificates import CertificateReader
from esxiproxy.admin.live import Live
from esxiproxy.core.config.model import Listener


class ListenerReads:
    """Lists the listeners of the configuration in force."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._certificates = CertificateReader(live.control.in_thread, live.clock)

    async def list_listeners(self, call: Call) -> dict[str, Any]:
        """Return the listeners in the order of the configuration."""
        return {"listeners": [await self._shown(each) for each in self._live.control.config.listeners]}

    async def _shown(self, listener: Listener) -> dict[str, Any]:
        live, certificate = self._live, None
        if listener.tls is not None:
            certificate = await self._certificates.read(listener.tls.certificate)
        counts = await live.session_counts()
        drained = (await live.processes()).drained
        return {
            "name": listener.name,
            "address": listener.address,
            "routers": [router.section for router in listener.routers],
            "authenticators": [authenticator.section for authenticator in listener.authenticators],
            "http": listener.http.value,
            "public_url": listener.public_url,
            "certificate": None if certificate is None else certificate.fields(live.time_of_day()),
            "sessions": counts.by_listener[listener.name],
            "limit": listener.connection_limits.max_sessions,
            "drained": drained.has_listener(live.control.run, listener.name),
        }
