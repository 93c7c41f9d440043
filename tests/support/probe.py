"""A proxy with a view of its inside: what the kernel reports about its process, and its own objects.

The second half is a plugin, which answers on a unix socket.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CoroutineType
from typing import Any

from OpenSSL.SSL import Connection
from twisted.application.service import Service
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from tests.support.programs import ROOT, Proxy

SOCKET = "probe.sock"
OTHERS = (Connection, DelayedCall, Deferred, socket.socket)
"""What is counted of other people's classes."""


def offer(folder: Path, plugins: Mapping[str, Mapping[str, str]]) -> None:
    """Install a package there that offers these plugins: group to name to `module:callable`."""
    package = folder / "esxiproxy_test_plugins-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: esxiproxy-test-plugins\nVersion: 1\n")
    lines = [
        line
        for group, named in plugins.items()
        for line in (f"[{group}]", *(f"{name} = {where}" for name, where in named.items()), "")
    ]
    (package / "entry_points.txt").write_text("\n".join(lines))


class Offering(Proxy):
    """A proxy with plugins of a test's own: group to name to `module:callable`."""

    plugins: Mapping[str, Mapping[str, str]] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        offer(self.folder, self.plugins)

    def command(self) -> Sequence[str | Path]:
        return ["env", f"PYTHONPATH={ROOT}:{self.folder}", *super().command()]


class ProbedProxy(Offering):
    """A proxy with `services = probe` in its text, and with what else is offered.

    `before` is what runs it: a command that ends in the command that it is given. With the variable
    `PROBE_COLLECTS=alone` there is no garbage collection but that of the look inside.
    """

    def __init__(
        self,
        text: str,
        plugins: Mapping[str, Mapping[str, str]] | None = None,
        before: Sequence[str | Path] = (),
        **variables: str,
    ) -> None:
        self.plugins = {"esxiproxy.services": {"probe": "tests.support.probe:Probe"}} | dict(plugins or {})
        super().__init__(text)
        self._before = [*before]
        self._variables = variables

    def command(self) -> Sequence[str | Path]:
        variables = [f"{name}={value}" for name, value in self._variables.items()]
        return [*self._before, "env", *variables, *super().command()]

    def inside(self) -> dict[str, int]:
        """Return the numbers of the proxy's objects by class, timers, Deferreds, coroutines and threads."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(30)
            line.connect(str(self.folder / SOCKET))
            with line.makefile() as answer:
                counts: dict[str, int] = json.load(answer)
        return counts


class Probe(Service):
    """Answers every connection with what there is in the process."""

    def __init__(self, _config: Any, reactor: Any) -> None:
        self._reactor = reactor
        self._port: Any = None

    def startService(self) -> None:
        super().startService()
        if os.environ.get("PROBE_COLLECTS") == "alone":
            gc.disable()
        factory = Factory.forProtocol(Answer)
        factory.noisy = False
        factory.clock = self._reactor  # type: ignore[attr-defined]
        self._port = self._reactor.listenUNIX(SOCKET, factory)

    def stopService(self) -> Any:
        super().stopService()
        return self._port.stopListening()


class Answer(Protocol):
    """One answer."""

    factory: Any

    def connectionMade(self) -> None:
        # In a turn of its own: what has just ended is still on the stack of this one.
        self.factory.clock.callLater(0, self._answer)

    def _answer(self) -> None:
        transport: Any = self.transport
        try:
            transport.write(json.dumps(counts(self.factory.clock)).encode())
        finally:
            transport.loseConnection()


def counts(reactor: Any) -> dict[str, int]:
    """Return the numbers after a garbage collection, which has found so many objects."""
    found: Counter[str] = Counter(garbage=gc.collect())
    for thing in gc.get_objects():
        kind = type(thing)
        ours = str(kind.__module__).startswith("esxiproxy.")
        if ours or kind in OTHERS or isinstance(thing, CoroutineType):
            found[kind.__name__] += 1
    found["spent timers"] = found.pop("DelayedCall", 0) + found.pop("QueuedCall", 0)
    found["timers"] = sum(call.active() for call in reactor.getDelayedCalls())
    found["threads"] = threading.active_count()
    return dict(found)
