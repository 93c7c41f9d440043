"""The limits of the machine that matter to a proxy on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from esxiproxy.core.config.cpus import usable_cpus
from esxiproxy.ops.process.descriptors import hard_limit


@dataclass(frozen=True, slots=True)
class ProxyMachine:
    """The limits of the machine and of this process; None for one that the system does not tell.

    ``open_files`` is the hard limit on open files, infinite without one.  ``ports`` is the number of
    ephemeral ports, and ``backlog`` the longest queue of connections that are not accepted yet.
    """

    open_files: float
    cpus: int
    ports: int | None = None
    backlog: int | None = None

    @classmethod
    def read(cls, root: Path = Path("/")) -> ProxyMachine:
        """Return the limits of this machine.  ``root`` is the folder of ``proc`` and ``sys``."""
        sysctl = root / "proc/sys/net"
        ports = _numbers(sysctl / "ipv4/ip_local_port_range")
        backlog = _numbers(sysctl / "core/somaxconn")
        return cls(
            hard_limit(),
            usable_cpus(root),
            ports[1] - ports[0] + 1 if len(ports) == 2 else None,
            backlog[0] if len(backlog) == 1 else None,
        )


def _numbers(path: Path) -> list[int]:
    try:
        return [int(word) for word in path.read_text("ascii").split()]
    except (OSError, ValueError):
        return []
