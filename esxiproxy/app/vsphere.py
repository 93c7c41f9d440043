"""The vCenters and ESXi hosts of a configuration, as a service of the admin process."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from esxiproxy.core.config.model import Config
from esxiproxy.interfaces import IHttpClient
from esxiproxy.vsphere.service import VSphereService


class VSphereLogins(Service):
    """Logs in when it starts, and out when it stops.  Without a section [vsphere NAME] it does nothing."""

    def __init__(self, config: Config, http: IHttpClient, clock: Any) -> None:
        self.vsphere = VSphereService(config, http, clock)

    def startService(self) -> None:
        super().startService()
        self.vsphere.start()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self.vsphere.stop())
