"""The simulated ESXi host as a Twisted service: two ports, one certificate, tickets and one machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from esxiproxy.sim import certificate
from esxiproxy.sim.address import url_host
from esxiproxy.sim.connections import ConnectionLimiter, Connections, SilentFactory
from esxiproxy.sim.factory import ConsoleFactory
from esxiproxy.sim.faults import FaultPlan, SimFault
from esxiproxy.sim.machine import VirtualMachine
from esxiproxy.sim.options import HostOptions
from esxiproxy.sim.protocol import TICKET_PATH
from esxiproxy.sim.screen.screen import Screen
from esxiproxy.sim.tickets import Grant, TicketStore
from esxiproxy.sim.web import ANY_ORIGIN, FRONT_PAGE, HTML, JSON, SimRequestHead, SimResponse


class SimulatedHost(Service):
    """One host. It has its certificate at once and its ports after `startService`.

    `reactor` provides IReactorTCP and IReactorTime; `now` returns the time that the screen's clock shows.
    """

    log = Logger()

    def __init__(self, options: HostOptions, reactor: Any, now: Callable[[], datetime] | None = None) -> None:
        self.options = options
        self.tickets: TicketStore[Grant] = TicketStore(reactor.seconds, options.ticket_lifetime)
        self.connections = Connections(options.max_connections)
        self.machine = VirtualMachine(
            Screen(options.width, options.height, options.name),
            reactor,
            options.frame_interval,
            now or (lambda: datetime.now()),
            options.name,
        )
        if options.certificate is None:
            self.certificate = certificate.make()
        else:
            self.certificate = certificate.load_or_make(options.certificate, options.private_key)
        self._reactor = reactor
        self._plain: IListeningPort | None = None
        self._tls: IListeningPort | None = None

    @property
    def port(self) -> int | None:
        """The plain port that is bound, or None."""
        return None if self._plain is None else _number(self._plain)

    @property
    def tls_port(self) -> int | None:
        """The TLS port that is bound, or None."""
        return None if self._tls is None else _number(self._tls)

    @property
    def ws_url(self) -> str | None:
        """The URL of the plain port, ws://127.0.0.1:PORT."""
        return None if self.port is None else f"ws://{url_host(self.options.interface)}:{self.port}"

    @property
    def wss_url(self) -> str | None:
        """The URL of the TLS port, wss://127.0.0.1:PORT."""
        return None if self.tls_port is None else f"wss://{url_host(self.options.interface)}:{self.tls_port}"

    @property
    def announcement(self) -> str:
        """One line with the host's URLs and thumbprint."""
        parts = [self.wss_url and f"{self.wss_url} sha256:{self.certificate.sha256}", self.ws_url]
        return "simulated ESXi host: " + ", ".join(part for part in parts if part)

    def issue_ticket(self, machine: VirtualMachine | None = None, user: str = "") -> str:
        """Return a new one-time ticket for a console of this machine, or of the host's own one."""
        return self.tickets.issue(Grant(machine or self.machine, user))

    def startService(self) -> None:
        super().startService()
        factory: IProtocolFactory = ConsoleFactory(self, self._reactor)
        secured: IProtocolFactory = TLSMemoryBIOFactory(
            self.certificate.context_factory(), False, factory, self._reactor
        )
        if self.options.fault.fault is SimFault.SILENT_CONNECT:
            factory = secured = SilentFactory()
        if self.options.tls_port is not None:
            self._tls = self._listen(self.options.tls_port, secured)
        if self.options.port is not None:
            self._plain = self._listen(self.options.port, factory)
        self.log.info("{announcement}", announcement=self.announcement)

    def stopService(self) -> Deferred[None]:
        """Close the ports and abort every connection; the Deferred fires when all are closed."""
        super().stopService()
        ports = [port for port in (self._tls, self._plain) if port is not None]
        self._tls = self._plain = None
        closed = DeferredList([maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)
        return closed.addCallback(lambda _: self.connections.abort_all())

    def plan(self, head: SimRequestHead) -> FaultPlan:
        """Return the fault plan of a request. Raises ValueError if its query has an unknown fault."""
        if self.options.allow_fault_query:
            return self.options.fault.for_query(head.query)
        return self.options.fault

    def stats(self) -> dict[str, int]:
        """Return the counters of /sim/stats."""
        return {
            "open": len(self.connections),
            "total": self.connections.total,
            "peak": self.connections.peak,
            "refused": self.connections.refused,
            "consoles": self.machine.viewers,
            "tickets_issued": self.tickets.issued,
            "tickets_used": self.tickets.used,
            "tickets_refused": self.tickets.refused,
        }

    def page(self, head: SimRequestHead) -> SimResponse:
        """Return the answer to a request that opens no console."""
        if head.path.startswith(TICKET_PATH):
            return SimResponse(426, "this path needs a WebSocket\n", fields=(("Upgrade", "websocket"),))
        if head.method not in ("GET", "HEAD"):
            return SimResponse(405, "GET and HEAD only\n", fields=(("Allow", "GET, HEAD"),))
        if head.path == "/":
            return SimResponse(200, FRONT_PAGE, HTML)
        if head.path == "/sim/ticket" and self.options.ticket_endpoint:
            return SimResponse(200, self.issue_ticket(), fields=ANY_ORIGIN)
        if head.path == "/sim/stats":
            return SimResponse(200, json.dumps(self.stats()) + "\n", JSON, ANY_ORIGIN)
        return SimResponse(404, "nothing is served at this path\n")

    def _listen(self, port: int, factory: IProtocolFactory) -> IListeningPort:
        listening: IListeningPort = self._reactor.listenTCP(
            port, ConnectionLimiter(factory, self.connections), backlog=512, interface=self.options.interface
        )
        return listening


def _number(port: IListeningPort) -> int:
    address: Any = port.getHost()
    return int(address.port)
