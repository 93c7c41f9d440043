"""A listener's TLS as a stranger sees it: sslyze against Mozilla's intermediate profile."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.certificates import Authority, Certificate
from tests.support.programs import ROOT, environment, need_python_program

DEADLINE = 180
"""Seconds for one scan, which takes about ten."""

SERVER = """
import enum, sys
from pathlib import Path
from types import SimpleNamespace
from twisted.internet import reactor
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.resource import Resource
from twisted.web.server import Site
from esxiproxy.net.tls.server import CurrentContext, listener_context

certificate, private_key, weaken = sys.argv[1:]
tls = SimpleNamespace(
    certificate=Path(certificate),
    private_key=Path(private_key),
    minimum=SimpleNamespace(value="1.2"),
    client_ca=None,
)
context = listener_context(tls)
if weaken:
    context.set_cipher_list(weaken.encode())
factory = TLSMemoryBIOFactory(CurrentContext(context), False, Site(Resource()))
port = reactor.listenTCP(0, factory, interface="127.0.0.1")
print(port.getHost().port, flush=True)
reactor.run()
"""


@contextmanager
def serving(certificate: Certificate, weaken: str = "") -> Iterator[int]:
    """Run a Twisted server with a listener's context in another process, and return its port."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, certificate.path, certificate.key_path, weaken],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the server did not start: {process.wait(10)}"
        yield int(line)
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()
            if process.stdout is not None:
                process.stdout.close()


def scan(program: str, port: int, authority: Authority) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            program,
            "--mozilla_config=intermediate",
            f"--certinfo_ca_file={authority.path}",
            f"localhost:{port}",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


@pytest.mark.parametrize("key", ["ec", "rsa"])
def test_intermediate(tmp_path: Path, key: str) -> None:
    """A listener is compliant with Mozilla's intermediate profile, with either kind of key."""
    program = need_python_program("sslyze")
    authority = Authority(tmp_path)
    with serving(authority.server("listener", key=key)) as port:
        result = scan(program, port, authority)
    assert f"localhost:{port}: OK - Compliant" in result.stdout, result.stdout
    assert result.returncode == 0, result.stdout


def test_the_scan_finds_something(tmp_path: Path) -> None:
    """The same scan fails a server that admits RSA key exchange: a pass means something."""
    program = need_python_program("sslyze")
    authority = Authority(tmp_path)
    with serving(authority.server("listener", key="rsa"), weaken="ALL:!aNULL:!eNULL:!PSK") as port:
        result = scan(program, port, authority)
    assert "FAILED - Not compliant" in result.stdout, result.stdout
    assert "RSA_WITH_AES" in result.stdout
    assert result.returncode != 0
