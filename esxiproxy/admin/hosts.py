"""The hosts of the configuration and of open consoles: their use, their health and their failures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime

from esxiproxy.admin.drained import DrainedParts
from esxiproxy.admin.failures import FailureList
from esxiproxy.admin.known_hosts import KnownHost, KnownHosts, limit_of
from esxiproxy.admin.resolved_names import ResolvedNames
from esxiproxy.admin.session_list import SessionSnapshot
from esxiproxy.admin.stored_items import all_items
from esxiproxy.core.config.model import Config
from esxiproxy.core.session.stored_json import read_json
from esxiproxy.interfaces import IState

HOST_TEXTS = frozenset({"host", "address", "upstream", "router", "health"})
"""The columns that a word of a filter may name."""
HEALTH_SPACE = "health"
"""Space of the results of health checks."""
_AT_ONCE = 500
"""Claims that are counted by one call of the state."""


class HostRow:
    """One host in a list."""

    __slots__ = ("connections", "drained", "failures", "health", "known", "last_failure", "sessions")

    def __init__(
        self,
        known: KnownHost,
        sessions: int,
        connections: int | None,
        health: str,
        drained: bool,
        failures: int,
        last_failure: str | None,
    ) -> None:
        self.known = known
        self.sessions = sessions
        self.connections = connections
        self.health = health
        self.drained = drained
        self.failures = failures
        self.last_failure = last_failure

    @property
    def key(self) -> str:
        return f"{self.known.upstream} {self.known.name}"

    @property
    def words(self) -> str:
        known = self.known
        return "\n".join(
            (known.name, *known.addresses, known.upstream, known.router, self.health, self.last_failure or "")
        ).lower()

    @property
    def usage(self) -> float | None:
        """The part of the limit that is in use; None without a limit."""
        if self.connections is None or not self.known.limit:
            return None
        return self.connections / self.known.limit

    def column(self, name: str) -> Any:
        if name == "address":
            return ", ".join(self.known.addresses)
        if name == "host":
            return self.known.name
        return getattr(self.known if name in ("upstream", "router") else self, name)

    def fields(self, now: float) -> dict[str, Any]:
        """Return the host as the API returns it."""
        return {
            "host": self.known.name,
            "address": ", ".join(self.known.addresses),
            "upstream": self.known.upstream,
            "router": self.known.router,
            "sessions": self.sessions,
            "connections": self.connections,
            "limit": self.known.limit,
            "health": self.health,
            "drained": self.drained,
            "failures": self.failures,
            "last_failure": self.last_failure,
        }


class HostLister:
    """Makes the list of hosts out of the configuration, the state and what was read of it already."""

    def __init__(self, state: IState, in_thread: Callable[..., Awaitable[Any]], clock: IReactorTime) -> None:
        self._state = state
        self._known = KnownHosts(in_thread, clock)
        self._names = ResolvedNames(in_thread, clock.seconds)

    async def read(
        self, config: Config, snapshot: SessionSnapshot, drained: DrainedParts, failures: FailureList
    ) -> Sequence[HostRow]:
        """Return all hosts.  Raises StateUnavailable."""
        known = {(host.upstream, host.name): host for host in await self._known.read(config)}
        dialled = _dialled(snapshot)
        for upstream, name in dialled:
            if (upstream, name) not in known:
                known[upstream, name] = _unlisted(upstream, name, config)
        self._names.resolve(name for host in known.values() for name in host.names)
        addresses = {place: self._addresses(host, dialled.get(place, ())) for place, host in known.items()}
        used = await self._connections({address for found in addresses.values() for address in found})
        health = await read_health(self._state)
        rows = []
        for place, host in known.items():
            own = addresses[place]
            rows.append(
                HostRow(
                    host,
                    snapshot.counts.by_host[place],
                    sum(used[address] for address in own) if own else None,
                    health_of(own, health),
                    drained.has_upstream(host.upstream) or drained.has_host(host.name, *own),
                    failures.by_host[place],
                    failures.last_of_host.get(place),
                )
            )
        return rows

    def _addresses(self, host: KnownHost, dialled: Iterable[str]) -> tuple[str, ...]:
        """Return the IP addresses of a host, as far as they are known."""
        resolved = (address for name in host.names for address in self._names.addresses(name))
        return tuple({**dict.fromkeys(host.literals), **dict.fromkeys(dialled), **dict.fromkeys(resolved)})

    async def _connections(self, addresses: Iterable[str]) -> Mapping[str, int]:
        """Return the number of connections of all machines to each of these IP addresses."""
        wanted = sorted(addresses)
        found: dict[str, int] = {}
        for start in range(0, len(wanted), _AT_ONCE):
            part = wanted[start : start + _AT_ONCE]
            counts = await self._state.in_use([f"upstream {address}" for address in part])
            found.update({address: counts.get(f"upstream {address}", 0) for address in part})
        return found


def _dialled(snapshot: SessionSnapshot) -> Mapping[tuple[str, str], set[str]]:
    """Return the addresses of open consoles, by the upstream and the name of the host."""
    found: dict[tuple[str, str], set[str]] = {}
    for row in snapshot.rows:
        addresses = found.setdefault((row.entry.upstream, row.entry.host), set())
        if row.entry.address:
            addresses.add(row.entry.address)
    return found


def _unlisted(upstream: str, name: str, config: Config) -> KnownHost:
    """Return a host that only open consoles name."""
    template = config.upstreams.get(upstream)
    limit = None if template is None else limit_of(template, config.connection_limits)
    return KnownHost(name, upstream, "", (), (), (), limit)


async def read_health(state: IState) -> Mapping[str, bool]:
    """Return whether each checked IP address is up; an address with several ports is up if one of them is."""
    found: dict[str, bool] = {}
    for _key, text in await all_items(state, HEALTH_SPACE):
        match read_json(text):
            case [str(host), int(), bool(is_up)]:
                found[host] = found.get(host, False) or is_up
    return found


def health_of(addresses: Iterable[str], health: Mapping[str, bool]) -> str:
    """Return the health of a host with these addresses: ``up`` if one of them is up."""
    known = [health[address] for address in addresses if address in health]
    return "unknown" if not known else "up" if any(known) else "down"
