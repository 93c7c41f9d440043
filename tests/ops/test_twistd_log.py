"""The process's log: its format, lost lines, rotation, and twistd's options."""

import errno
import io
import os
import socket
import threading
from functools import partial

import pytest
from twisted.logger import Logger, LogPublisher, textFileLogObserver

from esxiproxy.core.startup import StartupError
from esxiproxy.ops.logs.datagram_sink import SyslogSink
from esxiproxy.ops.logs.file_sink import RotatedFileSink, StdoutSink
from esxiproxy.ops.logs.sink import MAX_QUEUED, RETRY_DELAY, Losses
from esxiproxy.ops.logs.twistd_log import SystemLog, TextLog, twistd_log
from tests.support.logs import ScriptedSink
from tests.support.reactor import FakeReactor

FULL = OSError(errno.ENOSPC, "No space left on device")
TWISTD = {"nodaemon": True, "logfile": None, "logger": None, "syslog": False, "prefix": "twisted"}


class Scene:
    """A log with a sink that ``make`` makes, by default with one that a test scripts."""

    def __init__(self, *answers, make=None, kind=TextLog):
        self.reactor, losses = FakeReactor(runs_calls=False), Losses()
        make = make or (lambda reactor, losses: ScriptedSink(reactor, *answers, losses=losses))
        self.sink = make(self.reactor, losses)
        self.log = kind(self.reactor, self.sink, losses)
        self.logger = Logger(namespace="test", observer=self.log)

    def lines(self):
        return [line.partition(" ")[2] for line in self.sink.got.decode().splitlines()]


def file_scene(path):
    return Scene(make=partial(RotatedFileSink, str(path)))


def test_a_line_has_twistds_format():
    scene, written = Scene(), io.StringIO()
    logger = Logger(namespace="test", observer=LogPublisher(scene.log, textFileLogObserver(written)))
    logger.info("one\ntwo {name}", name="ä")
    for line in ("session 1 of {line}", "one\ntwo", "", None, 7, ["ä"]):
        logger.info("{line}", line=line)
        logger.error("{line}", line=line, log_system="own")
    try:
        raise RuntimeError("a bug")
    except RuntimeError:
        logger.failure("failed")
    assert scene.sink.got.decode() == written.getvalue() != ""


def test_the_number_of_lost_lines_is_written_before_the_next_line():
    scene = Scene(*[FULL] * 5)
    for number in range(4):  # lost: a line, and twice the message about it
        scene.logger.info("line {number}", number=number)
    assert scene.lines() == [
        "[esxiproxy.ops.logs.twistd_log#warn] process log: 3 lines lost: No space left on device",
        "[test#info] line 3",
    ]


def test_a_stalled_reader_causes_one_gap():
    scene = Scene(*[BlockingIOError()] * 2)
    count = MAX_QUEUED // 1000
    for number in range(count + 10):
        scene.logger.info("{text}", text=f"{number:1000}")
        scene.logger.info("short")
    scene.reactor.advance(RETRY_DELAY)
    scene.reactor.advance(RETRY_DELAY)
    scene.logger.info("again")
    lines = scene.lines()
    assert "lines lost: the reader accepts no data" in lines[-2] and lines[-1] == "[test#info] again"
    assert len(lines) - 2 + int(lines[-2].split()[3]) == 2 * (count + 10)


def test_a_line_that_is_logged_within_a_write_follows_it():
    """The garbage collector may log an unhandled error at any point."""
    scene = Scene()
    write = scene.sink.write

    def strikes(octets):
        scene.sink.write = write
        scene.logger.info("second")
        return write(octets)

    scene.sink.write = strikes
    scene.logger.info("first")
    assert scene.lines() == ["[test#info] first", "[test#info] second"]


def test_events_of_other_threads_are_written_in_the_main_thread():
    scene = Scene()
    thread = threading.Thread(target=scene.logger.info, args=("elsewhere",))
    thread.start()
    thread.join()
    assert scene.sink.got == b""
    scene.reactor.run_call()
    assert scene.lines() == ["[test#info] elsewhere"]


def test_the_queue_is_flushed_to_a_slow_reader_at_the_end():
    reader, writer = os.pipe()
    try:
        scene = Scene(make=lambda reactor, losses: StdoutSink(reactor, writer, losses))
        scene.log.flush_at_exit()
        while not scene.sink.has_queued:
            scene.logger.info("{text}", text="x" * 1000)
        got = bytearray()

        def read():
            while b"the last" not in got:
                got.extend(os.read(reader, 4096))

        scene.logger.info("the last")
        thread = threading.Thread(target=read)
        thread.start()
        ((finish, _, _),) = scene.reactor.triggers["after"]["shutdown"]
        finish()
        thread.join(10)
        assert not scene.sink.has_queued and got.endswith(b"the last\n")
        scene.sink.close()
    finally:
        os.close(reader)
        os.close(writer)


# --- a file


def test_reopen_rotates_a_file(tmp_path):
    scene = file_scene(tmp_path / "own.log")
    scene.logger.info("before")
    scene.log.reopen()
    scene.logger.info("after")
    assert (tmp_path / "own.log.1").read_text().endswith("[test#info] before\n")
    assert (tmp_path / "own.log").read_text().endswith("[test#info] after\n")


@pytest.mark.parametrize("created", [False, True])
def test_a_renamed_file_is_not_rotated(tmp_path, created):
    """logrotate renames the file and may create the new one."""
    path = tmp_path / "own.log"
    scene = file_scene(path)
    scene.logger.info("before")
    path.rename(tmp_path / "moved")
    if created:
        path.touch()
    scene.log.reopen()
    scene.logger.info("after")
    assert path.read_text().endswith("[test#info] after\n")
    assert (tmp_path / "moved").read_text().endswith("[test#info] before\n")
    assert len(list(tmp_path.iterdir())) == 2


def test_after_the_reactor_has_stopped_other_threads_write_their_events(tmp_path):
    scene = file_scene(tmp_path / "own.log")
    scene.log._finish()
    thread = threading.Thread(target=scene.logger.info, args=("too late",))
    thread.start()
    thread.join()
    assert (tmp_path / "own.log").read_text().endswith("too late\n")


def test_a_failed_rotation_is_repeated_with_the_next_line(tmp_path):
    """Lines between the failed rotation and the repeated one are counted as lost."""
    scene = file_scene(tmp_path / "own.log")
    opening, full = scene.sink._file._openFile, True

    def fails():
        if full:
            raise FULL
        opening()

    scene.sink._file._openFile = fails
    scene.log.reopen()
    scene.logger.info("lost")
    full = False
    scene.logger.info("written")
    lost, written = (tmp_path / "own.log").read_text().splitlines()
    assert "process log: 1 line lost: No space left on device" in lost and written.endswith("written")


# --- syslog


def test_syslog_gets_the_lines_that_twistd_would_send(tmp_path):
    """Facility user, severity alert for errors, the prefix, and one datagram for each line of an event."""
    path = str(tmp_path / "log")
    scene = Scene(make=lambda reactor, losses: SyslogSink(reactor, path, losses, "twisted"), kind=SystemLog)
    scene.logger.info("nobody is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(path)
        daemon.settimeout(20)
        scene.logger.error("one\ntwo")
        got = [daemon.recv(1 << 16).decode() for _ in range(3)]
    assert [line.partition(">")[0] for line in got] == ["<14", "<9", "<9"]
    assert [line.split(" twisted: ")[1] for line in got] == [
        "[-] process log: 1 line lost: No such file or directory",
        "[-] one",
        "[-] \ttwo",
    ]


# --- whose log it is


@pytest.mark.parametrize(
    ("options", "sink"),
    [
        ({}, StdoutSink),
        ({"logfile": "-"}, StdoutSink),
        ({"logfile": "own.log"}, RotatedFileSink),
        ({"nodaemon": False}, RotatedFileSink),
        ({"syslog": True}, SyslogSink),
        ({"nodaemon": False, "logfile": "-"}, None),
        ({"logger": object}, None),
    ],
)
def test_the_sink_follows_twistds_options(options, sink, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    log = twistd_log(TWISTD | options, FakeReactor(runs_calls=False))
    assert sink is None if log is None else type(log._sink) is sink


@pytest.mark.parametrize("options", [None, {"log": "something else than twistd"}])
def test_an_embedding_application_keeps_its_log(options):
    assert twistd_log(options, FakeReactor(runs_calls=False)) is None


def test_a_file_that_cannot_be_opened_fails_the_start(tmp_path):
    with pytest.raises(StartupError, match=r"the log cannot be opened: .*gone/own.log"):
        twistd_log(TWISTD | {"logfile": str(tmp_path / "gone" / "own.log")}, FakeReactor(runs_calls=False))
