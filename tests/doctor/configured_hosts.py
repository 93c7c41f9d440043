"""Servers for hosts of a configuration, and the command that examines it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tests.support.certificates import Authority, Certificate
from tests.support.config import ini, listener, router, upstream
from tests.support.examined_config import Examined, examine_config
from tests.support.peer import NotInTime
from tests.support.scripts import refuse
from tests.support.websocket_peers import Connection, Script, ScriptedUpstream

DAY = timedelta(days=1)
StartUpstream = Callable[..., ScriptedUpstream]
OTHER_PIN = "sha256:" + "AB" * 32


def mute(connection: Connection) -> None:
    """Take everything, say nothing."""
    with contextlib.suppress(NotInTime, OSError):
        connection.recv_eof(60)


@dataclass
class Places:
    """The fixtures of a case: certificates, a folder, and servers that end with the test."""

    start: StartUpstream
    authority: Authority
    good: Certificate
    folder: Path
    black_hole: int = 0

    def server(self, script: Script | None = None, certificate: Certificate | None = None) -> int:
        """Run a server, which answers 200 without a script, and return its port."""
        return self.start(script or refuse("200 OK"), certificate).port

    def leaf(self, **how: object) -> Certificate:
        return self.authority.server("leaf", **how)  # type: ignore[arg-type]


def examine(folder: Path, *sections: str, options: tuple[str, ...] = (), timeout: float = 5.0) -> Examined:
    """Examine a configuration of these sections and of a listener."""
    file = folder / "proxy.ini"
    file.write_text(
        ini(
            *sections,
            listener(upstream=None, router="fleet"),
            router("fleet", "static", **{"match.a": "path:/a -> esxi1"}),
        )
    )
    return examine_config(file, "--timeout", str(timeout), *options)


def wss(port: int, host: str = "127.0.0.1") -> str:
    return f"wss://{host}:{port}"


def by_ca(places: Places, port: int, host: str = "127.0.0.1", **keys: object) -> str:
    return upstream(wss(port, host), verify="ca", ca=places.authority.path, **keys)
