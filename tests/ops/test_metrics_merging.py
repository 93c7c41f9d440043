"""The merge of the metrics of ended processes: of many, on a full disk, and without a reader."""

import contextlib
import os
import resource
import shutil
from itertools import count, islice
from types import SimpleNamespace

import pytest
from prometheus_client.mmap_dict import mmap_key
from twisted.internet.defer import succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from esxiproxy.app.admin_host import AdminHost
from esxiproxy.app.preflight import load
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.ops.metrics import files, mapped_file, merging
from esxiproxy.ops.metrics.files import prepare
from esxiproxy.ops.metrics.mapped_file import ReservedFile
from esxiproxy.ops.metrics.merge_service import MERGE_INTERVAL, MergeService
from esxiproxy.ops.metrics.merging import merge_dead
from esxiproxy.ops.metrics.metrics import OPENED, PREFIX
from tests.ops.metrics_world import disk_full, total
from tests.support import config
from tests.support.reactor import FakeReactor

_NAME = PREFIX + OPENED.name
OPENED_KEY = mmap_key(
    _NAME.removesuffix("_total"), _NAME, list(OPENED.labels), ["secure", "esxi1"], OPENED.help
)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "metrics"
    prepare(path)
    return path


def die(folder, number):
    """Leave the files of so many processes that have ended, each of which had opened a console."""
    for each in range(number):
        owner = f"{each}-{each:016x}"
        (folder / f"process_{owner}.lock").touch()
        with contextlib.closing(ReservedFile(str(folder / f"counter_{owner}.db"))) as file:
            file.write_value(OPENED_KEY, 1.0, 0.0)


@pytest.fixture
def few_descriptors():
    """Let this process open 60 files more, for one test."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = set(map(int, os.listdir("/proc/self/fd")))
    free = (number for number in count() if number not in taken)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(islice(free, 60, None)), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("few_descriptors")
def test_more_processes_may_have_ended_than_files_can_be_open(folder, monkeypatch):
    monkeypatch.setattr(mapped_file, "_FIRST_SIZE", 1 << 12)
    monkeypatch.setattr(merging, "MAX_AT_ONCE", 30)
    die(folder, 100)
    assert merge_dead(folder) == 100
    assert len(list(folder.iterdir())) <= 4
    assert total(folder, "sessions_opened_total") == 100
    assert total(folder, "sessions_closed_total", "reason") == {"WorkerLost": 100}


def test_the_default_is_far_below_the_usual_limit_of_open_files():
    assert merging.MAX_AT_ONCE <= 100


@pytest.mark.usefixtures("few_descriptors")
def test_a_merge_that_fails_keeps_no_value_from_the_reader(folder, monkeypatch):
    """The disk is full, for example."""
    monkeypatch.setattr(mapped_file, "_FIRST_SIZE", 1 << 12)
    die(folder, 3)
    monkeypatch.setattr(mapped_file.os, "posix_fallocate", disk_full)
    with capturedLogs() as events:
        assert total(folder, "sessions_opened_total") == 3
    assert "could not be merged" in formatEvent(events[0]) and "No space left" in formatEvent(events[0])
    monkeypatch.undo()
    assert merge_dead(folder) == 3 and total(folder, "sessions_opened_total") == 3


def test_the_files_are_merged_once_a_minute_without_a_reader(folder):
    clock = Clock()
    service = MergeService(folder, lambda call, *given: succeed(call(*given)), clock)
    service.startService()
    die(folder, 2)
    clock.advance(MERGE_INTERVAL)
    assert list(folder.glob("process_*.lock")) == []
    shutil.rmtree(folder)
    with capturedLogs() as events:
        clock.pump([MERGE_INTERVAL] * 3)
    (event,) = events
    assert "could not be merged" in formatEvent(event) and str(folder) in formatEvent(event)
    prepare(folder)
    die(folder, 1)
    clock.advance(MERGE_INTERVAL)
    assert list(folder.glob("process_*.lock")) == []
    service.stopService()
    assert clock.getDelayedCalls() == []


def test_the_admin_process_merges_them(folder, tmp_path, monkeypatch):
    monkeypatch.setenv(files.ENVIRONMENT, str(folder))
    path = tmp_path / "proxy.ini"
    path.write_text("[admin]\n" + config.listener() + config.upstream("wss://192.0.2.10"))
    reactor, control = FakeReactor(), SimpleNamespace(identity=ProcessIdentity())
    control.in_thread = lambda call, *given: succeed(call(*given))
    host = AdminHost(load(path), lambda _state: control, reactor, {})
    host.startService()
    die(folder, 2)
    reactor.advance(MERGE_INTERVAL)
    assert list(folder.glob("process_*.lock")) == []
    host.stopService()
