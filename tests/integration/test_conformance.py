"""The Autobahn test suite through the proxy, on both legs: as its client, and as its upstream.

A case that fails is asked a second time, alone: the suite's timers are Autobahn's, which round to whole
seconds, so that its 1 s for a closing handshake may be 0.1 s, too little on a machine that is busy.

247 quick cases; with ``ESXIPROXY_LONG=1`` all that need no compression, limits and performance included, with
several workers as well, and on the other transports.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support import config
from tests.support.certificates import Certificate
from tests.support.programs import ROOT, Program, Proxy, accepts, free_port, skip

WSTEST = ROOT / "tools" / "wstest"
HOME = ROOT / ".cache" / "wstest"
LONG = os.environ.get("ESXIPROXY_LONG") == "1"
EXCLUDED = ["12.*", "13.*"] if LONG else ["9.*", "12.*", "13.*"]
CASES = 301 if LONG else 247
WAYS = [(1, "ours"), (2, "ours"), (1, "python"), (1, "twisted")] if LONG else [(1, "ours")]
"""Workers, and the transports that they run on."""
SECONDS = 1800 if LONG else 180
pytestmark = pytest.mark.timeout(2 * SECONDS + 600)
"""The cases, those that failed once more, and before the first test the suite that has to be made."""

both_kinds = pytest.mark.parametrize("tls", [False, True], ids=["ws to ws", "wss to wss"])
any_way = pytest.mark.parametrize("way", WAYS, ids=[f"workers={n} {kind}" for n, kind in WAYS])


class Echo(Program):
    """Autobahn's own echo server, on TLS when it is given a certificate."""

    name = "echo"

    def __init__(self, certificate: Certificate | None) -> None:
        super().__init__()
        self._files = [certificate.path, certificate.key_path] if certificate else []

    def command(self) -> Sequence[str | Path]:
        return [sys.executable, WSTEST / "echo.py", *self._files]

    @property
    def port(self) -> int:
        return int(self.log().split()[0])

    def is_ready(self) -> bool:
        return "\n" in self.log()


class FuzzingServer(Program):
    """The suite as an upstream, on TLS when it is given a certificate."""

    name = "fuzzingserver"

    def __init__(self, cases: Sequence[str], certificate: Certificate | None) -> None:
        super().__init__()
        self.port = free_port()
        spec: dict[str, object] = {
            "url": f"{'wss' if certificate else 'ws'}://127.0.0.1:{self.port}",
            "outdir": str(self.folder / "reports"),
            "cases": list(cases),
            "exclude-cases": EXCLUDED,
            "exclude-agent-cases": {},
        }
        if certificate:
            spec |= {"key": str(certificate.key_path), "cert": str(certificate.path)}
        (self.folder / "spec.json").write_text(json.dumps(spec))

    def command(self) -> Sequence[str | Path]:
        return ["bash", WSTEST / "run", HOME, "fuzzingserver", self.folder / "spec.json"]

    def is_ready(self) -> bool:
        return accepts(self.port)


@pytest.fixture(scope="module", autouse=True)
def suite() -> None:
    """Port the suite at the first call, and return it; it needs lib2to3, which Python 3.13 does not have."""
    if (HOME / "ready").exists():
        return
    if sys.version_info >= (3, 13):
        skip("the Autobahn test suite needs Python 3.11 or 3.12")
    HOME.parent.mkdir(exist_ok=True)
    # Without a specification it is set up, and ends: that is all we want of it.
    run = ["bash", WSTEST / "run", HOME, "fuzzingclient", HOME / "none.json"]
    subprocess.run(run, env=os.environ | {"PYTHON": sys.executable}, timeout=300, check=False)
    assert (HOME / "ready").exists(), "the suite could not be set up"


def verdicts(folder: Path) -> tuple[int, Counter[str], list[str]]:
    """Return the number of cases, the verdicts on behaviour and close, and the cases that failed."""
    (cases,) = json.loads((folder / "index.json").read_text()).values()
    counted: Counter[str] = Counter()
    wrong = []
    for name, case in cases.items():
        both = {case["behavior"], case["behaviorClose"]}
        counted.update(both)
        if not both <= {"OK", "INFORMATIONAL"}:
            wrong.append(name)
    return len(cases), counted, wrong


def check(run: Callable[[Sequence[str]], Path]) -> None:
    """Run all cases, and those few that failed once more."""
    count, counted, wrong = verdicts(run(["*"]))
    assert count == CASES
    assert len(wrong) <= 3, (wrong, counted)
    if wrong:
        assert verdicts(run(wrong))[2] == [], counted


@pytest.fixture
def shown(tls: bool, upstream_certificate: Certificate) -> Certificate | None:
    """Return the certificate of the upstream, if it has TLS."""
    return upstream_certificate if tls else None


@pytest.fixture
def text(
    way: tuple[int, str],
    shown: Certificate | None,
    listener_certificate: Certificate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[int], str]:
    """Return the configuration in front of a port, with the workers and the transports of this way."""
    workers, transports = way
    monkeypatch.setenv("ESXIPROXY_TRANSPORTS", transports)
    return lambda port: config.ini(
        config.listener("plain", "suite"),
        config.listener("secure", "suite", tls=listener_certificate),
        config.upstream(port, "suite", pin=shown, subprotocol="pass"),
        workers=workers,
        state=f"sqlite:{tmp_path}/state.sqlite" if workers > 1 else None,
    )


@any_way
@both_kinds
def test_the_client_leg_passes_every_case(
    tls: bool, shown: Certificate | None, text: Callable[[int], str], tmp_path: Path
) -> None:
    """A client sees Autobahn's echo server through the proxy as it would see it without."""
    with (
        Echo(shown) as echo,
        Proxy(text(echo.port)) as proxy,
    ):

        def run(cases: Sequence[str]) -> Path:
            spec = {
                "outdir": str(tmp_path / "reports"),
                "servers": [{"agent": "proxy", "url": _url(proxy, tls)}],
                "cases": list(cases),
                "exclude-cases": EXCLUDED,
                "exclude-agent-cases": {},
            }
            (tmp_path / "spec.json").write_text(json.dumps(spec))
            command = ["bash", WSTEST / "run", HOME, "fuzzingclient", tmp_path / "spec.json"]
            subprocess.run(command, timeout=SECONDS, check=True, capture_output=True)
            return tmp_path / "reports"

        check(run)


@any_way
@both_kinds
def test_the_upstream_leg_passes_every_case(
    tls: bool, shown: Certificate | None, text: Callable[[int], str], tmp_path: Path
) -> None:
    """An upstream sees Autobahn's client through the proxy as it would see it without."""

    def run(cases: Sequence[str]) -> Path:
        with FuzzingServer(cases, shown) as server:
            with Proxy(text(server.port)) as proxy:
                command = [sys.executable, WSTEST / "testee.py", _url(proxy, tls)]
                subprocess.run(command, timeout=SECONDS, check=True, capture_output=True)
            return shutil.copytree(server.folder / "reports", tmp_path / "reports", dirs_exist_ok=True)

    check(run)


def _url(proxy: Proxy, tls: bool) -> str:
    return f"wss://127.0.0.1:{proxy.ports['secure']}" if tls else f"ws://127.0.0.1:{proxy.ports['plain']}"
