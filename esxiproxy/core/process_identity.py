"""The identity of one process of the proxy among all that share the state."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """The identity of a process: its machine, its run, its worker and its generation.

    ``run`` is the id of one run of the proxy on its machine: all workers of one master have the same one,
    over reloads.  ``worker`` is the number of the worker as text, or ``admin``.  ``generation`` counts the
    reloads of the master before the process was started.
    """

    machine: str = field(default_factory=socket.gethostname)
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    worker: str = "0"
    generation: int = 0

    def __post_init__(self) -> None:
        """Write the machine in lower case without a final dot, as host names compare."""
        object.__setattr__(self, "machine", self.machine.lower().removesuffix("."))
