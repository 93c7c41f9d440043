"""Certificates, upstreams and simulated hosts for the doctor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.doctor.configured_hosts import Places, StartUpstream
from tests.support.certificates import Authority, Certificate
from tests.support.programs import black_hole
from tests.support.sim_program import Host, start, stop
from tests.support.websocket_peers import Script, ScriptedUpstream


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def good(authority: Authority) -> Certificate:
    """Create a certificate for localhost, 127.0.0.1 and ::1."""
    return authority.server("good")


@pytest.fixture
def upstream() -> Iterator[Callable[..., ScriptedUpstream]]:
    """Return a function that starts a scripted server, which ends with the test."""
    running: list[ScriptedUpstream] = []

    def begin(script: Script, certificate: Certificate | None = None) -> ScriptedUpstream:
        running.append(ScriptedUpstream(script, certificate and certificate.server_context()))
        return running[-1]

    yield begin
    for server in running:
        server.stop()


@pytest.fixture(scope="package")
def host() -> Iterator[Host]:
    """Run a simulated host that answers pings."""
    running = start("--answer-pings")
    yield running
    assert stop(running) == 0


@pytest.fixture
def places(
    upstream: StartUpstream, authority: Authority, good: Certificate, tmp_path: Path
) -> Iterator[Places]:
    with black_hole() as hole:
        yield Places(upstream, authority, good, tmp_path, hole)
