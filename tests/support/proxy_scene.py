"""A running proxy with scripted hosts behind its listeners, and its descriptors without clients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.crowd import TARGET
from tests.support.programs import Proxy, until
from tests.support.scripts import opened
from tests.support.websocket_peers import Client, Connection, Script, ScriptedUpstream

TLS_LISTENERS = ("three", "tls")


@dataclass
class ProxyScene:
    """A proxy, and the hosts by the names of their listeners; listeners in `TLS_LISTENERS` have TLS."""

    proxy: Proxy
    hosts: dict[str, ScriptedUpstream] = field(default_factory=dict)
    idle: int = 0
    """The number of descriptors without clients."""

    def client(self, name: str = "one", timeout: float = 10.0) -> Client:
        """Return a client that is connected to a listener."""
        return Client(self.proxy.ports[name], tls=name in TLS_LISTENERS, timeout=timeout)

    @contextlib.contextmanager
    def console(
        self, name: str = "one", script: Script = lambda _: None, timeout: float = 10.0
    ) -> Iterator[tuple[Client, Connection]]:
        """Open a console and yield both its ends; by default the test drives the host."""
        host = self.hosts[name]
        host.forget()
        host.script = opened(script)
        try:
            with self.client(name, timeout) as client:
                client.open(TARGET, ["binary"])
                connection = host.connection()
                connection.timeout = timeout
                yield client, connection
        finally:
            host.forget()
            host.script = None

    def measure(self) -> None:
        """Wait until the number of descriptors is steady, and keep it as `idle`."""
        self.idle = until(self.proxy.steady(), "the process is at rest")

    def is_idle(self) -> bool:
        """Return whether the process has no more descriptors than without clients."""
        return self.proxy.descriptors() <= self.idle

    def await_idle(self, seconds: float = 15.0) -> None:
        """Wait until all descriptors of sessions are closed."""
        until(self.is_idle, f"{self.idle} descriptors again", seconds)

    def dialled(self) -> int:
        """Return the number of all connections that the hosts have had."""
        return sum(len(host.connections) for host in self.hosts.values())
