"""The unix sockets of the admin process that only processes of the same proxy reach."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PORTAL = "portal"
"""The name of the site with the page of the users' machines."""
TICKETS = "tickets"
"""The name of the site that routers ask for machines and tickets."""


@dataclass(frozen=True, slots=True)
class PrivateSites:
    """The sockets of the sites of one generation, in a folder that only the proxy may open.

    ``generation`` is that of this process.  Each generation of the admin process binds sockets of its own, so
    that a worker is answered under its own configuration.
    """

    folder: Path
    generation: int

    def own(self, name: str) -> Path:
        """Return the path of the socket that the admin process of this generation binds."""
        return self.folder / f"{name}-{self.generation}.sock"

    def newest(self, name: str) -> Path:
        """Return the path of the link to the socket of the admin process that was opened last."""
        return self.folder / f"{name}.sock"
