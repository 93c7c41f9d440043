"""The table, the JSON objects, the progress bar and the threads of `esxiproxy doctor --config`."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable

import pytest

from esxiproxy.doctor.configuration.parallel import in_parallel
from esxiproxy.doctor.configuration.progress import ProgressBar
from esxiproxy.doctor.configuration.result import (
    CheckKind,
    CheckResult,
    CheckVerdict,
    exit_status_of,
    worst_first,
)
from esxiproxy.doctor.configuration.table import as_object, summary, table_lines
from tests.support.at_once import AtOnce

OK, WARNING, ERROR = CheckVerdict


def host(verdict: CheckVerdict, name: str = "esx01", finding: str = "a finding") -> CheckResult:
    return CheckResult(CheckKind.HOST, verdict, "router fleet", name, "192.0.2.10:443", finding, 40, 12.3456)


FILE = CheckResult(CheckKind.FILE, WARNING, "proxy", "state", "/var/lib/esxiproxy/state", "is too open")


def test_the_table_of_a_pipe_has_a_line_for_each_result() -> None:
    """No cell is cut, so that grep finds it."""
    lines = list(table_lines([host(ERROR, finding="long " * 100), FILE], None))
    assert lines[0].split() == ["VERDICT", "NAME", "ADDRESS", "DAYS", "MS", "FINDING"]
    assert len(lines) == 3
    assert lines[1].split()[:5] == ["error", "esx01", "192.0.2.10:443", "40", "12"]
    assert lines[1].endswith("long " * 100)
    assert lines[2].startswith("warning  [proxy] state  /var/lib/esxiproxy/state     -   -  is too open")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_table_fits_into_a_terminal(width: int) -> None:
    """Long names are cut, findings are wrapped and complete."""
    words = [f"word{number}" for number in range(60)]
    results = [host(ERROR, "h" * 100 + ".test", " ".join(words)), FILE]
    lines = list(table_lines(results, width))
    assert max(map(len, lines)) <= width
    assert [word for line in lines for word in line.split() if word.startswith("word")] == words
    assert any(re.search(r"h\.\.\.h*\.test", line) for line in lines)


def test_text_of_hosts_is_escaped_and_cut() -> None:
    """All columns of the table and JSON escape such text. A ticket is hidden."""
    evil = CheckResult(
        CheckKind.HOST,
        ERROR,
        "router\x1b[1m",
        "name\x1b[2J",
        "\x9b31m",
        "\u202egnp.exe \x07 /ticket/cst-VCT-secret-of-a-host " + "x" * 5000,
    )
    text = "\n".join(table_lines([evil], None)) + str(as_object(evil))
    assert not any(char in text for char in "\x1b\x07\x9b\u202e")
    assert "\\x1b[2J" in text and "secret-of-a-host" not in text
    assert len(as_object(evil)["finding"]) < 1100


def test_an_object() -> None:
    assert as_object(host(OK)) == {
        "check": "host",
        "verdict": "ok",
        "section": "router fleet",
        "name": "esx01",
        "address": "192.0.2.10:443",
        "certificate_days": 40,
        "milliseconds": 12.346,
        "finding": "a finding",
    }
    assert as_object(FILE)["milliseconds"] is None


def test_the_worst_come_first_and_the_others_keep_their_order() -> None:
    results = [host(OK, "a"), host(WARNING, "b"), host(ERROR, "c"), host(OK, "d"), host(ERROR, "e")]
    assert [result.name for result in worst_first(results)] == ["c", "e", "b", "a", "d"]


@pytest.mark.parametrize(
    ("verdicts", "strict", "status"),
    [
        ([], True, 0),
        ([OK], True, 0),
        ([OK, WARNING], False, 0),
        ([OK, WARNING], True, 1),
        ([OK, ERROR], False, 1),
    ],
)
def test_the_exit_status(verdicts: list[CheckVerdict], strict: bool, status: int) -> None:
    assert exit_status_of([host(verdict) for verdict in verdicts], strict) == status


def test_the_summary() -> None:
    results = [host(OK), host(OK), host(ERROR), FILE]
    assert summary("proxy.ini", results, 3, 3) == (
        "proxy.ini: 3 hosts: 2 ok, 1 error; configuration, certificates, files, limits: 1 warning"
    )
    assert summary("proxy.ini", [], 500, 120).startswith("proxy.ini: 120 of 500 hosts checked: no finding;")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_progress_bar() -> None:
    """A bar that is drawn a thousand times at most, and is gone in the end."""
    terminal = Terminal()
    bar = ProgressBar(terminal, 50_000)
    for done in range(50_001):
        bar.show(done)
    shown = terminal.getvalue().split("\r")[1:]
    assert len(shown) == 1001
    assert shown[0].startswith(f"[{'.' * 30}] 0 of 50000 hosts")
    assert shown[-1].startswith(f"[{'#' * 30}] 50000 of 50000 hosts")
    bar.clear()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_no_progress_without_a_terminal() -> None:
    stream = io.StringIO()
    bar = ProgressBar(stream, 10)
    bar.show(1)
    bar.clear()
    assert stream.getvalue() == ""


def test_items_are_checked_at_the_same_time_and_not_more_of_them() -> None:
    """Four threads are in the check at once, and never a fifth."""
    together = threading.Barrier(4, timeout=20)
    checks = AtOnce()

    def check(item: int) -> int:
        with checks:
            together.wait()
        return item * item

    found = dict(in_parallel(range(20), lambda: check, 4))
    assert found == {place: place * place for place in range(20)}
    assert checks.most == 4


def test_no_check_begins_after_an_interruption() -> None:
    """The caller has closed the iterator: threads end after the check that they are in."""
    begun: list[int] = []
    go = threading.Event()

    def make() -> Callable[[int], int]:
        def check(item: int) -> int:
            begun.append(item)
            if item:
                go.wait(10)
            return item

        return check

    before = set(threading.enumerate())
    checks = in_parallel(range(100), make, 1)
    assert next(checks) == (0, 0)
    checks.close()
    (thread,) = set(threading.enumerate()) - before or {threading.current_thread()}
    go.set()
    if thread is not threading.current_thread():
        thread.join(10)
    assert len(begun) <= 2


def test_a_machine_without_threads_still_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads that could be started check everything."""
    start, started = threading.Thread.start, 0

    def limited(thread: threading.Thread) -> None:
        nonlocal started
        started += 1
        if started > 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    assert len(list(in_parallel(range(50), lambda: lambda item: item, 32))) == 50
