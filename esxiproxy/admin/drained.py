"""The drained parts of the proxies, as they stand in the shared state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from esxiproxy.core.networks import canonical
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.core.session.stored_json import read_json, typed_fields

DRAINS = "drains"
"""Space of the drains."""
_KINDS = ("proxy", "listener", "upstream", "host")


@dataclass(frozen=True, slots=True)
class StoredDrain:
    """A drain: its kind, its name, where it holds, since when, until when, and who has asked for it.

    ``machine`` and ``run`` are empty for an upstream and a host, which are drained on all machines.
    """

    kind: str = ""
    name: str = ""
    machine: str = ""
    run: str = ""
    since: float = 0.0
    end: float | None = None
    by: str = ""
    reason: str = ""

    @classmethod
    def decode(cls, text: str) -> Self | None:
        """Return a stored drain, or None if it is none that this version knows."""
        found = read_json(text)
        drain = cls(**typed_fields(cls, found)) if isinstance(found, dict) else None
        return drain if drain is not None and drain.kind in _KINDS else None

    def covers(self, entry: SessionEntry, machine: str) -> bool:
        """Return whether a console that runs on this machine uses what is drained."""
        if self.kind == "host":
            return host_key(entry.host) == self.name
        if self.kind == "upstream":
            return entry.upstream == self.name
        return host_key(machine) == self.machine and self.name in ("", entry.listener)


@lru_cache(maxsize=4096)
def host_key(name: str) -> str:
    """Return the form in which names of hosts and machines are compared in drains."""
    try:
        return canonical(name.strip("[]"))
    except ValueError:
        return name.lower().removesuffix(".")


class DrainedParts:
    """All drains at one time."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        found = (StoredDrain.decode(value) for value in values)
        self.all: Sequence[StoredDrain] = [drain for drain in found if drain is not None]
        self._upstreams = {drain.name for drain in self.all if drain.kind == "upstream"}
        self._hosts = {drain.name for drain in self.all if drain.kind == "host"}
        self._places = {
            (drain.machine, drain.name) for drain in self.all if drain.kind in ("proxy", "listener")
        }
        self._local = {
            (drain.kind, drain.machine, drain.run, drain.name)
            for drain in self.all
            if drain.kind in ("proxy", "listener")
        }

    def __bool__(self) -> bool:
        return bool(self.all)

    def covers(self, entry: SessionEntry, machine: str) -> bool:
        """Return whether a drain covers a console that runs on this machine."""
        where = host_key(machine)
        return (
            entry.upstream in self._upstreams
            or (where, "") in self._places
            or (where, entry.listener) in self._places
            or self.has_host(entry.host)
        )

    def has_proxy(self, machine: str, run: str) -> bool:
        """Return whether the whole proxy is drained in this run."""
        return ("proxy", host_key(machine), run, "") in self._local

    def has_listener(self, machine: str, run: str, name: str) -> bool:
        """Return whether a listener of this run is drained by itself or with the whole proxy."""
        return self.has_proxy(machine, run) or ("listener", host_key(machine), run, name) in self._local

    def has_upstream(self, name: str) -> bool:
        """Return whether an upstream is drained."""
        return name in self._upstreams

    def has_host(self, *names: str) -> bool:
        """Return whether a host with one of these names or addresses is drained."""
        return bool(self._hosts) and any(host_key(name) in self._hosts for name in names)
