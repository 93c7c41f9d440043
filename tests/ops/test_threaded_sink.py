"""A log on a hanging disk: the reactor is not blocked, and lost lines are counted and reported."""

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from twisted.logger import Logger

from esxiproxy.core.config.access_log import AccessLogConfig
from esxiproxy.ops.logs.access_log import AccessLog
from esxiproxy.ops.logs.file_sink import FileSink, RotatedFileSink, StdoutSink
from esxiproxy.ops.logs.sink import MAX_QUEUED, READER_STALLED, Losses
from esxiproxy.ops.logs.threaded_sink import CLOSE_TIMEOUT, MANY_LINES, MAX_BATCH
from esxiproxy.ops.logs.twistd_log import TextLog
from tests.support.logs import process_log
from tests.support.programs import until
from tests.support.reactor import SECONDS, FakeReactor


class Disk:
    """A disk under a sink, whose writes hang after ``hang`` until ``goes`` is set."""

    def __init__(self, sink):
        self.goes = threading.Event()
        self.goes.set()
        self.reached = threading.Semaphore(0)
        self.threads = set()
        self._write, sink.write = sink.write, self.write

    def write(self, octets):
        self.threads.add(threading.current_thread())
        self.reached.release()
        assert self.goes.wait(SECONDS)
        return self._write(octets)

    def hang(self):
        self.goes.clear()


class Scene:
    def __init__(self, kind, folder, losses=None):
        self.loop, self.path = FakeReactor(runs_calls=False, has_run=True), folder / "some.log"
        if kind is FileSink:
            self.sink = FileSink(self.path, self.loop)
            if losses is not None:
                self.sink._losses = losses
        elif kind is RotatedFileSink:
            self.sink = RotatedFileSink(str(self.path), self.loop, losses or Losses())
        else:
            self._file = self.path.open("wb", buffering=0)
            self.sink = StdoutSink(self.loop, self._file.fileno(), losses or Losses())
        self.sink.open()
        self.disk = Disk(self.sink)

    def written(self):
        before = self.path.with_name(f"{self.path.name}.1")  # twistd rotates at 1 MB
        texts = [path.read_text() for path in (before, self.path) if path.exists()]
        return "".join(texts).splitlines()

    def idle(self):
        """Wait until the thread has written all lines and exited."""
        with self.sink._changed:
            thread = self.sink._thread
        self.sink.flush_blocking(SECONDS)
        assert thread is not None and not thread.is_alive()


@pytest.fixture(params=[FileSink, RotatedFileSink, StdoutSink])
def scene(request, tmp_path):
    scene = Scene(request.param, tmp_path)
    yield scene
    scene.disk.goes.set()


def test_a_hanging_write_does_not_block_and_lines_stay_in_order(scene):
    scene.sink.put(b"before the loop\n")
    assert scene.written() == ["before the loop"]
    scene.sink.reactor_started()
    scene.disk.hang()
    for number in range(1000):
        scene.sink.put(b"%d\n" % number)  # must not block
    assert scene.sink.has_queued and scene.written() == ["before the loop"]
    scene.disk.goes.set()
    scene.idle()
    assert scene.written() == ["before the loop", *map(str, range(1000))]
    assert len(scene.disk.threads) == 2 and not scene.sink.has_queued


def test_the_queue_of_the_thread_is_bounded_and_lost_lines_are_counted(tmp_path):
    losses = Losses()
    scene = Scene(RotatedFileSink, tmp_path, losses)
    scene.sink.reactor_started()
    scene.disk.hang()
    line = b"x" * 1023 + b"\n"
    for _ in range(MAX_QUEUED // 1024 + 7):
        scene.sink.put(line)
    assert str(losses) == f"7 lines lost: {READER_STALLED}"
    scene.disk.goes.set()
    scene.idle()
    assert len(scene.written()) == MAX_QUEUED // 1024


def test_after_the_reactor_has_stopped_lines_are_written_at_once(scene):
    scene.sink.reactor_started()
    scene.sink.put(b"one\n")
    scene.sink.flush_blocking(SECONDS)
    scene.sink.put(b"two\n")
    assert scene.written() == ["one", "two"]


def test_the_last_flush_waits_for_a_disk_up_to_its_timeout(scene):
    scene.sink.reactor_started()
    scene.disk.hang()
    scene.sink.put(b"one\n")
    scene.sink.flush_blocking(0.01)
    scene.sink.put(b"two\n")
    scene.sink.flush_blocking(0.0)
    assert scene.written() == []
    scene.disk.goes.set()
    scene.sink.flush_blocking(SECONDS)
    assert scene.written() == ["one", "two"]


def test_close_fires_when_all_lines_are_written(scene):
    scene.sink.reactor_started()
    scene.disk.hang()
    scene.sink.put(b"one\n")
    closed = []
    scene.sink.close().addCallback(closed.append)
    assert not closed
    scene.disk.goes.set()
    scene.loop.run_until(lambda: closed)
    assert scene.written() == ["one"] and scene.loop.getDelayedCalls() == []


def test_close_has_a_timeout_and_the_thread_closes_the_file_later(tmp_path):
    scene = Scene(FileSink, tmp_path)
    scene.sink.reactor_started()
    scene.disk.hang()
    scene.sink.put(b"one\n")
    assert scene.disk.reached.acquire(timeout=SECONDS)
    scene.sink.put(b"two\n")
    thread, closed, descriptor = scene.sink._thread, [], scene.sink._descriptor
    with process_log() as lines:
        scene.sink.close().addCallback(closed.append)
        scene.loop.advance(CLOSE_TIMEOUT)
    assert closed == [None] and scene.loop.getDelayedCalls() == []
    assert lines == [f"access log: 1 line lost: {READER_STALLED}"] * 2
    assert os.path.samestat(os.fstat(descriptor), scene.path.stat())
    scene.disk.goes.set()
    thread.join(SECONDS)
    assert scene.written() == ["one"] and scene.sink._descriptor == -1


def test_a_reopening_waits_for_the_lines_queued_before_it(tmp_path):
    scene = Scene(FileSink, tmp_path)
    scene.sink.reactor_started()
    scene.disk.hang()
    scene.sink.put(b"old\n")
    moved, done = tmp_path / "moved", []
    scene.path.rename(moved)
    scene.sink.reopen(done.append)
    scene.sink.put(b"new\n")
    assert not scene.path.exists() and not done
    scene.disk.goes.set()
    scene.loop.run_until(lambda: done)
    scene.idle()
    assert done == [None]
    assert (moved.read_text(), scene.path.read_text()) == ("old\n", "new\n")


def test_a_file_that_cannot_be_reopened_stays_in_use(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    scene, done = Scene(FileSink, folder), []
    scene.sink.reactor_started()
    folder.rename(tmp_path / "moved")
    scene.sink.reopen(done.append)
    scene.sink.put(b"on\n")
    scene.loop.run_until(lambda: done)
    scene.idle()
    assert "No such file" in str(done[0])
    assert (tmp_path / "moved" / "some.log").read_text() == "on\n"


def test_a_rotated_file_is_rotated_in_the_thread(tmp_path):
    scene, done = Scene(RotatedFileSink, tmp_path), []
    scene.sink.reactor_started()
    scene.sink.put(b"old\n")
    scene.sink.reopen(done.append)
    scene.sink.put(b"new\n")
    scene.loop.run_until(lambda: done)
    scene.idle()
    assert ((tmp_path / "some.log.1").read_text(), scene.path.read_text()) == ("old\n", "new\n")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("a closed file")])
def test_a_failed_write_is_counted_and_the_next_line_is_written(tmp_path, error):
    losses, errors = Losses(), [error]
    scene = Scene(RotatedFileSink, tmp_path, losses)
    scene.sink.reactor_started()
    write = scene.sink.write

    def fails(octets):
        if errors:
            raise errors.pop()
        return write(octets)

    scene.sink.write = fails
    scene.sink.put(b"one\n"), scene.sink.put(b"two\n")
    scene.idle()
    assert losses.lines == 1 and scene.written() == ["two"]
    assert losses.reason == (error.strerror if isinstance(error, OSError) else f"bug: {error!r}")


def test_lines_that_are_queued_together_are_written_at_once_and_in_parts(tmp_path):
    losses, takes, writes = Losses(), [4, OSError(28, "No space left on device"), 6], []
    scene = Scene(FileSink, tmp_path, losses)
    write = scene.sink.write

    def writes_some(octets):
        writes.append(octets)
        taken = takes.pop(0) if takes else len(octets)
        if isinstance(taken, OSError):
            raise taken
        return write(octets[:taken])

    scene.sink.write, scene.sink.gathering = writes_some, SECONDS
    scene.sink.reactor_started()
    for line in (b"one\n", b"two\n", b"three\n", b"four\n"):
        scene.sink.put(line)
    scene.idle()  # which ends the waiting for more lines
    assert writes == [b"one\ntwo\nthree\nfour\n", b"two\nthree\nfour\n", b"three\nfour\n", b"four\n"]
    assert scene.written() == ["one", "three", "four"]
    assert losses.lines == 1 and not scene.sink.has_queued


def test_one_write_has_a_bounded_number_of_lines(tmp_path):
    scene, sizes = Scene(FileSink, tmp_path), []
    write, line = scene.sink.write, b"x" * 999 + b"\n"
    scene.sink.write = lambda octets: sizes.append(len(octets)) or write(octets)
    scene.sink.gathering = SECONDS
    scene.sink.reactor_started()
    scene.disk = Disk(scene.sink)
    scene.disk.hang()
    for _ in range(200):  # more than one write may have: they are not waited for
        scene.sink.put(line)
    assert scene.disk.reached.acquire(timeout=SECONDS)
    scene.disk.goes.set()
    scene.idle()
    assert len(scene.written()) == 200 and max(sizes) <= MAX_BATCH + len(line)


def test_losses_of_the_access_log_are_logged_in_the_reactor_thread(tmp_path):
    scene = Scene(FileSink, tmp_path)
    scene.sink.reactor_started()

    def fails(octets):
        raise OSError(28, "No space left on device")

    scene.sink.write = fails
    with process_log() as lines:
        scene.sink.put(b"one\n")
        with scene.sink._changed:
            assert not lines
        scene.loop.run_until(lambda: lines)
        closed = []
        scene.sink.close().addCallback(closed.append)
        scene.loop.run_until(lambda: closed)
    assert lines == ["access log: 1 line lost: No space left on device"]
    assert scene.loop.getDelayedCalls() == []


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_need_no_thread(tmp_path, kind):
    if kind == "pipe":
        os.mkfifo(tmp_path / "log")
        reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
        sink = FileSink(tmp_path / "log", FakeReactor(runs_calls=False, has_run=True))
    else:
        reader = os.open(os.devnull, os.O_RDONLY)
        sink = FileSink(Path(os.devnull), FakeReactor(runs_calls=False, has_run=True))
    try:
        sink.open()
        sink.reactor_started()
        assert sink._thread is None
        sink.close()
    finally:
        os.close(reader)


def test_a_pipe_that_is_replaced_by_a_file_gets_a_thread(tmp_path):
    path = tmp_path / "log"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink, done = FileSink(path, FakeReactor(runs_calls=False, has_run=True)), []
    sink.open()
    sink.reactor_started()
    path.unlink()
    sink.reopen(done.append)
    assert done == [None] and sink._thread is not None
    sink.put(b"one\n")
    sink.flush_blocking(SECONDS)
    assert path.read_text() == "one\n"
    os.close(reader)


def test_an_access_log_that_starts_again_is_not_closed_by_its_old_thread(tmp_path):
    loop, disks = FakeReactor(runs_calls=False, has_run=True), []

    def make_sink():
        sink = FileSink(tmp_path / "some.log", loop)
        disks.append(Disk(sink))
        sink.encode = lambda line, record, seconds: line
        return sink

    log = AccessLog(AccessLogConfig(tmp_path / "some.log"), loop, make_sink)
    log._line = lambda record, started: record.line
    log.startService()
    disks[0].hang()
    log.closed(SimpleNamespace(line=b"one\n", phases={}))
    assert disks[0].reached.acquire(timeout=SECONDS)
    old = log._sink
    stopped = []
    log.stopService().addCallback(stopped.append)
    loop.advance(CLOSE_TIMEOUT)
    assert stopped == [None]
    thread = old._thread
    log.startService()
    disks[0].goes.set()
    thread.join(SECONDS)
    assert old._descriptor == -1
    log.closed(SimpleNamespace(line=b"two\n", phases={}))
    log.stopService().addCallback(stopped.append)
    loop.run_until(lambda: len(stopped) == 2)
    assert (tmp_path / "some.log").read_text() == "one\ntwo\n"


# The process's own log


def test_the_process_log_reports_one_gap_after_the_disk_recovers(tmp_path):
    losses = Losses()
    scene = Scene(RotatedFileSink, tmp_path, losses)
    log = TextLog(scene.loop, scene.sink, losses)
    logger = Logger(namespace="test", observer=log)
    log.flush_at_exit()
    scene.disk = Disk(scene.sink)
    scene.disk.hang()
    for number in range(2 * MAX_QUEUED // 1000):
        logger.info("{text}", text=f"{number:1000}")
    lost = losses.lines
    scene.disk.goes.set()
    until(lambda: not scene.sink.has_queued, "the disk has taken all")
    logger.info("again")
    log._finish()
    lines = scene.written()
    assert 0 < lost == 2 * MAX_QUEUED // 1000 - (len(lines) - 2)
    assert f"process log: {lost} lines lost: {READER_STALLED}" in lines[-2] and lines[-1].endswith("again")


def test_the_last_losses_are_reported_at_the_end(tmp_path):
    losses = Losses()
    scene = Scene(RotatedFileSink, tmp_path, losses)
    log = TextLog(scene.loop, scene.sink, losses)
    log.flush_at_exit()
    losses.add(3, READER_STALLED)
    log._finish()
    assert "process log: 3 lines lost" in scene.written()[-1]


def test_a_file_takes_many_lines_in_one_write(scene):
    """The lines of others, such as an access log on the same standard output, come between whole lines."""
    octets = 700 * b"some line of a log that has many of them\n"
    assert scene.sink.write(octets) == len(octets)


def test_lines_that_follow_many_others_are_written_together(tmp_path):
    scene = Scene(RotatedFileSink, tmp_path)
    scene.sink.resting = float(SECONDS)
    scene.sink.reactor_started()
    scene.disk.hang()
    for number in range(1 + MANY_LINES):
        scene.sink.put(b"%d\n" % number)
        if number == 0:
            assert scene.disk.reached.acquire(timeout=SECONDS), "the first line does not wait"
    scene.disk.goes.set()
    assert scene.disk.reached.acquire(timeout=SECONDS), "neither do lines behind a single one"
    for number in range(1 + MANY_LINES, 50):
        scene.sink.put(b"%d\n" % number)
    scene.idle()  # which ends the rest
    assert scene.written() == [*map(str, range(50))]
    writes = 0
    while scene.disk.reached.acquire(blocking=False):
        writes += 1
    assert writes == 1
