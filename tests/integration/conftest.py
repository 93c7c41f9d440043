"""Fixtures of the integration tests: certificates, and the output of programs when a test fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

# So that the tests' own modules are found however pytest was started.
from tests.support import config, programs
from tests.support.browser import Chromium
from tests.support.certificates import Authority, Certificate
from tests.support.crowd import EchoUpstream
from tests.support.workers import Text

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
    """Create the authority that signs the certificates of these tests."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def upstream_certificate(authority: Authority) -> Certificate:
    """Create the certificate of an upstream."""
    return authority.server("upstream")


@pytest.fixture(scope="session")
def listener_certificate(authority: Authority) -> Certificate:
    """Create the certificate of a listener."""
    return authority.server("listener")


@pytest.fixture(scope="module")
def upstream() -> Iterator[EchoUpstream]:
    """Run an upstream that accepts every console and echoes its frames."""
    with EchoUpstream() as running:
        yield running


@pytest.fixture(scope="module", params=["ours", "python", "twisted"])
def transports(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the proxies of the module on the fast transports, on these without C, and on Twisted's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ESXIPROXY_TRANSPORTS", request.param)
        yield request.param


@pytest.fixture
def text(upstream: EchoUpstream) -> Text:
    """Return a function that writes the configuration of several workers behind one listener."""

    def content(
        workers: int = 2, more: str = "", drain: str = "20s", listen: str = "127.0.0.1:0", rest: str = ""
    ) -> str:
        return rest + config.ini(
            config.listener(listen=listen),
            config.upstream(upstream.port),
            more=more,
            workers=workers,
            drain_timeout=drain,
            close_timeout="1s",
            max_connections="off",
            max_sessions_per_console="off",
        )

    return content


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """Start a browser."""
    with Chromium() as running:
        yield running
