"""The sinks of logs: readers that are slow, full or gone, standard output, syslog and journald."""

import contextlib
import errno
import json
import os
import re
import socket
from dataclasses import replace

import pytest

from esxiproxy.core.config.access_log import AccessLogConfig, LogTarget
from esxiproxy.ops.logs.access_line import as_json
from esxiproxy.ops.logs.access_log import AccessLog
from esxiproxy.ops.logs.datagram_sink import JournalSink, SyslogSink
from esxiproxy.ops.logs.file_sink import StdoutSink
from esxiproxy.ops.logs.sink import MAX_QUEUED, RETRY_DELAY
from tests.ops.records import NOON, PAGE, RECORD, running
from tests.support.logs import ScriptedSink, process_log
from tests.support.reactor import FakeReactor

# --- readers that are slow, full or gone


@contextlib.contextmanager
def scripted(*results):
    """Run an access log with a scripted sink, and yield both and the process log."""
    with process_log() as lines, running(LogTarget.STDOUT, lambda it: ScriptedSink(it, *results)) as log:
        yield log, log._sink, lines
    assert not log.reactor.getDelayedCalls()


def test_a_line_for_a_busy_reader_is_written_later():
    with scripted(BlockingIOError()) as (log, sink, _):
        log.closed(RECORD)
        log.closed(PAGE)
        assert sink.got == b""
        log.reactor.advance(RETRY_DELAY)
        assert [json.loads(line)["status"] for line in sink.got.splitlines()] == [101, 502]


def test_a_line_that_is_written_in_parts_stays_whole():
    with scripted(10, BlockingIOError(), 5) as (log, sink, _):
        log.closed(RECORD)
        log.reactor.advance(RETRY_DELAY)
    assert json.loads(sink.got)["session"] == "5e55101d" and sink.got.count(b"\n") == 1


def test_a_line_after_one_that_was_cut_off_begins_on_a_new_line():
    full = OSError(errno.ENOSPC, "No space left on device")
    with scripted(10, full, full) as (log, sink, _):
        for record in (RECORD, RECORD, PAGE, PAGE):
            log.closed(record)
    torn, *whole = sink.got.splitlines()
    assert len(torn) == 10 and [json.loads(line)["status"] for line in whole] == [502, 502]


def test_the_queue_is_bounded():
    size = len(as_json(RECORD, NOON)) + 1
    with scripted(*[BlockingIOError()] * 100) as (log, sink, lines):
        for _ in range(MAX_QUEUED // size + 5):
            log.closed(RECORD)
        assert lines == ["access log: 1 line lost: the reader accepts no data"]
        log.reactor.advance(RETRY_DELAY)
        sink.answers.clear()
        log.reactor.advance(RETRY_DELAY)
        assert len(sink.got) == MAX_QUEUED // size * size
    assert lines[1:] == ["access log: 4 lines lost: the reader accepts no data"]


def test_queued_lines_are_written_once_more_at_the_end_and_then_counted_as_lost():
    with scripted(BlockingIOError(), 1 << 16, BlockingIOError()) as (log, sink, lines):
        for _ in range(3):
            log.closed(RECORD)
    assert sink.got.count(b"\n") == 1
    assert lines == ["access log: 1 line lost: the reader accepts no data"] * 2


def test_records_before_the_start_and_after_the_stop_are_ignored(tmp_path):
    log = AccessLog(AccessLogConfig(tmp_path / "access.log"), FakeReactor(NOON))
    log.closed(RECORD)
    log.startService()
    log.stopService()
    log.closed(RECORD)
    assert (tmp_path / "access.log").read_text() == ""


# --- standard output


def test_a_full_pipe_does_not_block_and_its_reader_gets_whole_lines():
    reader, writer = os.pipe()
    try:
        long = replace(RECORD, detail="x" * 6000)
        with process_log(), running(LogTarget.STDOUT, lambda it: StdoutSink(it, writer)) as log:
            for _ in range(40):
                log.closed(long)
            got = b""
            while log.reactor.getDelayedCalls():
                got += os.read(reader, 1 << 20)
                log.reactor.advance(RETRY_DELAY)
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
    try:
        with (
            process_log() as lines,
            running(LogTarget.STDOUT, lambda it: StdoutSink(it, writer)) as log,
        ):
            log.closed(RECORD)
            assert lines == ["access log: 1 line lost: Broken pipe"]
    finally:
        os.close(writer)


def test_standard_output_may_be_a_socket():
    ours, theirs = socket.socketpair()
    with ours, theirs, running(LogTarget.STDOUT, lambda it: StdoutSink(it, ours.fileno())) as log:
        log.closed(RECORD)
        assert json.loads(theirs.recv(1 << 16))["status"] == 101
        with process_log() as lines:
            while not log.reactor.getDelayedCalls():
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
        listening.settimeout(20)
        yield listening, path


def test_syslog_gets_facility_severity_name_and_pid(daemon):
    listening, path = daemon
    with running(LogTarget.SYSLOG, lambda it: SyslogSink(it, path)) as log:
        log.closed(RECORD)
    got = listening.recv(1 << 16).decode()
    head, line = got.split(": ", 1)
    assert re.fullmatch(rf"<30>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d esxiproxy\[{os.getpid()}\]", head)
    assert json.loads(line)["status"] == 101 and "\n" not in got


def test_the_journal_gets_fields_that_identify_the_session(daemon):
    listening, path = daemon
    with running(LogTarget.JOURNALD, lambda it: JournalSink(it, path)) as log:
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
    octets = JournalSink(FakeReactor(NOON)).encode("{}", replace(RECORD, upstream="a\nPRIORITY=0"), NOON)
    assert b"ESXIPROXY_UPSTREAM\n\x0c\x00\x00\x00\x00\x00\x00\x00a\nPRIORITY=0\n" in octets


def test_lines_are_lost_while_syslog_is_down_and_written_when_it_is_back(tmp_path):
    path = str(tmp_path / "log")
    with process_log() as lines, running(LogTarget.SYSLOG, lambda it: SyslogSink(it, path)) as log:
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
    with running(LogTarget.SYSLOG, lambda it: SyslogSink(it, path)) as log:
        while not log.reactor.getDelayedCalls():
            log.closed(RECORD)
        log.closed(PAGE)
        while b'"status":502' not in listening.recv(1 << 16):
            log.reactor.advance(RETRY_DELAY)
