"""The access log: its files, its configuration, and the whole program."""

import contextlib
import os
import signal
from pathlib import Path

import pytest
from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from esxiproxy.app.preflight import load
from esxiproxy.core.config.access_log import AccessLogConfig, AccessLogFormat, LogTarget, access_log
from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.loader import ConfigError
from esxiproxy.interfaces import ISessionObserver
from esxiproxy.ops.logs.access_log import AccessLog, AccessLogError
from esxiproxy.ops.logs.sink import LOG_INTERVAL
from tests.ops.records import NOON, PAGE, RECORD, lines_of, running
from tests.support import config
from tests.support.logs import process_log
from tests.support.programs import Proxy, until
from tests.support.reactor import FakeReactor
from tests.support.scripts import echo
from tests.support.websocket import CLOSE
from tests.support.websocket_peers import Client, ScriptedUpstream

# --- files


def test_the_access_log_is_a_session_observer(tmp_path):
    assert verifyObject(ISessionObserver, AccessLog(AccessLogConfig(tmp_path / "a"), FakeReactor(NOON)))


def test_a_line_has_the_time_of_day_at_which_the_request_began(tmp_path):
    with running(tmp_path / "access.log") as log:
        log.opened(None)
        log.closed(RECORD)
        log.closed(PAGE)
        assert [line["time"] for line in lines_of(tmp_path / "access.log")] == [
            "2026-01-01T11:59:00.000Z",
            "2026-01-01T11:59:59.750Z",
        ]


def test_a_file_is_appended_to_and_created_without_access_for_others(tmp_path):
    path = tmp_path / "access.log"
    for _ in range(2):
        with running(path, form=AccessLogFormat.COMBINED) as log:
            log.closed(RECORD)
    assert len(path.read_text().splitlines()) == 2
    assert path.stat().st_mode & 0o007 == 0


def test_a_file_that_cannot_be_opened_fails_the_start(tmp_path):
    with pytest.raises(AccessLogError, match=r"access_log: cannot open .*/access\.log: No such file"):
        AccessLog(AccessLogConfig(tmp_path / "gone" / "access.log"), FakeReactor(NOON)).startService()


def test_after_a_reopening_lines_go_to_the_new_file_and_none_is_lost(tmp_path):
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    with running(path) as log:
        log.closed(RECORD)
        path.rename(old)
        log.closed(RECORD)
        log.reopen()
        log.closed(PAGE)
    assert (len(lines_of(old)), len(lines_of(path))) == (2, 1)


def test_a_file_that_cannot_be_reopened_stays_in_use(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    with running(folder / "access.log") as log, process_log() as lines:
        folder.rename(tmp_path / "moved")
        log.reopen()
        log.closed(RECORD)
    assert len(lines_of(tmp_path / "moved" / "access.log")) == 1
    assert lines == [
        f"access log: cannot reopen {folder}/access.log: No such file or directory; "
        "writing to the old file continues"
    ]


def test_sigusr1_reopens_the_file_and_calls_the_previous_handler(tmp_path):
    path, rotated = tmp_path / "access.log", []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: rotated.append(number))
    theirs = signal.getsignal(signal.SIGUSR1)
    try:
        with running(path) as log:
            path.rename(tmp_path / "access.log.1")
            signal.raise_signal(signal.SIGUSR1)
            log.closed(RECORD)
            assert rotated == [signal.SIGUSR1] and log.reactor.threaded == [log.reopen]
        assert len(lines_of(path)) == 1
        assert signal.getsignal(signal.SIGUSR1) is theirs
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_sigusr1_works_without_a_previous_handler(tmp_path):
    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    try:
        with running(tmp_path / "access.log"):
            signal.raise_signal(signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_full_disk_drops_lines_and_is_logged_once_a_minute():
    with process_log() as lines:
        with running(Path("/dev/full")) as log:
            for _ in range(3):
                log.closed(RECORD)
            assert lines == ["access log: 1 line lost: No space left on device"]
            log.reactor.advance(LOG_INTERVAL - 1)
            log.closed(RECORD)
            assert len(lines) == 1
            log.reactor.advance(1)
            assert lines[1:] == ["access log: 3 lines lost: No space left on device"]
            log.reactor.advance(LOG_INTERVAL)
            assert len(lines) == 2
            log.closed(RECORD)
            log.closed(RECORD)
        assert lines[2:] == ["access log: 1 line lost: No space left on device"] * 2
    assert not log.reactor.getDelayedCalls()


# --- the configuration


def loaded(folder, **keys):
    """Return the configuration of a file with these keys in [proxy]."""
    text = config.ini(config.listener(), config.upstream("ws://192.0.2.1"), **keys)
    (folder / "x.ini").write_text(text)
    return load(folder / "x.ini")


@pytest.mark.parametrize(
    "keys, wanted",
    [
        ({}, None),
        ({"access_log": "off"}, None),
        ({"access_log": "stdout"}, AccessLogConfig(LogTarget.STDOUT)),
        ({"access_log": "syslog"}, AccessLogConfig(LogTarget.SYSLOG)),
        (
            {"access_log": "journald", "access_log_format": "combined"},
            AccessLogConfig(LogTarget.JOURNALD, AccessLogFormat.COMBINED),
        ),
    ],
)
def test_the_configuration_sets_target_and_format(tmp_path, keys, wanted):
    assert loaded(tmp_path, **keys).access_log == wanted


def test_the_path_is_relative_to_the_configuration_file(tmp_path):
    assert loaded(tmp_path, access_log="access.log").access_log == AccessLogConfig(tmp_path / "access.log")


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="access_log_format: 'apache' is not json or combined"):
        loaded(tmp_path, access_log_format="apache")


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("STDOUT", "'STDOUT': write stdout, or ./STDOUT for a file of that name"),
        ("Off", "'Off': write off, or ./Off for a file of that name"),
        ("syslog:server=unix:/dev/log", "'syslog:server=unix:/dev/log': write syslog, or"),
        ("on", "'on' names no destination: write a file, stdout, syslog, journald or off"),
        ("gone/access.log", "no such folder: "),
        (".", "is a folder: ."),
    ],
)
def test_an_invalid_target_is_refused(tmp_path, text, complaint):
    with pytest.raises(BadValue) as caught:
        access_log(text, tmp_path)
    assert str(caught.value).startswith(complaint)


def test_a_file_may_have_the_name_of_a_target(tmp_path):
    assert access_log("./stdout", tmp_path) == tmp_path / "stdout"


def test_the_access_log_logs_nothing_in_normal_operation(tmp_path):
    with capturedLogs() as events, running(tmp_path / "access.log") as log:
        log.closed(RECORD)
    assert not [event for event in events if "access log" in str(event.get("log_format"))]


# --- the whole program


class Logged(Proxy):
    """twistd with a log file, which it rotates on SIGUSR1."""

    def command(self):
        twistd, *rest = super().command()
        return [twistd, "--logfile=twistd.log", *rest]

    def log(self):
        files = sorted(self.folder.glob("twistd.log*"), reverse=True)
        return super().log() + "".join(file.read_text() for file in files)


def text(port, path="access.log"):
    return config.ini(config.listener(), config.upstream(port), access_log=path)


def console(port, ticket):
    with Client(port) as client:
        client.open(f"/ticket/{ticket}", ["binary"])
        client.send_frame(CLOSE, b"\x03\xe8")
        client.recv_frame()


@pytest.mark.parametrize("program", [Proxy, Logged])
def test_twistd_writes_the_access_log_and_reopens_it_on_sigusr1_together_with_its_own(program):
    with ScriptedUpstream(echo()) as host, program(text(host.port)) as proxy:
        path, old = proxy.folder / "access.log", proxy.folder / "access.log.1"

        def lines(file):
            return file.exists() and len(found := lines_of(file)) == 1 and found

        console(proxy.ports["one"], "QXZJKVWY0123")
        (first,) = until(lambda: lines(path), "the first line")
        path.rename(old)
        os.kill(proxy.pid, signal.SIGUSR1)
        until(path.exists, "a new file")
        console(proxy.ports["one"], "QXZJKVWY4567")
        (second,) = until(lambda: lines(path), "the second line")
        if program is Logged:
            assert until((proxy.folder / "twistd.log.1").exists, "twistd's own log has been rotated, too")
        assert len(lines_of(old)) == 1
        for line in (first, second):
            assert (line["listener"], line["upstream"], line["target"]) == ("one", "esxi1", "/ticket/***")
            assert (line["status"], line["close_code"], line["ended_by"]) == (101, 1000, "client")
            assert (line["kind"], line["method"], line["client"]) == ("console", "GET", "127.0.0.1")
        assert first["session"] != second["session"]
        assert proxy.stop() == 0
        written = path.read_text() + old.read_text() + proxy.log()
        assert "access log: " in written and "QXZJ" not in written


def test_twistd_reports_in_one_line_that_the_file_cannot_be_opened():
    with contextlib.suppress(AssertionError):  # the process may exit before it is seen ready
        proxy = Proxy(text(1, "folder/access.log"))
        (proxy.folder / "folder").mkdir()
        (proxy.folder / "folder" / "access.log").symlink_to("nowhere/access.log")
        proxy.start()
    complaint = f"esxiproxy: access_log: cannot open {proxy.folder}/folder/access.log: No such file"
    until(lambda: complaint in proxy.log(), "the complaint")
    assert proxy._process.wait(30) == 1 and "Traceback" not in proxy.log()
    proxy.stop()
