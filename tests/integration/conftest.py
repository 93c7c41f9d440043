"""What the integration tests share: certificates, and what programs wrote when a test fails."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

# So that the tests' own modules are found however pytest was started.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support import programs
from tests.support.certificates import Authority, Certificate
from tests.support.crowd import EchoUpstream

LINES = 80


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of every running program's log under a test that failed."""
    report = yield
    if report.failed:
        for program in programs.RUNNING:
            text = "\n".join(program.log().splitlines()[-LINES:])
            report.sections.append((f"{program.name}, process {program.pid}", text))
    return report


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that has signed the certificates of these tests."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def upstream_certificate(authority: Authority) -> Certificate:
    """What an upstream shows."""
    return authority.server("upstream")


@pytest.fixture(scope="session")
def listener_certificate(authority: Authority) -> Certificate:
    """What a listener shows."""
    return authority.server("listener")


@pytest.fixture(scope="module")
def upstream() -> Iterator[EchoUpstream]:
    """An upstream that accepts every console and echoes its frames."""
    with EchoUpstream() as running:
        yield running


@pytest.fixture(scope="module", params=["ours", "python", "twisted"])
def transports(request: pytest.FixtureRequest) -> Iterator[str]:
    """The proxies of the module run on our transports, without their compiled part, and on Twisted's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ESXIPROXY_TRANSPORTS", request.param)
        yield request.param
