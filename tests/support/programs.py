"""Real programs for the tests: started on free ports, ready when they answer, ended by their own pid."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

import pytest
from PIL import Image

from tests.support.kernel import Seen

ROOT = Path(__file__).resolve().parents[2]
RUNNING: list[Program] = []
"""The programs that run now: a failing test shows the end of what each of them wrote."""
STOPPED: list[Callable[[Program], None]] = []
"""Called with each program that has ended, while its log is still there."""

TICKET = "secret-ticket"
"""Stands in the targets of the tests' requests: no log of ours may ever show it."""

T = TypeVar("T")


def skip(reason: str, problem: str = "") -> NoReturn:
    """Skip the test, or fail with the problem and the reason where everything has to be there."""
    if os.environ.get("ESXIPROXY_REQUIRE_ALL") == "1":
        pytest.fail(problem + reason)
    pytest.skip(reason)


def need(program: str, package: str) -> str:
    """Return the path of a program; without it skip the test, or fail where all programs are required."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path:
        return path
    skip(f"install Debian package {package}", f"{program} is missing: ")


def need_python_program(program: str) -> str:
    """Return the path of a program of PyPI, which has a venv with its own versions of libraries."""
    path = shutil.which(program, path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if path:
        return path
    reason = f"pip install {program} (into a venv of its own, with its bin/{program} on the PATH)"
    skip(reason, f"{program} is missing: ")


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment, in which a Python child writes its lines at once.

    Otherwise a child that prints into a pipe keeps its lines until they fill a buffer, and a test that waits
    for one of them does not end.
    """
    return {**os.environ, "PYTHONUNBUFFERED": "1", **variables}


def free_ports(count: int) -> list[int]:
    """Return so many different free ports on 127.0.0.1.

    They are none that the kernel chooses: those may be another socket's before the program of the test binds
    them, and a client that connects to one that nobody has may be connected to itself.
    """
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    others = [*range(11_000, first), *range(last + 1, 65_536)] or range(11_000, 65_536)
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            probe = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", secrets.choice(others)))
                found.append(probe.getsockname()[1])
    return found


def free_port() -> int:
    """Return a free port on 127.0.0.1."""
    return free_ports(1)[0]


@contextlib.contextmanager
def dead_port() -> Iterator[int]:
    """Yield a port on 127.0.0.1 that refuses connections and stays reserved."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """Yield a port on 127.0.0.1 that answers no SYN, as behind a firewall, because its queue is full."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def until(ask: Callable[[], T | None], what: str, seconds: float = 20.0) -> T:
    """Call a function until its result is neither None nor False, and return that; fail after a deadline."""
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


def accepts(port: int) -> bool:
    """Return whether a process accepts connections on this port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Program(Seen):
    """A program in a process and a temporary folder of its own.

    As a context manager it ends with the block. What it wrote is in `log()`, and is shown when the block
    fails.
    """

    name = "program"
    ours = True
    """Whether its log has to be as clean as the proxy's own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self.status: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log = self.folder / "output.log"

    @property
    def pid(self) -> int:  # type: ignore[override]
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    def command(self) -> Sequence[str | Path]:
        """Return the command line."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Return whether the program can be used."""
        raise NotImplementedError

    def start(self, seconds: float = 60.0) -> Self:
        """Start it and wait until it is ready; if it is not in time, fail with what it wrote."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in self.command()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=environment(PYTHONPATH=str(ROOT)),
            )
        RUNNING.append(self)
        try:
            until(self._ready_or_dead, f"{self.name} is ready", seconds)
        except BaseException as problem:
            self.stop()
            raise AssertionError(f"{problem}\n{self.name} wrote:\n{self.log()}") from None
        return self

    def _ready_or_dead(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"{self.name} ended with status {self._process.returncode}")
        return self.is_ready()

    def stop(self, seconds: float = 10.0) -> int:
        """End it with SIGTERM, or with SIGKILL when that does not help; its exit status."""
        assert self._process is not None
        if self in RUNNING:
            RUNNING.remove(self)
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self.status = self._process.wait(seconds)
        for call in STOPPED:
            call(self)
        return self.status

    def log(self) -> str:
        """Return everything that the program has written so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is not None:
            print(f"--- {self.name} wrote:\n{self.log()}", file=sys.stderr)
        shutil.rmtree(self.folder, ignore_errors=True)


class Nginx(Program):
    """nginx in the foreground with one worker; the text is the content of its `http` block.

    It is ready when every `listen 127.0.0.1:PORT` of the text accepts connections.
    """

    name = "nginx"
    ours = False

    def __init__(self, text: str) -> None:
        self._path = need("nginx", "nginx-light")
        super().__init__()
        self._ports = [int(port) for port in re.findall(r"listen\s+127\.0\.0\.1:(\d+)", text)]
        temporary = "".join(
            f"    {kind}_temp_path {self.folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
        )
        user = "user root;\n" if os.getuid() == 0 else ""
        (self.folder / "nginx.conf").write_text(
            f"{user}daemon off;\nworker_processes 1;\npid {self.folder}/nginx.pid;\nerror_log stderr info;\n"
            f"events {{ worker_connections 4096; }}\nhttp {{\n    access_log off;\n{temporary}{text}\n}}\n"
        )

    def command(self) -> Sequence[str | Path]:
        return [self._path, "-p", self.folder, "-c", self.folder / "nginx.conf", "-e", "stderr"]

    def is_ready(self) -> bool:
        return all(accepts(port) for port in self._ports)


class Proxy(Program):
    """esxiproxy under `twistd -n`, with this INI text.

    `addresses` and `ports` have the address and the port of each listener by its name, as the log has them.
    The process is ready when all listeners listen, and those on 127.0.0.1 take connections.
    """

    name = "esxiproxy"

    def __init__(self, text: str) -> None:
        super().__init__()
        self.path = self.folder / "proxy.ini"
        self.path.write_text(text)
        self._names = set(re.findall(r"^\[listener ([^\]]+)\]", text, re.MULTILINE))
        self.addresses: dict[str, str] = {}
        self.ports: dict[str, int] = {}

    def command(self) -> Sequence[str | Path]:
        twistd = Path(sys.executable).parent / "twistd"
        return [twistd, "-n", "--pidfile=", "esxiproxy", "--config", self.path]

    def is_ready(self) -> bool:
        self.addresses = dict(re.findall(r"listener (\S+) listening on (\S+)", self.log()))
        found = {name: re.search(r":(\d+)$", address) for name, address in self.addresses.items()}
        self.ports = {name: int(port[1]) for name, port in found.items() if port}
        local = (name for name in self.ports if self.addresses[name].startswith(("127.0.0.1:", "0.0.0.0:")))
        return self._names <= self.addresses.keys() and all(accepts(self.ports[name]) for name in local)

    def assert_clean(self) -> None:
        """Fail if the log has a traceback, an unhandled error, a ticket, or each connection that is made."""
        assert not re.search(f"Traceback|Unhandled|Starting factory|{TICKET}", self.log()), self.log()


BOOT_SECTOR = bytes.fromhex(
    "b4 01 b9 07 26 cd 10"  # mov ah, 1; mov cx, 2607h; int 10h: no cursor, so nothing blinks
    "bb 07 00"  # mov bx, 7: page 0, grey
    "b0 3e e6 e9"  # mov al, '>'; out 0e9h, al: the machine is ready
    "30 e4 cd 16"  # again: xor ah, ah; int 16h: wait for a key
    "b4 0e cd 10"  # mov ah, 0eh; int 10h: write it
    "e6 e9"  # out 0e9h, al: and tell the test
    "eb f4"  # jmp again
)


class Qemu(Program):
    """A virtual machine that writes what is typed, its console on a WebSocket of QEMU's own VNC server.

    Its disk is one boot sector of ours: it hides the cursor and echoes keys, to the screen and to the file
    behind `typed()`. So the picture changes with a key and with nothing else.
    """

    name = "qemu"
    ours = False

    def __init__(self, tls: Path | None = None) -> None:
        """Take a folder of `certificates.qemu_folder` as `tls`, for which the WebSocket is wss."""
        self._path = need("qemu-system-x86_64", "qemu-system-x86")
        super().__init__()
        self._tls = tls
        self.port, self._display = free_ports(2)
        boot = BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa"
        (self.folder / "boot.img").write_bytes(boot.ljust(1 << 20, b"\0"))

    def command(self) -> Sequence[str | Path]:
        vnc = f"127.0.0.1:{self._display - 5900},websocket={self.port}"
        command: list[str | Path] = [self._path, "-nodefaults", "-vga", "std", "-m", "32", "-display", "none"]
        if self._tls:
            command += ["-object", f"tls-creds-x509,id=tls0,dir={self._tls},endpoint=server,verify-peer=no"]
            vnc += ",tls-creds=tls0"
        command += ["-vnc", vnc, "-qmp", "unix:qmp,server=on,wait=off", "-debugcon", "file:typed"]
        return [*command, "-drive", "if=ide,format=raw,file=boot.img"]

    def is_ready(self) -> bool:
        return self.typed() is not None and accepts(self.port)

    def typed(self) -> str | None:
        """Return the keys that have reached the machine, or None while it boots."""
        path = self.folder / "typed"
        text = path.read_text(errors="replace") if path.exists() else ""
        return text[1:] if text.startswith(">") else None

    def screendump(self) -> Image.Image:
        """Return the picture that QEMU itself has."""
        path = self.folder / "screen.ppm"
        self.qmp("screendump", filename=str(path))
        with Image.open(path) as picture:
            return picture.convert("RGB")

    def qmp(self, command: str, **arguments: Any) -> Any:
        """Return the answer of one QMP command."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(10)
            line.connect(str(self.folder / "qmp"))
            with line.makefile("rw") as stream:
                stream.readline()
                answer: dict[str, Any] = {}
                wanted = {"execute": command, "arguments": arguments}
                for message in ({"execute": "qmp_capabilities"}, wanted):
                    stream.write(json.dumps(message) + "\n")
                    stream.flush()
                    answer = json.loads(stream.readline())
                    while "event" in answer:
                        answer = json.loads(stream.readline())
        assert "return" in answer, answer
        return answer["return"]
