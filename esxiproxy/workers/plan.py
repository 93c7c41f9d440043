"""The plan of a configuration: what the master needs of it.

``python -m esxiproxy.workers.plan FILE`` checks a configuration and prints its plan.  The package may be
upgraded while the master runs, so the master starts this program to read a configuration with the installed
code.
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
    """The number of workers, and what they share.

    ``endpoints`` are pairs of a listener's name and its Twisted endpoint description.  ``state`` is the path
    of the database, empty when the configuration has none.  ``drain`` is the longest duration of a stop, in
    seconds.  ``content`` is the text of the configuration file, so that a worker that is started later uses
    the same one; it is empty in the plan of an older version.  ``warnings`` are the warnings on the
    configuration, one line each.
    """

    workers: int
    endpoints: tuple[tuple[str, str], ...]
    state: str
    drain: float
    content: str = ""
    warnings: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the plan as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Self:
        """Parse a plan, and ignore unknown fields, which a later version may have.  Raises ValueError."""
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
            raise ValueError(f"not a plan: {error}") from error


def plan_of(config: Config) -> Plan:
    """Return the plan of a configuration."""
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
