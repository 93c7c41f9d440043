"""The outcome of a reload."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReloadOutcome:
    """Whether a reload has put the configuration into force, and the lines of the log that say why not."""

    reloaded: bool
    problems: tuple[str, ...] = ()
