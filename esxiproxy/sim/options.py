"""The options of a simulated host."""

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
    """Plain ws port; 0 means a free port, None means no port."""
    tls_port: int | None = 0
    """wss port; 0 means a free port, None means no port."""
    certificate: Path | None = None
    """PEM file, created if missing. None means a new certificate in memory at every start."""
    private_key: Path | None = None
    """The certificate's key; None means the certificate's path with the suffix .key."""
    subprotocols: tuple[str, ...] = ("binary",)
    """Supported subprotocols, the preferred one first. `uint8utf8` and `base64` use text messages."""
    require_subprotocol: bool = True
    """Whether a client that offers no supported subprotocol is dropped without an HTTP answer."""
    answer_pings: bool = False
    max_connections: int = 128
    """Limit of open TCP connections on both ports together; 0 means no limit."""
    ticket_lifetime: float = LIFETIME
    ticket_endpoint: bool = True
    """Whether GET /sim/ticket returns a ticket to any client."""
    allow_fault_query: bool = True
    fault: FaultPlan = NO_FAULT
    width: int = 640
    height: int = 400
    name: str = "simulated VM"
    frame_interval: float = 0.1
    """Time between two steps of the picture. With 0 only keys and the pointer change it, at once."""
    message_size: int = 0
    """Bytes of each message that the console sends; 0 means one message for each update."""
    close_timeout: float = 5.0
    """Time after which a connection that does not end after its Close is aborted."""

    def __post_init__(self) -> None:
        if self.port is None and self.tls_port is None:
            raise ValueError("the host needs a port or a tls_port")
        if self.private_key is not None and self.certificate is None:
            raise ValueError("private_key needs a certificate")
        if not (64 <= self.width <= 8192 and 64 <= self.height <= 8192):
            raise ValueError("width and height must be between 64 and 8192")
        if self.message_size < 0 or self.max_connections < 0:
            raise ValueError("message_size and max_connections cannot be negative")
        # This form of the comparisons rejects NaN too.
        if not (self.frame_interval >= 0 and self.close_timeout > 0 and self.ticket_lifetime > 0):
            raise ValueError("frame_interval must not be negative, close_timeout and ticket_lifetime above 0")
