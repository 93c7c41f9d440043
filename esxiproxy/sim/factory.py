"""The factories of simulated consoles, with Autobahn's options."""

from __future__ import annotations

from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory

from esxiproxy.core.null_logger import NullLogger
from esxiproxy.sim.protocol import MAX_MESSAGE, ConsoleProtocol, Host


class SimulatedConsoles(WebSocketServerFactory):
    """A factory whose protocols have no timers, and check neither Host nor Origin."""

    log = NullLogger()
    noisy = False
    reactor: Any

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor=reactor, server="")
        self.setProtocolOptions(
            versions=[13],
            webStatus=False,
            failByDrop=False,
            maxMessagePayloadSize=MAX_MESSAGE,
            # Autobahn's timers use the global reactor, not the one that is passed to it.
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            autoPingInterval=0,
            autoPingTimeout=0,
            allowedOrigins=["*"],
            allowNullOrigin=True,
        )


class ConsoleFactory(SimulatedConsoles):
    """The factory of the protocols of a host's two ports."""

    protocol = ConsoleProtocol

    def __init__(self, host: Host, reactor: Any) -> None:
        super().__init__(reactor)
        self.host = host
