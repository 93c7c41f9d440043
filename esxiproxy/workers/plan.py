"""The plan of a configuration: what the master needs of it.

``python -m esxiproxy.workers.plan FILE`` checks a configuration and prints its plan.  The package may be
upgraded while the master runs, so the master starts this program to read a configuration with the installed
code.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from esxiproxy.app.preflight import load_checked
from esxiproxy.core.config.loader import Config, ConfigError
from esxiproxy.core.config.model import MANHOLE
from esxiproxy.core.config.state_url import RedisAddress


@dataclass(frozen=True, slots=True)
class Plan:
    """The number of workers, and what they share.

    ``endpoints`` are pairs of a listener's name and its Twisted endpoint description.  ``state`` is the path
    of the database or the URL of a Redis database, empty when the configuration has none.  ``drain`` is the
    longest duration of a stop, in seconds.  ``content`` is the text of the configuration file, so that a
    worker that is started later uses the same one; it is empty in the plan of an older version.
    ``warnings`` are the warnings on the configuration, one line each.

    ``machine`` is the name of this machine.  ``needs_admin`` is whether an admin process is needed, and
    ``admin_endpoints`` are its sockets, in the form of ``endpoints``: those of [admin], and those of the
    manhole.  ``socket_group`` is the group of its unix sockets, empty for none.  ``needs_sockets`` is whether
    workers ask the admin process.  In the plan of an older version ``machine`` is empty, and there is no
    admin process.
    """

    workers: int
    endpoints: tuple[tuple[str, str], ...]
    state: str
    drain: float
    content: str = ""
    warnings: tuple[str, ...] = ()
    machine: str = ""
    needs_admin: bool = False
    admin_endpoints: tuple[tuple[str, str], ...] = ()
    socket_group: str = ""
    needs_sockets: bool = False

    def text(self) -> str:
        """Return the plan as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Self:
        """Parse a plan, and ignore unknown fields, which a later version may have.  Raises ValueError."""
        found = json.loads(text)
        try:
            return cls(
                int(found["workers"]),
                _pairs(found["endpoints"]),
                str(found["state"]),
                float(found["drain"]),
                str(found.get("content", "")),
                tuple(map(str, found.get("warnings", ()))),
                str(found.get("machine", "")),
                bool(found.get("needs_admin", False)),
                _pairs(found.get("admin_endpoints", ())),
                str(found.get("socket_group", "")),
                bool(found.get("needs_sockets", False)),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a plan: {error}") from error


def _pairs(found: Iterable[tuple[Any, Any]]) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), str(endpoint)) for name, endpoint in found)


def plan_of(config: Config) -> Plan:
    """Return the plan of a configuration."""
    endpoints = [(listener.name, listener.endpoint) for listener in config.listeners]
    if config.manhole is not None and not config.needs_admin_process:
        endpoints.append((MANHOLE, config.manhole.endpoint))
    limits, admin = config.limits, config.admin
    return Plan(
        config.workers,
        tuple(endpoints),
        "" if config.state is None else str(config.state),
        limits.drain_timeout + limits.close_timeout,
        config.content.decode(),
        tuple(map(str, config.warnings)),
        config.machine or socket.gethostname(),
        config.needs_admin_process,
        config.admin_endpoints,
        "" if admin is None else admin.socket_group or "",
        config.needs_sites,
    )


def state_of(config: Config, state: str) -> Path | RedisAddress:
    """Return where a child has its state: at the path that the master gave it, or in Redis.

    The configuration has the files of the password and the authorities, which no URL has.
    """
    return config.state if isinstance(config.state, RedisAddress) else Path(state)


def main(arguments: Sequence[str]) -> int:
    """Check a configuration, and return the exit status.

    It is 0, with the plan on standard output, or 1, with the problems on standard error.
    """
    (path,) = arguments
    try:
        config = load_checked(path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    print(plan_of(config).text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
