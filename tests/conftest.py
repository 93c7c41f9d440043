"""The guard of the whole suite: no log has an `Unhandled` or a ticket.

It reads what the tests' programs wrote, when they end, and every log event of this process, when it comes.
What it finds fails the session.
"""

from __future__ import annotations

import gc
import os
import signal

import pytest
from hypothesis import HealthCheck, settings
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from tests.support import packages, programs
from tests.support.certificates import Authority

# No example of hypothesis fails by its duration, which on a busy machine is that of other programs.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

FORBIDDEN = ("Unhandled", programs.TICKET)
MOST = 50
"""Lines that are shown; the first ones say enough."""

_found: list[str] = []


def search(source: str, text: str) -> None:
    """Keep the lines of a log that may not be there, and the test in which they came."""
    if not any(word in text for word in FORBIDDEN):
        return
    test = os.environ.get("PYTEST_CURRENT_TEST", "after the tests")
    for line in text.splitlines():
        if any(word in line for word in FORBIDDEN):
            _found.append(f"{test}: {source}: {line}")


def _program_ended(program: programs.Program) -> None:
    if program.ours:
        search(program.name, program.log())


def _logged(event: LogEvent) -> None:
    failure = event.get("log_failure")
    trace = failure.getTraceback() if isinstance(failure, Failure) else ""
    search("log event", f"{formatEvent(event)}\n{trace}")


def accept_ctrl_c() -> None:
    """Let Ctrl-C end the programs of the tests if this run is in the background of a shell.

    Such a run ignores SIGINT, and so would every program that it starts.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionstart() -> None:
    """Observe all programs and log events from here on."""
    accept_ctrl_c()
    programs.STOPPED.append(_program_ended)
    globalLogPublisher.addObserver(_logged)


def pytest_collection_finish() -> None:
    """Exclude the thousands of tests and modules from garbage collections."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Collect garbage, because a Deferred logs an unhandled failure only when it is collected."""
    gc.unfreeze()
    gc.collect()
    globalLogPublisher.removeObserver(_logged)
    if _found and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was found, and what to install for the tests that were skipped."""
    reasons = [
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    ]
    if reasons and (line := packages.advice(reasons, packages.missing())):
        terminalreporter.line(line, yellow=True)
    if _found:
        terminalreporter.section("logs with an Unhandled or a ticket", red=True)
        for line in _found[:MOST]:
            terminalreporter.line(line)
        if len(_found) > MOST:
            terminalreporter.line(f"and {len(_found) - MOST} lines more")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Create an authority that signs the certificates of a test module."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def chowns(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Replace chown by a function that does nothing, and return the arguments of its calls."""
    found: list[tuple[str, int, int]] = []
    monkeypatch.setattr(os, "chown", lambda path, user, group: found.append((str(path), user, group)))
    return found
