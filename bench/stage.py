"""The processes of a benchmark: the upstream, the peers, and one load at a time."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from bench import cores, usage
from bench.build import ROOT, Programs
from bench.modes import WARM, Mode, Upstreams
from bench.peers import Peer, peer, scratch
from tests.support.certificates import Authority, self_signed

START = 0.03
"""Seconds that the load takes to start."""
SETTLE_DELAY = 0.05
"""Seconds between two loads, in which closing connections end."""

Figures = dict[str, float]


class LoadFailed(Exception):
    """Raised if the load ends with an error; the text is the load's."""


class Stage:
    """The upstream and the peers.  A measurement lasts ``seconds``, after a warm-up of ``warm`` seconds."""

    def __init__(
        self,
        programs: Programs,
        names: Sequence[str],
        seconds: float,
        sessions: Sequence[int],
        warm: float = 0.2,
    ) -> None:
        self.programs = programs
        self.seconds = seconds
        self.warm = warm
        self.sessions = sessions
        self._folder = scratch()
        self._names = names
        self.peers: list[Peer] = []

    def __enter__(self) -> Self:
        authority = Authority(self._folder)
        own, host = authority.server("own"), self_signed(self._folder, "host")
        rsa_own, rsa_host = (
            authority.server("rsa-own", key="rsa"),
            self_signed(self._folder, "rsa", key="rsa"),
        )
        files = [path for one in (host, rsa_host) for path in (str(one.path), str(one.key_path))]
        self._upstream = subprocess.Popen(
            [*cores.pinned(cores.LOAD), *self.programs.upstream, *files],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._upstream.stdout is not None
        upstreams = Upstreams(json.loads(self._upstream.stdout.readline()), host, own, rsa_host, rsa_own)
        try:
            for name in self._names:
                self.peers.append(peer(name, upstreams))
                self.peers[-1].start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self.peers:
            with contextlib.suppress(Exception):
                one.close()
        assert self._upstream.stdin is not None
        self._upstream.stdin.close()
        try:
            self._upstream.wait(10)
        except subprocess.TimeoutExpired:
            self._upstream.kill()
            self._upstream.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)

    def load(self, case: str, peer: Peer, mode: Mode, variant: str = WARM, **options: float) -> Figures:
        """Run the load once and return its figures.

        Added are `cpu`, the peer's CPU seconds per second, `wanted`, the same with the time that the peer
        waited for its core, and `load`, the CPU seconds per second of load and upstream.  `load` is 1 if the
        load ended before it could be read, so that it never says too little.
        """
        seconds = options.pop("seconds", self.seconds)
        options.setdefault("warm", self.warm)
        with self.loading(case, peer, mode, variant, seconds=seconds, **options) as process:
            time.sleep(START + options["warm"])
            others = [process.pid, self._upstream.pid]
            before, load_before = usage.times(peer.pids()), usage.times(others)
            time.sleep(seconds * 0.9)
            cpu, wanted = usage.times(peer.pids()).share_since(before)
            busy, _ = usage.times(others).share_since(load_before)
            if process.poll() is not None:
                busy = 1.0
            output, problem = process.communicate(timeout=seconds + 120)
        if process.returncode != 0:
            raise LoadFailed(f"{case} {mode.name} {peer.name}: {problem.strip() or process.returncode}")
        figures: Figures = json.loads(output)
        figures |= {"cpu": cpu, "wanted": wanted, "load": busy}
        time.sleep(SETTLE_DELAY)
        return figures

    @contextlib.contextmanager
    def loading(
        self, case: str, peer: Peer, mode: Mode, variant: str = WARM, **options: float
    ) -> Iterator[subprocess.Popen[str]]:
        """Run the load during the block and stop it at the end."""
        options |= {"port": peer.port(mode, variant), "raw": int(peer.raw), "tls": int(_tls(peer, mode))}
        process = subprocess.Popen(
            [*cores.pinned(cores.LOAD), *self.programs.load, case]
            + [f"{name}={value:g}" for name, value in options.items()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(10)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    @contextlib.contextmanager
    def hold(self, peer: Peer, mode: Mode, count: int) -> Iterator[None]:
        """Hold ``count`` idle sessions open during the block."""
        with self.loading("hold", peer, mode, connections=count) as process:
            assert process.stdout is not None and process.stderr is not None
            if not process.stdout.readline():
                raise LoadFailed(f"hold {mode.name} {peer.name}: {process.stderr.read().strip()}")
            yield
            if process.poll() is not None:
                raise LoadFailed(f"hold {mode.name} {peer.name}: {process.stderr.read().strip()}")


def _tls(peer: Peer, mode: Mode) -> bool:
    """Return whether the load uses TLS; without a proxy it connects to the upstream."""
    return mode.tls_up if peer.name == "direct" else mode.tls_down
