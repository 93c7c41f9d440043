"""The options of a simulated vCenter."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from esxiproxy.sim.options import HostOptions
from esxiproxy.sim.vcenter.soap import Version, version_of

VERSIONS: Final = (
    *("9.1.1.0", "9.1.0.0", "9.0.0.0", "8.0.3.1", "8.0.3.0", "8.0.2.0", "8.0.1.0", "8.0.0.0"),
    *("7.0.3.2", "7.0.3.1", "7.0.3.0", "7.0.2.1", "7.0.2.0", "7.0.1.1", "7.0.1.0", "7.0.0.2", "7.0.0.0"),
    *("6.7.3", "6.7.2", "6.7.1", "6.7", "6.5", "6.0", "5.5", "5.1", "5.0", "4.1", "4.0", "2.5u2", "2.5"),
)
"""The versions of vSphere's interface, the newest first."""

USER: Final = "administrator@vsphere.local"
PASSWORD: Final = "simulated"


class TicketParts:
    """The names of what a ticket may have beside the ticket itself."""

    HOST: Final = "host"
    URL: Final = "url"
    SHA1: Final = "sha1"
    SHA256: Final = "sha256"
    PEM: Final = "pem"
    WRONG: Final = "wrong"
    """The prints and the PEM are those of another certificate."""

    ALL: Final = frozenset({HOST, URL, SHA1, SHA256, PEM, WRONG})
    DEFAULT: Final = ALL - {WRONG}


def ticket_parts(text: str) -> frozenset[str]:
    """Read a list such as ``pem,host``. Raises ValueError for an unknown name."""
    parts = frozenset(part.strip() for part in text.split(",") if part.strip())
    if unknown := sorted(parts - TicketParts.ALL):
        raise ValueError(
            f"{unknown[0]} is no part of a ticket; they are {', '.join(sorted(TicketParts.ALL))}"
        )
    return parts


@dataclass(frozen=True, slots=True)
class VCenterOptions:
    """The options of one vCenter; the defaults behave as vCenter does. Times are in seconds."""

    interface: str = "127.0.0.1"
    port: int = 0
    """HTTPS port; 0 means a free port."""
    control_port: int | None = 0
    """Plain HTTP port on loopback that changes the simulation; None means no port."""
    certificate: Path | None = None
    """PEM file, created if missing. None means a new certificate in memory at every start."""
    private_key: Path | None = None
    name: str = "vc-01.lab.example"
    user: str = USER
    password: str = field(default=PASSWORD, repr=False)
    version: str = "9.0.0.0"
    """The newest version of the interface, one of VERSIONS."""
    machines: int = 12
    hosts: int = 3
    session_idle: float = 1800.0
    lockout_after: int = 5
    """Wrong passwords within `lockout_window` that lock the account; 0 means never."""
    lockout_window: float = 180.0
    lockout_time: float = 300.0
    task_time: float = 0.2
    """The duration of power operations and moves."""
    ticket_parts: frozenset[str] = TicketParts.DEFAULT
    host: HostOptions = field(default_factory=lambda: HostOptions(port=None, ticket_endpoint=False))
    """The options of every host, except for its address and its name."""

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            raise ValueError(f"{self.version} is no version of vSphere's interface")
        if not 0 <= self.machines <= 100_000:
            raise ValueError("machines must be between 0 and 100000")
        if not 1 <= self.hosts <= 200:
            raise ValueError("hosts must be between 1 and 200")
        if not self.session_idle > 0 or not self.task_time >= 0:
            raise ValueError("session_idle must be above 0 and task_time not negative")
        if not self.user or not self.password:
            raise ValueError("the user and the password cannot be empty")

    @property
    def supported(self) -> tuple[str, ...]:
        """The versions that the vCenter has, the newest first."""
        return VERSIONS[VERSIONS.index(self.version) :]

    @property
    def newest(self) -> Version:
        """The newest version as numbers."""
        return version_of(self.version)
