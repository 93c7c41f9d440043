"""The proxy under load: a real process with the three listeners, and what it uses."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.cores import raise_descriptors
from bench.soak.console import Door
from bench.soak.load import Load
from bench.soak.loop import Loop
from bench.soak.tally import Tally
from bench.soak.upstream import Upstream
from bench.usage import tree
from tests.support import config
from tests.support.certificates import Authority, Certificate
from tests.support.programs import Proxy, until
from tests.support.websocket_peers import trusting_context


def configuration(upstream: Upstream, shown: Certificate, own: Certificate, lines: str = "") -> str:
    """Return the three listeners in front of this upstream, with the certificates of both.

    Connections to one host are not limited, because one host has all the consoles.
    """
    return config.ini(
        config.listener("ws-ws", "plain"),
        config.listener("ws-wss", "secure"),
        config.listener("wss-wss", "secure", tls=own),
        config.upstream(upstream.plain, "plain"),
        config.upstream(upstream.secure, "secure", pin=shown),
        more=lines,
        max_connections="off",
    )


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources of all processes of the proxy together."""

    resident: int
    """Bytes of memory, programs and libraries included; what several processes share counts once (PSS)."""
    memory: int
    """Of these, bytes that stand in no file: what the proxy has asked for."""
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Return the usage of this process and of all its descendants."""
        sums = [0, 0, 0]
        for process in tree([pid]):
            folder = Path("/proc") / str(process)
            try:
                text = (folder / "smaps_rollup").read_text()
                found = [
                    int(size) * 1024 for size in re.findall(r"^Pss(?:_Anon)?: +(\d+)", text, re.MULTILINE)
                ]
                found.append(_open(folder / "fd"))
            except OSError:  # it has just ended
                continue
            sums = [one + other for one, other in zip(sums, found, strict=True)]
        return cls(*sums)


def _open(folder: Path) -> int:
    """Return the number of descriptors without epoll sets, which appear with the first connection."""
    count = 0
    for entry in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            count += not os.readlink(folder / entry).startswith("anon_inode")
    return count


@dataclass(frozen=True)
class Stage:
    """A load, its upstream, and the proxy between them; nothing is connected yet."""

    load: Load
    proxy: Proxy
    authority: Authority
    own: Certificate
    """What the listener with TLS shows."""
    idle: Usage
    """The usage of the proxy without clients."""

    def usage(self) -> Usage:
        """Return the present usage of the proxy."""
        return Usage.of(self.proxy.pid)

    def is_idle(self) -> bool:
        """Return whether the proxy has no more descriptors than before the first connection."""
        return self.usage().descriptors <= self.idle.descriptors


@contextlib.contextmanager
def staged(folder: Path, pace: float, lines: str = "", workers: int = 1) -> Iterator[Stage]:
    """Run the proxy with these lines in its [proxy], and a load at this pace."""
    lines += f"\nworkers = {workers}"
    authority = Authority(folder)
    shown, own = authority.server("upstream"), authority.server("listener")
    raise_descriptors()
    loop, tally, context = Loop(), Tally(), trusting_context()
    upstream = Upstream(loop, tally, shown.server_context(), pace)
    try:
        with Proxy(configuration(upstream, shown, own, lines)) as proxy:
            doors = [
                Door(name, port, context if name == "wss-wss" else None) for name, port in proxy.ports.items()
            ]
            if workers > 1:
                until(lambda: "all workers are ready" in proxy.log(), "all workers are ready", 60)
            load = Load(loop, tally, upstream, doors, pace)
            # The connections that asked whether it is ready are gone when their descriptors are.
            least = until(_steady(proxy.pid), "the proxy's descriptors do not change")
            yield Stage(load, proxy, authority, own, least)
    finally:
        upstream.close()
        loop.close()


def _steady(pid: int) -> Callable[[], Usage | None]:
    last, times = -1, 0

    def ask() -> Usage | None:
        nonlocal last, times
        usage = Usage.of(pid)
        times = times + 1 if usage.descriptors == last else 0
        last = usage.descriptors
        return usage if times >= 10 else None

    return ask
