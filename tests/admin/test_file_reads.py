"""A file on a disk that hangs: one thread waits for it, and all callers get the last known content."""

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from esxiproxy.admin.certificates import CertificateReader
from esxiproxy.admin.file_reads import MAX_LATE, TIMEOUT, FileReads
from tests.support.certificates import self_signed
from tests.support.logs import process_log
from tests.support.outcome import result


class Disk:
    """A file whose reads end when a test says so."""

    def __init__(self):
        self.clock = Clock()
        self.reads = FileReads(self.clock)
        self.running = []

    async def _read(self):
        self.running.append(Deferred())
        await self.running[-1]

    def read(self, name="a file"):
        """Return the Deferred of one caller."""
        return Deferred.fromCoroutine(self.reads.run(name, self._read))


@pytest.fixture
def disk():
    return Disk()


def test_callers_at_the_same_time_share_one_read(disk):
    callers = [disk.read() for _ in range(3)]
    assert len(disk.running) == 1 and not any(each.called for each in callers)
    disk.running[0].callback(None)
    assert [result(each) for each in callers] == [None] * 3
    later = disk.read()
    assert len(disk.running) == 2, "the next caller looks again"
    disk.running[1].callback(None)
    assert later.called


def test_nobody_waits_for_a_read_that_hangs(disk):
    with process_log() as lines:
        first = disk.read()
        disk.clock.advance(TIMEOUT - 0.5)
        second = disk.read()
        assert not first.called and not second.called
        disk.clock.advance(0.5)
        assert result(first) is None and result(second) is None
        for _ in range(100):
            assert disk.read().called, "at once"
    assert len(disk.running) == 1 and disk.clock.getDelayedCalls() == []
    (line,) = lines
    assert line.startswith("a file was not read within 2 s: its disk may hang")
    disk.running[0].callback(None)
    later = disk.read()
    assert not later.called, "it is read again when the disk goes on"
    disk.running[1].callback(None)
    assert later.called


def test_a_disk_with_many_files_keeps_few_threads_busy(disk):
    """Ten certificates on a disk that hung took all threads, and with them /metrics and the audit log."""
    began, names = disk.clock.seconds(), [f"file {number}" for number in range(30)]
    for name in names:
        caller = disk.read(name)
        if not caller.called:
            disk.clock.advance(TIMEOUT)
        assert caller.called
    assert len(disk.running) == MAX_LATE and disk.clock.seconds() - began == MAX_LATE * TIMEOUT
    disk.running[0].callback(None)
    good = disk.read("file 7")
    disk.running[-1].callback(None)
    assert good.called and len(disk.running) == MAX_LATE + 1
    disk.read("file 8")
    disk.clock.advance(TIMEOUT)
    assert disk.read("file 9").called and len(disk.running) == MAX_LATE + 2


def test_a_caller_that_leaves_disturbs_no_other_one(disk):
    leaving, staying = disk.read(), disk.read()
    leaving.addErrback(lambda _: None).cancel()
    disk.running[0].callback(None)
    assert staying.called and disk.clock.getDelayedCalls() == []


def test_a_certificate_is_that_of_before_while_the_disk_hangs(tmp_path):
    certificate, clock, hanging = self_signed(tmp_path, "one", ("one.example",), ()), Clock(), []

    def in_thread(call, *arguments):
        if is_hanging:
            hanging.append(Deferred())
            return hanging[-1]
        return succeed(call(*arguments))

    is_hanging = False
    reader = CertificateReader(in_thread, clock)
    before = result(Deferred.fromCoroutine(reader.read(certificate.path)))
    is_hanging = True
    late = Deferred.fromCoroutine(reader.read(certificate.path))
    clock.advance(TIMEOUT)
    assert result(late) == before and before.names == ("one.example",)
    assert result(Deferred.fromCoroutine(reader.read(certificate.path))) == before and len(hanging) == 1
