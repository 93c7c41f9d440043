"""What can be chosen about a simulated host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from esxiproxy.sim.faults import NO_FAULT, FaultPlan
from esxiproxy.sim.tickets import LIFETIME


@dataclass(frozen=True, slots=True)
class HostOptions:
    """The options of one host; the defaults behave as ESXi 7 and 8 do. Times are in seconds."""

    interface: str = "127.0.0.1"
    port: int | None = 0
    """Plain ws; 0 takes a free port, None leaves it out."""
    tls_port: int | None = 0
    """wss, likewise."""
    certificate: Path | None = None
    """A PEM file; made there if missing. None: a fresh certificate in memory at every start."""
    private_key: Path | None = None
    """Its key; None: the certificate's path with the suffix .key."""
    subprotocols: tuple[str, ...] = ("binary",)
    """What is spoken, best first. `uint8utf8` and `base64` go in text messages, all others in binary ones."""
    require_subprotocol: bool = True
    """Drop a client that offers none of them without an HTTP answer."""
    answer_pings: bool = False
    max_connections: int = 128
    """Open TCP connections on both ports together; 0 is no limit."""
    ticket_lifetime: float = LIFETIME
    ticket_endpoint: bool = True
    """Whether GET /sim/ticket gives a ticket to anybody."""
    allow_fault_query: bool = True
    fault: FaultPlan = NO_FAULT
    width: int = 640
    height: int = 400
    name: str = "simulated VM"
    frame_interval: float = 0.1
    """Between two steps of the picture; 0: the clock and the bar stand still, keys are drawn at once."""
    message_size: int = 0
    """Cut what the console sends into messages of this many bytes; 0: an update is one message."""
    close_timeout: float = 5.0
    """A connection that was closed and is still there is aborted after this."""

    def __post_init__(self) -> None:
        if self.port is None and self.tls_port is None:
            raise ValueError("a host needs a port or a tls_port")
        if self.private_key is not None and self.certificate is None:
            raise ValueError("a private_key needs a certificate")
        if not (64 <= self.width <= 8192 and 64 <= self.height <= 8192):
            raise ValueError("width and height must lie between 64 and 8192")
        if self.message_size < 0 or self.max_connections < 0:
            raise ValueError("message_size and max_connections cannot be negative")
        # Written this way round they refuse NaN too.
        if not (self.frame_interval >= 0 and self.close_timeout > 0 and self.ticket_lifetime > 0):
            raise ValueError("frame_interval, close_timeout and ticket_lifetime must be times")
