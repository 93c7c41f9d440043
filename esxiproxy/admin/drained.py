"""The drained parts of the proxies on all machines, from the shared state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from esxiproxy.core.host_name import host_key
from esxiproxy.core.session.drain import Drain, DrainKind, InvalidDrain, in_order, read_drain
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.core.session.reports import ProcessReport


class DrainedParts:
    """All drains at one time.  Values of other versions that cannot be read are left out."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self.all = in_order(_readable(values))
        self._runs = {(drain.run, drain.name) for drain in self.all if drain.kind.is_local}
        self._upstreams = {drain.name for drain in self.all if drain.kind is DrainKind.UPSTREAM}
        self._hosts = {drain.name for drain in self.all if drain.kind is DrainKind.HOST}

    def __bool__(self) -> bool:
        return bool(self.all)

    def covers(self, entry: SessionEntry, process: ProcessReport) -> bool:
        """Return whether a drain covers a console of this process."""
        return (
            self.has_listener(process.run, entry.listener)
            or self.has_upstream(entry.upstream)
            or self.has_host(*entry.host_names)
        )

    def has_proxy(self, run: str) -> bool:
        """Return whether the whole proxy is drained in this run."""
        return (run, "") in self._runs

    def has_listener(self, run: str, name: str) -> bool:
        """Return whether a listener of this run is drained, by itself or with the whole proxy."""
        return self.has_proxy(run) or (run, name) in self._runs

    def has_upstream(self, name: str) -> bool:
        """Return whether an upstream is drained."""
        return name in self._upstreams

    def has_host(self, *names: str) -> bool:
        """Return whether a host with one of these names or addresses is drained."""
        return bool(self._hosts) and any(host_key(name) in self._hosts for name in names)


def _readable(values: Iterable[str]) -> Iterator[Drain]:
    for value in values:
        try:
            yield read_drain(value)
        except InvalidDrain:  # of another version; each process logs it
            continue
