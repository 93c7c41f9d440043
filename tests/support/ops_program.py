"""`python -m tests.support.ops_program FOLDER` runs a simulated host, a proxy for it and its manhole."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet import reactor as installed
from twisted.logger import globalLogBeginner, textFileLogObserver

from esxiproxy.core.routing import Upstream
from esxiproxy.ops.manhole.commands import commands_of
from esxiproxy.ops.manhole.service import ManholeService
from esxiproxy.proxy import Proxy
from esxiproxy.routers.static import StaticRouter
from esxiproxy.sim.host import SimulatedHost
from esxiproxy.sim.options import HostOptions

reactor: Any = installed


def main(folder: Path) -> None:
    """Run all three until SIGTERM, and write the ports to the file `ready` in the folder."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    services = MultiService()
    host = SimulatedHost(HostOptions(tls_port=None, frame_interval=0.05), reactor)
    host.setServiceParent(services)
    proxy = Proxy(reactor)
    proxy.setServiceParent(services)
    manhole = ManholeService(
        "tcp:0:interface=127.0.0.1",
        folder / "authorized_keys",
        folder / "host_key",
        commands_of(proxy.sessions, tuple, reactor),
        reactor,
    )
    manhole.setServiceParent(services)
    services.privilegedStartService()
    services.startService()
    assert host.port is not None
    upstream = Upstream("esxi1", "127.0.0.1", host.port, secure=False)
    port = reactor.listenTCP(0, proxy.listener("console", StaticRouter(upstream)), interface="127.0.0.1")
    reactor.addSystemEventTrigger("before", "shutdown", services.stopService)
    bound: Any = manhole.port
    ready = {"host": host.port, "console": port.getHost().port, "manhole": bound.getHost().port}
    part = folder / "ready.part"
    part.write_text(json.dumps(ready))
    part.rename(folder / "ready")
    reactor.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
