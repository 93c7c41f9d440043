"""The simulated vCenter as a Twisted service: an HTTPS port, hosts with consoles, and a control port."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from OpenSSL.SSL import Context
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.ssl import ContextFactory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from esxiproxy.sim import certificate
from esxiproxy.sim.address import url_host
from esxiproxy.sim.connections import ConnectionLimiter, Connections
from esxiproxy.sim.host import SimulatedHost
from esxiproxy.sim.machine import VirtualMachine
from esxiproxy.sim.screen.screen import Screen
from esxiproxy.sim.vcenter import demo_inventory
from esxiproxy.sim.vcenter.control import make_control
from esxiproxy.sim.vcenter.demands import Demands
from esxiproxy.sim.vcenter.endpoint import SoapEndpoint
from esxiproxy.sim.vcenter.inventory import SimulatedInventory
from esxiproxy.sim.vcenter.machine_calls import MachineCalls
from esxiproxy.sim.vcenter.options import VCenterOptions
from esxiproxy.sim.vcenter.rest import RestEndpoint
from esxiproxy.sim.vcenter.session_calls import SessionCalls
from esxiproxy.sim.vcenter.sessions import SessionStore, VCenterSession
from esxiproxy.sim.vcenter.site import make_site
from esxiproxy.sim.vcenter.tasks import Tasks
from esxiproxy.sim.vcenter.webconsole.pages import WebConsole

FIRST_HOST = 11
"""The hosts are bound to 127.0.0.11 and the next addresses, so that each has an address of its own."""


class _CurrentContext(ContextFactory):
    """A context factory whose certificate can be changed for the next connections."""

    def __init__(self, identity: certificate.Certificate) -> None:
        self.use(identity)

    def use(self, identity: certificate.Certificate) -> None:
        """Present this certificate from the next connection on."""
        self._factory = identity.context_factory()

    def getContext(self) -> Context:
        return self._factory.getContext()


class SimulatedVCenter(MultiService):
    """One vCenter with its hosts. It has its inventory at once and its ports after `startService`.

    `reactor` provides IReactorTCP and IReactorTime; `now` returns the time of day.
    """

    log = Logger()

    def __init__(
        self, options: VCenterOptions, reactor: Any, now: Callable[[], datetime] | None = None
    ) -> None:
        super().__init__()
        self.options = options
        self._now = now or (lambda: datetime.now(UTC))
        self.hosts = [self._make_host(number, reactor) for number in range(options.hosts)]
        self.connections = Connections(0)
        self.sessions = SessionStore(options, reactor, self._now, self._opened)
        self.inventory = SimulatedInventory(options.name, self._make_console)
        self.tasks = Tasks(self.inventory, reactor, self._now, options.task_time)
        self.machines = MachineCalls(self.inventory, self.tasks, options.ticket_parts)
        self.instance_uuid = str(uuid.uuid5(uuid.NAMESPACE_DNS, options.name))
        self._services = SessionCalls(options, self.instance_uuid, self.inventory, self.sessions, reactor)
        self.soap = SoapEndpoint(options, self.sessions, self._services, self.machines.calls, reactor)
        if options.certificate is None:
            self.certificate = certificate.make()
        else:
            self.certificate = certificate.load_or_make(options.certificate, options.private_key)
        self._context = _CurrentContext(self.certificate)
        self._console = WebConsole(
            options.name, self.inventory, self.sessions, lambda: self.certificate.sha1, reactor
        )
        self._reactor = reactor
        self._port: IListeningPort | None = None
        self._control: IListeningPort | None = None
        self._bound = options.port
        demo_inventory.fill(self.inventory, self.hosts, options.machines)

    @property
    def demands(self) -> Demands:
        """The faults on demand."""
        return self.soap.demands

    @property
    def port(self) -> int:
        """The HTTPS port; it stays the same over `stop_listening` and `start_listening`."""
        return self._bound

    @property
    def url(self) -> str:
        """The URL of the HTTPS port, without a path."""
        return f"https://{url_host(self.options.interface)}:{self.port}"

    @property
    def control_url(self) -> str | None:
        """The URL of the control port, or None."""
        return None if self._control is None else f"http://127.0.0.1:{_number(self._control)}"

    @property
    def announcement(self) -> str:
        """One line with the URL, the thumbprint and the user."""
        return (
            f"simulated vCenter: {self.url} sha256:{self.certificate.sha256}, user {self.options.user}, "
            f"{len(self.inventory.machines)} machines on {len(self.hosts)} hosts"
        )

    def startService(self) -> None:
        super().startService()
        self.start_listening()
        if self.options.control_port is not None:
            self._control = self._reactor.listenTCP(
                self.options.control_port, make_control(self), interface="127.0.0.1"
            )
        self.log.info("{announcement}", announcement=self.announcement)

    def stopService(self) -> Deferred[Any]:
        """Close all ports and connections, and end all sessions."""
        self.sessions.end_all()
        self.tasks.stop()
        stopped = [maybeDeferred(super().stopService), self.stop_listening()]
        if self._control is not None:
            stopped.append(maybeDeferred(self._control.stopListening))
            self._control = None
        return DeferredList(stopped, consumeErrors=True)

    def start_listening(self) -> None:
        """Open the HTTPS port."""
        rest = RestEndpoint(self.inventory, self.sessions, self.machines.issue)
        versions = self.options.supported
        site = make_site(self.soap, rest, self.inventory, self.sessions, versions, self._console)
        secured = TLSMemoryBIOFactory(self._context, False, site, self._reactor)
        limited = ConnectionLimiter(secured, self.connections)
        port = self._reactor.listenTCP(self._bound, limited, backlog=512, interface=self.options.interface)
        self._port, self._bound = port, _number(port)

    def stop_listening(self) -> Deferred[Any]:
        """Close the HTTPS port and its connections, as a vCenter that is down. Sessions stay."""
        port, self._port = self._port, None
        closed = maybeDeferred(port.stopListening) if port is not None else maybeDeferred(lambda: None)
        return closed.addCallback(lambda _: self.connections.abort_all())

    def change_certificate(self) -> None:
        """Present a new certificate, and drop the connections that have the old one."""
        self.certificate = certificate.make()
        self._context.use(self.certificate)
        self.connections.abort_all()

    def _opened(self, session: VCenterSession) -> None:
        self._services.opened(session)

    def _make_host(self, number: int, reactor: Any) -> SimulatedHost:
        own = self.options.interface.startswith("127.")
        options = replace(
            self.options.host,
            interface=f"127.0.0.{FIRST_HOST + number}" if own else self.options.interface,
            name=demo_inventory.host_names(self.options.hosts)[number],
        )
        host = SimulatedHost(options, reactor)
        host.setServiceParent(self)
        return host

    def _make_console(self, name: str) -> VirtualMachine:
        host = self.options.host
        screen = Screen(host.width, host.height, name)
        return VirtualMachine(screen, self._reactor, host.frame_interval, self._local_time, name)

    def _local_time(self) -> datetime:
        return self._now().astimezone()


def _number(port: IListeningPort) -> int:
    address: Any = port.getHost()
    return int(address.port)
