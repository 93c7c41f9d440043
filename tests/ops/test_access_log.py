"""The access log: its formats, redaction, targets, and lines that cannot be written."""

import contextlib
import errno
import json
import os
import re
import signal
import socket
import string
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from esxiproxy.app.preflight import load
from esxiproxy.core.config.access_log import AccessLogConfig, AccessLogFormat, LogTarget, access_log
from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.loader import ConfigError
from esxiproxy.core.http.head import RequestHead
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.session.record import Kind, Record
from esxiproxy.core.session.session import Session
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.interfaces import ISessionObserver
from esxiproxy.ops.logs.access_line import as_combined, as_json
from esxiproxy.ops.logs.access_log import AccessLog, AccessLogError
from esxiproxy.ops.logs.datagram_sink import JournalSink, SyslogSink
from esxiproxy.ops.logs.file_sink import StdoutSink
from esxiproxy.ops.logs.sink import LOG_INTERVAL, MAX_QUEUED, RETRY_DELAY
from tests.support.logs import ScriptedSink, process_log
from tests.support.programs import Proxy, until
from tests.support.websocket import CLOSE
from tests.support.websocket_peers import Client, ScriptedUpstream, echo

NOON = 1767268800.0  # 2026-01-01T12:00:00Z
RECORD = Record(
    session="5e55101d",
    listener="secure",
    client=PeerAddress("192.0.2.77", 50123),
    principal="anonymous",
    target="/ticket/***",
    upstream="esxi1",
    host="esxi1.example.com",
    status=101,
    close_code=1000,
    ended_by="client",
    error="",
    detail="",
    octets_up=123,
    octets_down=45678,
    phases=MappingProxyType({"authenticated": 0.001, "routed": 0.0015, "opened": 0.0515, "closed": 60.0}),
    round_trip=0.018,
)
PAGE = replace(
    RECORD,
    kind=Kind.HTTP,
    method="HEAD",
    target="/ui/?a=b",
    status=502,
    close_code=None,
    ended_by="proxy",
    error="UpstreamRefused",
    detail="192.0.2.10:443 refused the connection",
    phases=MappingProxyType({"closed": 0.25}),
)


class Reactor(Clock):
    """A clock that starts at noon and makes calls from other threads at once."""

    def __init__(self):
        super().__init__()
        self.rightNow = NOON
        self.threaded = []

    def callWhenRunning(self, function):
        """Ignore the call, so that lines are written at once and not in a thread."""

    def callFromThread(self, function, *arguments):
        self.threaded.append(function)
        function(*arguments)


@contextlib.contextmanager
def running(to, reactor=None, form=AccessLogFormat.JSON, sink=None):
    reactor = reactor or Reactor()
    make_sink = None if sink is None else lambda: sink
    log = AccessLog(AccessLogConfig(to, form), reactor, make_sink, reactor.seconds)
    log.startService()
    try:
        yield log
    finally:
        log.stopService()


# --- formats


def test_the_json_line_of_a_console_has_every_key():
    assert json.loads(as_json(RECORD, NOON - 60)) == {
        "time": "2026-01-01T11:59:00.000Z",
        "kind": "console",
        "session": "5e55101d",
        "trace_id": None,
        "listener": "secure",
        "client": "192.0.2.77",
        "client_port": 50123,
        "principal": "anonymous",
        "method": "GET",
        "target": "/ticket/***",
        "upstream": "esxi1",
        "host": "esxi1.example.com",
        "status": 101,
        "close_code": 1000,
        "ended_by": "client",
        "error": None,
        "detail": None,
        "timeout": None,
        "octets_up": 123,
        "octets_down": 45678,
        "round_trip": 0.018,
        "seconds": 60.0,
        "phases": {"authenticated": 0.001, "routed": 0.0005, "opened": 0.05, "closed": 59.9485},
    }


def test_the_json_line_has_the_trace_of_the_client():
    line = json.loads(as_json(replace(RECORD, trace_id="4bf92f3577b34da6a3ce929d0e0e4736"), NOON))
    assert line["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_failed_request_has_its_error_and_no_close_code():
    line = json.loads(as_json(PAGE, NOON))
    assert (line["kind"], line["method"], line["status"], line["close_code"]) == ("http", "HEAD", 502, None)
    assert (line["error"], line["detail"]) == ("UpstreamRefused", "192.0.2.10:443 refused the connection")
    late = json.loads(as_json(replace(PAGE, timeout="connect_timeout"), NOON))
    assert late["timeout"] == "connect_timeout"


def test_missing_values_are_null():
    empty = replace(
        RECORD, client=PeerAddress("unix", 0), principal="", target="", upstream="", host="", status=0,
        ended_by="",        method="", phases=MappingProxyType({}),
    )  # fmt: skip
    line = json.loads(as_json(empty, NOON))
    names = ("client_port", "principal", "target", "upstream", "status", "ended_by", "method", "error")
    assert [line[name] for name in names] == [None] * len(names)
    assert (line["client"], line["seconds"], line["phases"]) == ("unix", 0.0, {})


def test_combined_is_the_format_of_apache_and_nginx():
    assert as_combined(RECORD, NOON - 60) == (
        '192.0.2.77 - anonymous [01/Jan/2026:11:59:00 +0000] "GET /ticket/*** HTTP/1.1" 101 45678 "-" "-"'
    )


def test_the_combined_line_of_an_unreadable_head_has_a_dash():
    line = as_combined(replace(RECORD, method="", target="", principal="", status=400), NOON)
    assert line == '192.0.2.77 - - [01/Jan/2026:12:00:00 +0000] "-" 400 45678 "-" "-"'


def test_a_combined_line_has_nine_parts_for_any_principal():
    line = as_combined(replace(RECORD, principal='a "b"\n\\c Å'), NOON)
    assert line.startswith(r"192.0.2.77 - a\x20\x22b\x22\x0A\x5Cc\x20\xC3\x85 [")
    assert re.fullmatch(r'\S+ - \S+ \[[^]]+\] "[^"]*" \d{3} \d+ "-" "-"', line)


@given(st.text(), st.text(), st.text())
def test_a_line_is_one_line_of_ascii_and_its_json_can_be_parsed(principal, target, detail):
    record = replace(RECORD, principal=principal, target=target, detail=detail)
    for line in (as_json(record, NOON), as_combined(record, NOON)):
        assert line.isascii() and line.isprintable()
    if not re.search("(?i)ticket|cst-|token|password", principal + detail):
        read = json.loads(as_json(record, NOON))
        assert (read["principal"] or "", read["detail"] or "") == (
            principal.encode("utf-8", "surrogateescape").decode(),
            detail.encode("utf-8", "surrogateescape").decode(),
        )


# --- no ticket

_TICKET = st.text("QXZJKVWY0123456789", min_size=8, max_size=40)
_PLACES = st.sampled_from(
    [
        "/ticket/{}",
        "/TICKET/{}",
        "/a/../ticket/{}/",
        "/ticket/{};x=1?y=2",
        "/tick%65t/{}",
        "/tick%2565t/{}",
        "/%74icket%2F{}",
        "/ui/?ticket={}",
        "/ui/?a=b&mksTicket={}&c=d",
        "/ui/?sessionTicket={}",
        "/vsphere?cst-{}",
        "/?token={}&x",
        "/ticket/{}?ticket={}",
        "http://esxi/ticket/{}",
    ]
)


@given(_TICKET, _PLACES, st.sampled_from(AccessLogFormat), st.booleans())
def test_a_line_has_no_part_of_a_ticket(ticket, place, form, raw):
    target = place.replace("{}", ticket)
    head = RequestHead(b"", b"GET", target.encode(), (1, 1), ())
    session = Session(
        Request("5e55", "secure", PeerAddress("::1", 5), True, head), SessionLimits(), lambda: 0.0
    )
    session.error, session.detail = "Internal", f"a plugin that raised at {target}"
    record = session.record()
    if raw:  # an observer of an embedding application that redacts nothing
        record = replace(record, target=target, principal=f"who asked for {target}")
    if "%" in target:
        record = replace(record, detail="", principal="")
    clock = Reactor()
    sink = ScriptedSink(clock)
    for wrap in (sink, SyslogSink(clock), JournalSink(clock)):
        line = {AccessLogFormat.JSON: as_json, AccessLogFormat.COMBINED: as_combined}[form](record, NOON)
        octets = wrap.encode(line, record, NOON)
        parts = {ticket[i : i + 6].encode() for i in range(len(ticket) - 5)}
        if set(ticket) - set(string.digits):
            parts = {part for part in parts if not part.isdigit()}
            assert not [part for part in parts if part in octets]


# --- files


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_access_log_is_a_session_observer(tmp_path):
    assert verifyObject(ISessionObserver, AccessLog(AccessLogConfig(tmp_path / "a"), Reactor()))


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
        AccessLog(AccessLogConfig(tmp_path / "gone" / "access.log"), Reactor()).startService()


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
        reactor = Reactor()
        with running(path, reactor) as log:
            path.rename(tmp_path / "access.log.1")
            signal.raise_signal(signal.SIGUSR1)
            log.closed(RECORD)
            assert rotated == [signal.SIGUSR1] and reactor.threaded == [log.reopen]
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
    reactor = Reactor()
    with process_log() as lines:
        with running(Path("/dev/full"), reactor) as log:
            for _ in range(3):
                log.closed(RECORD)
            assert lines == ["access log: 1 line lost: No space left on device"]
            reactor.advance(LOG_INTERVAL - 1)
            log.closed(RECORD)
            assert len(lines) == 1
            reactor.advance(1)
            assert lines[1:] == ["access log: 3 lines lost: No space left on device"]
            reactor.advance(LOG_INTERVAL)
            assert len(lines) == 2
            log.closed(RECORD)
            log.closed(RECORD)
        assert lines[2:] == ["access log: 1 line lost: No space left on device"] * 2
    assert not reactor.getDelayedCalls()


# --- readers that are slow, full or gone


def wire(sink, reactor=None):
    return running(LogTarget.STDOUT, reactor, sink=sink)


def test_a_line_for_a_busy_reader_is_written_later():
    reactor = Reactor()
    sink = ScriptedSink(reactor, BlockingIOError())
    with wire(sink, reactor) as log:
        log.closed(RECORD)
        log.closed(PAGE)
        assert sink.got == b""
        reactor.advance(RETRY_DELAY)
        assert [json.loads(line)["status"] for line in sink.got.splitlines()] == [101, 502]


def test_a_line_that_is_written_in_parts_stays_whole():
    reactor = Reactor()
    sink = ScriptedSink(reactor, 10, BlockingIOError(), 5)
    with wire(sink, reactor) as log:
        log.closed(RECORD)
        reactor.advance(RETRY_DELAY)
    assert json.loads(sink.got)["session"] == "5e55101d" and sink.got.count(b"\n") == 1


def test_a_line_after_one_that_was_cut_off_begins_on_a_new_line():
    full = OSError(errno.ENOSPC, "No space left on device")
    reactor = Reactor()
    sink = ScriptedSink(reactor, 10, full, full)
    with process_log(), wire(sink, reactor) as log:
        for record in (RECORD, RECORD, PAGE, PAGE):
            log.closed(record)
    torn, *whole = sink.got.splitlines()
    assert len(torn) == 10 and [json.loads(line)["status"] for line in whole] == [502, 502]


def test_the_queue_is_bounded():
    reactor = Reactor()
    sink = ScriptedSink(reactor, *[BlockingIOError()] * 100)
    size = len(as_json(RECORD, NOON)) + 1
    with process_log() as lines:
        with wire(sink, reactor) as log:
            for _ in range(MAX_QUEUED // size + 5):
                log.closed(RECORD)
            assert lines == ["access log: 1 line lost: the reader accepts no data"]
            reactor.advance(RETRY_DELAY)
            sink.answers.clear()
            reactor.advance(RETRY_DELAY)
            assert len(sink.got) == MAX_QUEUED // size * size
        assert lines[1:] == ["access log: 4 lines lost: the reader accepts no data"]
    assert not reactor.getDelayedCalls()


def test_queued_lines_are_written_once_more_at_the_end_and_then_counted_as_lost():
    reactor = Reactor()
    sink = ScriptedSink(reactor, BlockingIOError(), 1 << 16, BlockingIOError())
    with process_log() as lines:
        with wire(sink, reactor) as log:
            for _ in range(3):
                log.closed(RECORD)
        assert sink.got.count(b"\n") == 1
        assert lines == ["access log: 1 line lost: the reader accepts no data"] * 2
    assert not reactor.getDelayedCalls()


def test_records_before_the_start_and_after_the_stop_are_ignored(tmp_path):
    log = AccessLog(AccessLogConfig(tmp_path / "access.log"), Reactor())
    log.closed(RECORD)
    log.startService()
    log.stopService()
    log.closed(RECORD)
    assert (tmp_path / "access.log").read_text() == ""


# --- standard output


def test_a_full_pipe_does_not_block_and_its_reader_gets_whole_lines():
    reader, writer = os.pipe()
    reactor = Reactor()
    try:
        long = replace(RECORD, detail="x" * 6000)
        with process_log(), running(LogTarget.STDOUT, reactor, sink=StdoutSink(reactor, writer)) as log:
            for _ in range(40):
                log.closed(long)
            got = b""
            while reactor.getDelayedCalls():
                got += os.read(reader, 1 << 20)
                reactor.advance(RETRY_DELAY)
            assert os.get_blocking(writer), "it is not ours alone"
        os.close(writer)
        writer = -1
        while octets := os.read(reader, 1 << 20):
            got += octets
        assert [json.loads(line)["detail"] for line in got.splitlines()] == ["x" * 6000] * 40
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def test_a_pipe_without_a_reader_only_loses_lines():
    reader, writer = os.pipe()
    os.close(reader)
    reactor = Reactor()
    try:
        with (
            process_log() as lines,
            running(LogTarget.STDOUT, reactor, sink=StdoutSink(reactor, writer)) as log,
        ):
            log.closed(RECORD)
            assert lines == ["access log: 1 line lost: Broken pipe"]
    finally:
        os.close(writer)


def test_standard_output_may_be_a_socket():
    ours, theirs = socket.socketpair()
    reactor = Reactor()
    with ours, theirs:
        sink = StdoutSink(reactor, ours.fileno())
        with running(LogTarget.STDOUT, reactor, sink=sink) as log:
            log.closed(RECORD)
            assert json.loads(theirs.recv(1 << 16))["status"] == 101
            with process_log() as lines:
                while not reactor.getDelayedCalls():
                    log.closed(RECORD)
            assert lines == []


def test_standard_output_is_descriptor_1(capfd):
    with running(LogTarget.STDOUT) as log:
        log.closed(RECORD)
    assert json.loads(capfd.readouterr().out)["session"] == "5e55101d"


# --- syslog and journald


@pytest.fixture
def daemon(tmp_path):
    """Yield the socket of a log daemon and its path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        path = str(tmp_path / "log")
        listening.bind(path)
        listening.settimeout(5)
        yield listening, path


def test_syslog_gets_facility_severity_name_and_pid(daemon):
    listening, path = daemon
    reactor = Reactor()
    with running(LogTarget.SYSLOG, reactor, sink=SyslogSink(reactor, path)) as log:
        log.closed(RECORD)
    got = listening.recv(1 << 16).decode()
    head, line = got.split(": ", 1)
    assert re.fullmatch(rf"<30>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d esxiproxy\[{os.getpid()}\]", head)
    assert json.loads(line)["status"] == 101 and "\n" not in got


def test_the_journal_gets_fields_that_identify_the_session(daemon):
    listening, path = daemon
    reactor = Reactor()
    with running(LogTarget.JOURNALD, reactor, sink=JournalSink(reactor, path)) as log:
        log.closed(PAGE)
    fields = dict(line.split("=", 1) for line in listening.recv(1 << 16).decode().splitlines())
    message = json.loads(fields.pop("MESSAGE"))
    assert message["session"] == "5e55101d"
    assert fields == {
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "esxiproxy",
        "ESXIPROXY_SESSION": "5e55101d",
        "ESXIPROXY_LISTENER": "secure",
        "ESXIPROXY_UPSTREAM": "esxi1",
        "ESXIPROXY_STATUS": "502",
        "ESXIPROXY_ERROR": "UpstreamRefused",
    }


def test_a_journal_field_with_a_newline_cannot_begin_another_field():
    octets = JournalSink(Reactor()).encode("{}", replace(RECORD, upstream="a\nPRIORITY=0"), NOON)
    assert b"ESXIPROXY_UPSTREAM\n\x0c\x00\x00\x00\x00\x00\x00\x00a\nPRIORITY=0\n" in octets


def test_lines_are_lost_while_syslog_is_down_and_written_when_it_is_back(tmp_path):
    path, reactor = str(tmp_path / "log"), Reactor()
    with process_log() as lines, running(LogTarget.SYSLOG, reactor, sink=SyslogSink(reactor, path)) as log:
        log.closed(RECORD)
        assert lines == ["access log: 1 line lost: No such file or directory"]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(path)
            log.closed(PAGE)
            assert b'"status":502' in listening.recv(1 << 16)
        log.closed(RECORD)  # the socket file exists without a receiver
    assert lines[1:] == ["access log: 1 line lost: Connection refused"]


def test_a_stalled_syslog_does_not_block(daemon):
    listening, path = daemon
    reactor = Reactor()
    with running(LogTarget.SYSLOG, reactor, sink=SyslogSink(reactor, path)) as log:
        while not reactor.getDelayedCalls():
            log.closed(RECORD)
        log.closed(PAGE)
        while b'"status":502' not in listening.recv(1 << 16):
            reactor.advance(RETRY_DELAY)


# --- the configuration

LISTENER = "[listener a]\nlisten = :80\nupstream = u\n[upstream u]\nurl = ws://192.0.2.1\n"


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("", None),
        ("[proxy]\naccess_log = off\n", None),
        ("[proxy]\naccess_log = stdout\n", AccessLogConfig(LogTarget.STDOUT)),
        ("[proxy]\naccess_log = syslog\n", AccessLogConfig(LogTarget.SYSLOG)),
        (
            "[proxy]\naccess_log = journald\naccess_log_format = combined\n",
            AccessLogConfig(LogTarget.JOURNALD, AccessLogFormat.COMBINED),
        ),
    ],
)
def test_the_configuration_sets_target_and_format(tmp_path, text, wanted):
    (tmp_path / "x.ini").write_text(text + LISTENER)
    assert load(tmp_path / "x.ini").access_log == wanted


def test_the_path_is_relative_to_the_configuration_file(tmp_path):
    (tmp_path / "x.ini").write_text("[proxy]\naccess_log = access.log\n" + LISTENER)
    assert load(tmp_path / "x.ini").access_log == AccessLogConfig(tmp_path / "access.log")


def test_an_unknown_format_is_refused(tmp_path):
    (tmp_path / "x.ini").write_text("[proxy]\naccess_log_format = apache\n" + LISTENER)
    with pytest.raises(ConfigError, match="access_log_format: 'apache' is not json or combined"):
        load(tmp_path / "x.ini")


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


INI = """
[proxy]
access_log = access.log

[listener one]
listen = 127.0.0.1:0
upstream = host

[upstream host]
url = ws://127.0.0.1:{port}
"""


def console(port, ticket):
    with Client(port) as client:
        client.open(f"/ticket/{ticket}", ["binary"])
        client.send_frame(CLOSE, b"\x03\xe8")
        client.recv_frame()


@pytest.mark.parametrize("program", [Proxy, Logged])
def test_twistd_writes_the_access_log_and_reopens_it_on_sigusr1_together_with_its_own(program):
    with ScriptedUpstream(echo()) as host, program(INI.format(port=host.port)) as proxy:
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
            assert (line["listener"], line["upstream"], line["target"]) == ("one", "host", "/ticket/***")
            assert (line["status"], line["close_code"], line["ended_by"]) == (101, 1000, "client")
            assert (line["kind"], line["method"], line["client"]) == ("console", "GET", "127.0.0.1")
        assert first["session"] != second["session"]
        assert proxy.stop() == 0
        written = path.read_text() + old.read_text() + proxy.log()
        assert "access log: " in written and "QXZJ" not in written


def test_twistd_reports_in_one_line_that_the_file_cannot_be_opened():
    with contextlib.suppress(AssertionError):  # the process may exit before it is seen ready
        proxy = Proxy(INI.format(port=1).replace("access.log", "folder/access.log"))
        (proxy.folder / "folder").mkdir()
        (proxy.folder / "folder" / "access.log").symlink_to("nowhere/access.log")
        proxy.start()
    complaint = f"esxiproxy: access_log: cannot open {proxy.folder}/folder/access.log: No such file"
    until(lambda: complaint in proxy.log(), "the complaint")
    assert proxy._process.wait(10) == 1 and "Traceback" not in proxy.log()
    proxy.stop()
