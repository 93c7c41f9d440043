"""The measured proxies.  Each runs all listeners in one process, websockify one process per listener."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import configurations
from bench.build import ROOT
from bench.cores import LOAD, PROXY, pinned
from bench.modes import LISTENERS, WARM, Key, Mode, Upstreams
from tests.support.programs import Program, accepts, free_ports

PATH = "/usr/sbin:/usr/local/sbin:/sbin"


class Pinned(Program):
    """A proxy's process on the proxies' core.  It is ready when all its ports accept connections."""

    def __init__(self, name: str, ports: Sequence[int], compose: Callable[[Path], Sequence[object]]) -> None:
        self.name = name
        super().__init__()
        self._ports = ports
        self._compose = compose

    def command(self) -> Sequence[str | Path]:
        return [*pinned(PROXY), *map(str, self._compose(self.folder))]

    def is_ready(self) -> bool:
        return all(map(accepts, self._ports))


class Peer:
    """A measured proxy.

    ``raw`` says that its upstream speaks plain TCP; ``most_sessions`` limits its number of sessions.
    """

    raw = False
    most_sessions = 1 << 20

    def __init__(self, name: str, upstreams: Upstreams) -> None:
        self.name = name
        self.upstreams = upstreams
        self.ports: dict[Key, int] = dict(zip(self._keys(), free_ports(len(self._keys())), strict=True))
        self.ping_interval: str | None = None
        self.programs = self._programs()

    def _keys(self) -> list[Key]:
        return [(mode.name, variant) for mode, variant in LISTENERS]

    def _programs(self) -> list[Pinned]:
        return [Pinned(self.name.partition("=")[0], list(self.ports.values()), self._compose)]

    def _compose(self, folder: Path) -> Sequence[object]:
        """Write the configuration and return the command that uses it."""
        raise NotImplementedError

    def port(self, mode: Mode, variant: str = WARM) -> int:
        """Return a listener's port."""
        return self.ports[mode.name, variant]

    def pids(self) -> list[int]:
        """Return the IDs of the started processes, which may have children."""
        return [program.pid for program in self.programs]

    def start(self, ping_interval: str | None = None) -> None:
        """Start the proxy; it pings its clients every ``ping_interval`` if it supports that."""
        self.ping_interval = ping_interval
        for program in self.programs:
            program.start()

    def stop(self) -> None:
        """Stop the proxy, which can be started again."""
        for program in self.programs:
            program.stop(20)

    def close(self) -> None:
        """Stop the proxy and delete its files."""
        for program in self.programs:
            program.stop(20)
            shutil.rmtree(program.folder, ignore_errors=True)


class Direct(Peer):
    """No proxy: the load connects to the upstream directly, on the core that they share."""

    def _programs(self) -> list[Pinned]:
        return []

    def port(self, mode: Mode, variant: str = WARM) -> int:
        return self.upstreams.ports[mode.upstream(variant)]


class Esxiproxy(Peer):
    """`twistd -n esxiproxy`, from this checkout or from another one (`esxiproxy=PATH`)."""

    def _compose(self, folder: Path) -> Sequence[object]:
        tree = Path(self.name.partition("=")[2] or ROOT).resolve()
        configuration = folder / "proxy.ini"
        configuration.write_text(configurations.esxiproxy(self.ports, self.upstreams, self.ping_interval))
        twistd = Path(sys.executable).parent / "twistd"
        command = ["twistd", "-n", "--pidfile=", "esxiproxy", "--config", configuration]
        return ["env", f"PYTHONPATH={tree}", twistd, *command[1:]]


class Watcher(Program):
    """The reader of the page and of the metrics of a watched proxy, on the load's core."""

    name = "watcher"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def command(self) -> Sequence[str | Path]:
        return [*pinned(LOAD), sys.executable, "-m", "bench.watcher", self._path]

    def is_ready(self) -> bool:
        return True


class Watched(Esxiproxy):
    """esxiproxy with [admin], with the page open, metrics scraped each second and the access log on."""

    def _programs(self) -> list[Pinned]:
        self._socket = Path(tempfile.mkdtemp(prefix="bench-")) / "admin.sock"
        return super()._programs()

    def _compose(self, folder: Path) -> Sequence[object]:
        command = super()._compose(folder)
        configuration = folder / "proxy.ini"
        text = configuration.read_text().replace("[proxy]", f"[proxy]\naccess_log = {folder}/access.log")
        configuration.write_text(f"{text}[admin]\nsocket = {self._socket}\n")
        return command

    def start(self, ping_interval: str | None = None) -> None:
        super().start(ping_interval)
        self._watcher = Watcher(self._socket)
        self._watcher.start()

    def stop(self) -> None:
        self._watcher.stop(20)
        super().stop()

    def close(self) -> None:
        self._watcher.stop(20)
        super().close()
        shutil.rmtree(self._socket.parent, ignore_errors=True)


class Nginx(Peer):
    """nginx with one worker, with default buffers or with 64 KiB buffers (`nginx-64k`)."""

    def _compose(self, folder: Path) -> Sequence[object]:
        text = configurations.nginx(self.ports, self.upstreams, folder, self.name.endswith("64k"))
        (folder / "nginx.conf").write_text(text)
        return [_found("nginx"), "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"]


class HAProxy(Peer):
    """HAProxy with one thread."""

    def _compose(self, folder: Path) -> Sequence[object]:
        for own in (self.upstreams.own, self.upstreams.rsa_own):
            (folder / f"{own.path.stem}.pem").write_text(own.path.read_text() + own.key_path.read_text())
        (folder / "haproxy.cfg").write_text(configurations.haproxy(self.ports, self.upstreams, folder))
        return [_found("haproxy"), "-db", "-f", folder / "haproxy.cfg"]


class Websockify(Peer):
    """websockify, which forks for each session and unwraps frames; its upstream speaks TCP or TLS."""

    raw = True
    most_sessions = 200

    def _programs(self) -> list[Pinned]:
        def one(mode: Mode, variant: str) -> Pinned:
            port = self.ports[mode.name, variant]
            target = self.upstreams.ports[mode.upstream(raw=True)]
            return Pinned(self.name, [port], lambda _folder: self._command(mode, variant, port, target))

        return [one(mode, variant) for mode, variant in LISTENERS]

    def _command(self, mode: Mode, variant: str, port: int, target: int) -> Sequence[object]:
        own = self.upstreams.of_listener(variant)
        command: list[object] = [_found("websockify")]
        if self.ping_interval:
            command.append(f"--heartbeat={self.ping_interval.rstrip('s')}")
        if mode.tls_down:
            command += [f"--cert={own.path}", f"--key={own.key_path}"]
        if mode.tls_up:
            command.append("--ssl-target")
        return [*command, f"127.0.0.1:{port}", f"127.0.0.1:{target}"]


KINDS: dict[str, type[Peer]] = {
    "direct": Direct,
    "esxiproxy": Esxiproxy,
    "esxiproxy-watched": Watched,
    "nginx": Nginx,
    "nginx-64k": Nginx,
    "haproxy": HAProxy,
    "websockify": Websockify,
}


def peer(name: str, upstreams: Upstreams) -> Peer:
    """Return the peer with this name; `esxiproxy=PATH` is the proxy of another checkout."""
    return KINDS[name.partition("=")[0]](name, upstreams)


def missing(name: str) -> bool:
    """Return whether the program is not installed."""
    program = {"nginx-64k": "nginx"}.get(name, name)
    return name in ("nginx", "nginx-64k", "haproxy", "websockify") and _which(program) is None


def _which(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path=PATH)


def _found(program: str) -> str:
    path = _which(program)
    if path is None:
        raise FileNotFoundError(f"{program} is not installed")
    return path


def scratch() -> Path:
    """Create a folder for certificates."""
    return Path(tempfile.mkdtemp(prefix="bench-"))
