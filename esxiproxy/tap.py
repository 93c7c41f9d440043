"""What ``twistd esxiproxy`` runs."""

from __future__ import annotations

from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from esxiproxy.core.config import ConfigError
from esxiproxy.preflight import load_checked
from esxiproxy.service import ProxyService


class Options(usage.Options):
    """The command line of ``twistd esxiproxy``."""

    synopsis = "[--config FILE]"
    longdesc = "A WebSocket console proxy for VMware ESXi."
    optParameters = [["config", "c", "conf/proxy.ini", "The configuration, an INI file."]]

    def postOptions(self) -> None:
        """Read the file here, so that its problems are a usage error and no traceback."""
        try:
            self["configuration"] = load_checked(self["config"])
        except ConfigError as error:
            raise usage.UsageError("\n" + "\n".join(map(str, error.problems)))


def makeService(options: Options, reactor: Any = None) -> IService:
    """The proxy that the configuration describes."""
    if reactor is None:
        from twisted.internet import reactor
    return ProxyService(options["configuration"], reactor)
