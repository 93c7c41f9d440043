"""The WebSocket /ui/webconsole/authd of a simulated vCenter.

vCenter speaks the protocol of authd to the host itself.  The browser gets what follows: RFB that begins with
ServerInit, without version and security type.
"""

from __future__ import annotations

from typing import Any

from autobahn.exception import Disconnected
from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from esxiproxy.core.null_logger import NullLogger
from esxiproxy.sim.console import ViewerConsole
from esxiproxy.sim.factory import SimulatedConsoles
from esxiproxy.sim.rfb import RfbError
from esxiproxy.sim.tickets import Grant, TicketStore

SUBPROTOCOL = "binary"


class AuthdProtocol(WebSocketServerProtocol):
    """One console.  Its ticket is in the query, as `mksTicket`."""

    log = NullLogger()
    factory: AuthdFactory
    transport: Any
    _console: ViewerConsole | None = None

    def onConnect(self, request: ConnectionRequest) -> str:
        if SUBPROTOCOL not in request.protocols:
            raise ConnectionDeny(400, "no subprotocol that the console speaks is offered")
        grant = self.factory.tickets.redeem(request.params.get("mksTicket", [""])[0])
        if grant is None:
            raise ConnectionDeny(403, "the ticket is unknown, was used or has expired")
        self._grant = grant
        return SUBPROTOCOL

    def onOpen(self) -> None:
        self._console = ViewerConsole(
            self._grant.machine, self._send, self._close, "127.0.0.1", self._grant.user, begins_with_init=True
        )
        self.transport.unregisterProducer()  # that of twisted.web, whose connection it was
        self.registerProducer(self, True)
        self._console.start()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self._console is not None:
            try:
                self._console.receive(payload)
            except (RfbError, ValueError) as error:
                self._close(1008, f"RFB: {error}")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop()
        self._connectionLost(reason)

    def pauseProducing(self) -> None:
        if self._console is not None:
            self._console.pause()

    def resumeProducing(self) -> None:
        if self._console is not None:
            self._console.resume()

    def stopProducing(self) -> None:
        self._stop()

    def _send(self, payload: bytes) -> None:
        try:
            self.sendMessage(payload, True)
        except Disconnected:
            self._stop()

    def _close(self, code: int, reason: str) -> None:
        self._stop()
        # sendClose rejects the code 1001.
        self.sendCloseFrame(code=code, reasonUtf8=reason.encode("utf-8")[:123])

    def _stop(self) -> None:
        console, self._console = self._console, None
        if console is not None:
            console.stop()


class AuthdFactory(SimulatedConsoles):
    """The factory of the consoles that the `tickets` open.  The pages check Host and Origin."""

    protocol = AuthdProtocol

    def __init__(self, tickets: TicketStore[Grant], reactor: Any) -> None:
        super().__init__(reactor)
        self.tickets = tickets
