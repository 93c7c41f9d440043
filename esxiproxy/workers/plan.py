"""What the master has to know of a configuration; ``python -m esxiproxy.workers.plan FILE`` says it.

The master runs for as long as the service does, and the package may be upgraded under it.  So it reads no
configuration again itself: a fresh process of the installed code does, and tells it this.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

from esxiproxy.app.preflight import load_checked
from esxiproxy.core.config.loader import Config, ConfigError
from esxiproxy.core.config.model import MANHOLE


@dataclass(frozen=True, slots=True)
class Plan:
    """How many workers there are, and what they share.

    ``endpoints`` are Twisted endpoint descriptions by name.  ``state`` is the path of the database, empty
    when the configuration names none.  ``drain`` is how long a stop may take, in seconds.  ``content`` is the
    file as it was read: a worker that is started later has the same one; empty when nobody knows.
    ``warnings`` are the configuration's, as text: a line each.
    """

    workers: int
    endpoints: tuple[tuple[str, str], ...]
    state: str
    drain: float
    content: str = ""
    warnings: tuple[str, ...] = ()

    def text(self) -> str:
        """The plan in one line."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Self:
        """The plan of a line; one of a later version may have more to say.  Raises ValueError."""
        found = json.loads(text)
        try:
            endpoints = tuple((str(name), str(endpoint)) for name, endpoint in found["endpoints"])
            return cls(
                int(found["workers"]),
                endpoints,
                str(found["state"]),
                float(found["drain"]),
                str(found.get("content", "")),
                tuple(map(str, found.get("warnings", ()))),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"no plan: {error}") from error


def plan_of(config: Config) -> Plan:
    """The plan of a configuration."""
    endpoints = [(listener.name, listener.endpoint) for listener in config.listeners]
    if config.manhole is not None:
        endpoints.append((MANHOLE, config.manhole.endpoint))
    limits = config.limits
    return Plan(
        config.workers,
        tuple(endpoints),
        "" if config.state is None else str(config.state),
        limits.drain_timeout + limits.close_timeout,
        config.content.decode(),
        tuple(map(str, config.warnings)),
    )


def main(arguments: Sequence[str]) -> int:
    """Check the file: 0 and its plan on standard output, or 1 and its problems on standard error."""
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
