"""Clients that are slow on purpose do not disturb a console on their listener."""

from __future__ import annotations

import contextlib
import re
import resource
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import config
from tests.support.programs import TICKET, Nginx, Program, Proxy, free_port, need
from tests.support.websocket import BINARY
from tests.support.websocket_peers import Client, ScriptedUpstream

CONNECTIONS = 500
SECONDS = 8
P99 = 0.5
"""Seconds for an echo through the proxy, ninety-nine times of a hundred."""

# The console is QEMU's place here: everything else of the host is nginx.
HOST = """
    server {{
        listen 127.0.0.1:{port};
        root {folder};
        client_max_body_size 0;
        location /ticket/ {{
            proxy_pass http://127.0.0.1:{console};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
        }}
        location /form {{ proxy_pass http://127.0.0.1:{port}/taken; }}
        location /taken {{ return 200 "taken"; }}
    }}
"""

MODES = {
    "slow headers": ["-H", "-i", "1", "-x", "24", "-u", "http://127.0.0.1:{port}/"],
    "slow body": ["-B", "-i", "1", "-s", "8192", "-x", "10", "-u", "http://127.0.0.1:{port}/form"],
    "slow read": [
        "-X",
        "-w",
        "512",
        "-y",
        "1024",
        "-n",
        "1",
        "-z",
        "32",
        "-u",
        "http://127.0.0.1:{port}/large.bin",
    ],
}


class SlowHttpTest(Program):
    """Debian's slowhttptest in one of its modes."""

    name = "slowhttptest"
    ours = False

    def __init__(self, mode: str, port: int) -> None:
        self._path = need("slowhttptest", "slowhttptest")
        super().__init__()
        self._arguments = [argument.format(port=port) for argument in MODES[mode]]

    def command(self) -> Sequence[str | Path]:
        often = ["-c", str(CONNECTIONS), "-r", "250", "-l", str(SECONDS), "-p", "5"]
        return [self._path, *often, *self._arguments]

    def is_ready(self) -> bool:
        return True

    def over(self, seconds: float) -> bool:
        """Return whether the client has ended within so many seconds."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is not None

    def most(self, what: str) -> int:
        """Return the largest number of connections in this state that the client has reported."""
        plain = re.sub(r"\x1b\[[0-9;]*m", "", self.log())
        return max(
            (int(number) for number in re.findall(rf"^{what}:\s+(\d+)", plain, re.MULTILINE)), default=0
        )


@pytest.fixture(scope="module")
def descriptors() -> Iterator[None]:
    """Raise the limit on descriptors, which the programs inherit, to its maximum."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def proxy(descriptors: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder, port = tmp_path_factory.mktemp("site"), free_port()
    (folder / "index.html").write_text("the host's page")
    with (folder / "large.bin").open("wb") as hole:
        hole.truncate(16 << 20)
    with ScriptedUpstream() as console:
        text = HOST.format(port=port, folder=folder, console=console.port)
        proxied = config.listener(upstream="host", http="forward") + config.upstream(port, "host")
        limits = config.ini(proxied, close_timeout="1s", max_connections="off")
        with Nginx(text), Proxy(limits) as proxy:
            yield proxy


@pytest.mark.parametrize("mode", MODES)
def test_a_console_is_undisturbed(mode: str, proxy: Proxy) -> None:
    """Five hundred slow clients: every echo comes, in order and in time."""
    port = proxy.ports["one"]
    times: list[float] = []
    with Client(port) as client:
        client.open(f"/ticket/{TICKET}", ["binary"])
        with SlowHttpTest(mode, port) as slow:
            while not slow.over(0.005):
                payload = b"%d" % len(times)
                began = time.monotonic()
                client.send_frame(BINARY, payload)
                assert client.recv_frame().payload == payload
                times.append(time.monotonic() - began)
            assert slow.most("connected") > CONNECTIONS * 0.8, slow.log()
        client.send_close(1000)
        assert client.recv_close() == (1000, "")
    late = sorted(times)[len(times) * 99 // 100]
    assert late < P99, f"p99 {late:.3f} s, worst {max(times):.3f} s of {len(times)}"
    proxy.assert_clean()
