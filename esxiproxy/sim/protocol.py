"""One connection of a simulated host: an HTTP request, a refusal, or a WebSocket with a console."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final, Protocol

from autobahn.exception import Disconnected
from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from esxiproxy.core.null_logger import NullLogger
from esxiproxy.sim import faults, subprotocols
from esxiproxy.sim.console import ViewerConsole
from esxiproxy.sim.faults import FaultPlan, SimFault
from esxiproxy.sim.options import HostOptions
from esxiproxy.sim.rfb import RfbError
from esxiproxy.sim.tickets import Grant, TicketStore
from esxiproxy.sim.web import BadHead, SimRequestHead, SimResponse

MAX_HEAD, MAX_HELD = 16 * 1024, 64 * 1024
MAX_MESSAGE: Final = 1 << 20
TICKET_PATH: Final = "/ticket/"


class IncomingBytes(Enum):
    """The treatment of received bytes."""

    READ = auto()
    HELD = auto()
    IGNORED = auto()


class Host(Protocol):
    """The interface of a simulated host for its connections."""

    options: HostOptions
    tickets: TicketStore[Grant]

    def plan(self, head: SimRequestHead) -> FaultPlan:
        """Return the fault plan of a request.  Raises ValueError if its query has an unknown fault."""

    def page(self, head: SimRequestHead) -> SimResponse:
        """Return the answer to a request that opens no console."""


class HostFactory(Protocol):
    """The interface of the factory of a host's connections."""

    host: Host
    reactor: Any


class ConsoleProtocol(WebSocketServerProtocol):
    """Autobahn's server protocol with the host's own HTTP, tickets and faults."""

    log = NullLogger()
    factory: HostFactory
    transport: Any

    def connectionMade(self) -> None:
        # Autobahn's own method raises on some TLS transports, and its results are not needed.
        self.peer = "client"
        self._host = self.factory.host
        self._plan = faults.NO_FAULT
        self._reading = IncomingBytes.READ
        self._console: ViewerConsole | None = None
        self._full = False
        self._timers: list[IDelayedCall] = []
        self.transport.setTcpNoDelay(True)
        self._connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        self._stop_console()
        self._connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        if self._reading is not IncomingBytes.IGNORED:
            self._dataReceived(data)

    def consumeData(self) -> None:
        if self._reading is IncomingBytes.READ:
            super().consumeData()
        elif len(self.data) > MAX_HELD:
            self.dropConnection(abort=True)

    def processHandshake(self) -> None:
        end = self.data.find(b"\r\n\r\n")
        if end > MAX_HEAD or (end < 0 and len(self.data) > MAX_HEAD):
            self._answer(SimResponse(431, "the request head is too large\n"))
        elif end >= 0:
            try:
                head = SimRequestHead.parse(self.data[:end])
            except BadHead as error:
                self._answer(SimResponse(400, f"{error}\n"))
            else:
                self._request(head)

    def onConnect(self, request: ConnectionRequest) -> str | None:
        grant = self._host.tickets.redeem(request.path.removeprefix(TICKET_PATH))
        if grant is None:
            raise ConnectionDeny(403, "the ticket is unknown, was used or has expired")
        self._grant = grant
        self._subprotocol = subprotocols.choose(request.protocols, self._host.options.subprotocols)
        if self._plan.fault is SimFault.WRONG_ACCEPT:
            self._wskey = "bm90IHlvdXIga2V5IGF0IGFsbA=="
        elif self._plan.fault is SimFault.WRONG_SUBPROTOCOL:
            # Autobahn accepts only a subprotocol from the client's offer.
            self.websocket_protocols = ["nobody-offered-this"]
            return "nobody-offered-this"
        return self._subprotocol

    def onOpen(self) -> None:
        if self._plan.fault in faults.AFTER_101:
            if self._plan.seconds <= 0:
                self._fault_after_101()
                return
            self._later(self._plan.seconds, self._fault_after_101)
        self._console = ViewerConsole(
            self._grant.machine,
            self._send_to_viewer,
            self._close,
            getattr(self.transport.getPeer(), "host", ""),
            self._grant.user,
        )
        # The transport pauses the console while its buffer is full.
        self.registerProducer(self, True)
        self._console.start()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self._console is not None:
            try:
                self._console.receive(subprotocols.decode(self._subprotocol, payload))
            except (RfbError, ValueError) as error:
                self._close(1008, f"RFB: {error}")

    def onPing(self, payload: bytes) -> None:
        if self._host.options.answer_pings and not self._full:
            super().onPing(payload)

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        self._stop_console()
        if self._plan.fault in (SimFault.IGNORE_CLOSE, SimFault.CLOSE_LINGER):
            return None
        is_done: bool | None = super().onCloseFrame(code, reasonRaw)
        return is_done

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        # Autobahn's own method logs the reason, writes it into the status line and sends no body.
        self._answer(SimResponse(code, f"{reason}\n", fields=tuple(responseHeaders or ())))

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        super().sendCloseFrame(code=code, reasonUtf8=reasonUtf8, isReply=isReply)
        if self._plan.fault is not SimFault.CLOSE_LINGER:
            self._later(self._host.options.close_timeout, self.transport.abortConnection)

    def _onOpen(self) -> None:
        self.onOpen()

    def _closeConnection(self, abort: bool = False) -> None:
        # Autobahn aborts after the client's Close, which would discard data that the client has not read.
        if abort and not self.wasClean:
            self.transport.abortConnection()
            return
        self.transport.loseConnection()
        self._later(self._host.options.close_timeout, self.transport.abortConnection)

    def pauseProducing(self) -> None:
        self._full = True
        if self._console is not None:
            self._console.pause()

    def resumeProducing(self) -> None:
        self._full = False
        if self._console is not None:
            self._console.resume()

    def stopProducing(self) -> None:
        self._stop_console()

    def _request(self, head: SimRequestHead) -> None:
        if not (head.upgrades and head.path.startswith(TICKET_PATH)):
            self._answer(self._host.page(head), head.method == "HEAD")
            return
        try:
            self._plan = self._host.plan(head)
        except ValueError as error:
            self._answer(SimResponse(400, f"invalid fault: {error}\n"))
        else:
            (self._fault_before_101 if self._plan.fault in faults.BEFORE_101 else self._start_handshake)(head)

    def _start_handshake(self, head: SimRequestHead) -> None:
        options, offered = self._host.options, head.listed("sec-websocket-protocol")
        self._reading = IncomingBytes.READ
        if options.require_subprotocol and subprotocols.choose(offered, options.subprotocols) is None:
            self.dropConnection()
        else:
            super().processHandshake()

    def _fault_before_101(self, head: SimRequestHead) -> None:
        """Perform a fault before the 101."""
        if self._plan.fault is SimFault.DELAY:
            self._reading = IncomingBytes.HELD
            self._later(self._plan.seconds, self._start_handshake, head)
            return
        self._reading = IncomingBytes.IGNORED
        match self._plan.fault:
            case SimFault.REFUSE:
                self._answer(SimResponse(self._plan.status, self._plan.body))
            case SimFault.GARBAGE:
                self.transport.write(faults.GARBAGE)
                self.dropConnection()
            case SimFault.ENDLESS_HEAD:
                self.transport.write(faults.ENDLESS_START)
                self.transport.registerProducer(faults.EndlessHead(self.transport), False)

    def _fault_after_101(self) -> None:
        """Perform a fault after the 101."""
        self._stop_console()
        match self._plan.fault:
            case SimFault.DROP:
                self._drop_tcp()
            case SimFault.DROP_MID_FRAME:
                self.transport.write(faults.HALF_FRAME)
                self._drop_tcp()
            case SimFault.BAD_FRAME:
                self.transport.write(faults.BAD_FRAME)
            case SimFault.STALL:
                self.transport.pauseProducing()
            case _:
                self._close(self._plan.code, self._plan.reason)

    def _drop_tcp(self) -> None:
        self._reading, transport = IncomingBytes.IGNORED, self.transport
        if not isinstance(transport, TLSMemoryBIOProtocol) or transport.transport is None:
            self.dropConnection()
            return
        # Close below TLS to send no close_notify, after Twisted has flushed its small TLS writes.
        self.unregisterProducer()
        self._later(0.01, transport.transport.loseConnection)
        self._later(self._host.options.close_timeout, self.transport.abortConnection)

    def _close(self, code: int, reason: str) -> None:
        self._stop_console()
        # sendClose rejects the codes 1001 and 1011.
        self.sendCloseFrame(code=code, reasonUtf8=reason.encode("utf-8")[:123])

    def _answer(self, answer: SimResponse, head_only: bool = False) -> None:
        self._reading = IncomingBytes.IGNORED
        self.transport.write(answer.encode(head_only))
        self.dropConnection()

    def _send_to_viewer(self, payload: bytes) -> None:
        size = self._host.options.message_size or len(payload)
        try:
            for start in range(0, len(payload), size):
                self.sendMessage(*subprotocols.encode(self._subprotocol, payload[start : start + size]))
        except Disconnected:
            # The connection was lost during this call.
            self._stop_console()

    def _stop_console(self) -> None:
        console, self._console = self._console, None
        if console is not None:
            console.stop()

    def _later(self, seconds: float, call: Callable[..., object], *args: object) -> None:
        self._timers.append(self.factory.reactor.callLater(seconds, call, *args))
