"""A program with its own router, which selects consoles by name.

    python examples/own_router.py --port 8080 vm1=ws://192.0.2.10/ticket/... vm2=...

/vm/NAME on port 8080 is then the console with that name.  After SIGTERM, open consoles have 10 s to end.
"""

import argparse
import sys
from urllib.parse import urlsplit

from twisted.internet import reactor
from twisted.logger import globalLogBeginner, textFileLogObserver
from zope.interface import implementer

from esxiproxy import (
    IRouter,
    Principal,
    Proxy,
    Request,
    Route,
    RouteNotFound,
    SessionLimits,
    Upstream,
    with_fast_transports,
)


@implementer(IRouter)
class Names:
    """A router that looks up the host and the target of /vm/NAME in a table."""

    def __init__(self, routes: dict[bytes, Route]) -> None:
        self._routes = routes

    async def route(self, request: Request, principal: Principal) -> Route:
        name = request.head.target.removeprefix(b"/vm/")
        if name not in self._routes:
            raise RouteNotFound("no machine has this name")
        return self._routes[name]


def console(text: str) -> tuple[bytes, Route]:
    """Parse NAME=ws[s]://HOST[:PORT]/TARGET to a name and its route."""
    name, _, url = text.partition("=")
    parts = urlsplit(url)
    secure = parts.scheme == "wss"
    upstream = Upstream(name, parts.hostname or "", parts.port or (443 if secure else 80), secure)
    return name.encode(), Route.to(upstream, target=parts.path.encode())


def main() -> None:
    """Serve the consoles of the command line until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("consoles", nargs="+", type=console, metavar="NAME=URL")
    options = parser.parse_args()
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)])

    fast = with_fast_transports(reactor)
    proxy = Proxy(fast, limits=SessionLimits(drain_timeout=10))
    factory = proxy.listener("names", Names(dict(options.consoles)))
    port = fast.listenTCP(options.port, factory, interface="127.0.0.1")
    print("consoles on port", port.getHost().port, flush=True)

    proxy.startService()
    # The reactor waits for this Deferred, which fires when the last console has ended.
    reactor.addSystemEventTrigger("before", "shutdown", proxy.stopService)
    reactor.run()


if __name__ == "__main__":
    main()
