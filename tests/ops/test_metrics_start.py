"""Processes that start, store the values of plugins, or have a full disk for their metrics."""

import fcntl
import os
import signal

import pytest
from prometheus_client import metrics, values
from prometheus_client.mmap_dict import MmapedDict
from twisted.logger import capturedLogs, formatEvent

from esxiproxy.ops.metrics import files, mapped_file
from esxiproxy.ops.metrics.files import Index, prepare
from esxiproxy.ops.metrics.mapped_file import ReservedFile
from esxiproxy.ops.metrics.merging import merge_dead
from tests.ops.metrics_world import COUNTING, disk_full, ended, kill, run, samples, total


@pytest.fixture
def starting(folder, monkeypatch):
    """Let this process store its metrics in the folder for one test."""
    for module, name in ((values, "ValueClass"), (values, "MmapedDict"), (metrics, "_use_created")):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setenv(files.ENVIRONMENT, str(folder))
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    yield
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)


@pytest.mark.usefixtures("starting")
def test_a_process_that_starts_during_a_merge_gets_another_name(folder, monkeypatch):
    """The lock was free for a moment, so the merge took its process for an ended one."""
    real, tried = fcntl.flock, []

    def flock(descriptor, how):
        if not how & fcntl.LOCK_NB:  # the process that starts: a merge comes first
            tried.append(descriptor)
            if len(tried) == 1:
                assert merge_dead(folder) == 1
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    files.process_metrics()
    assert len(tried) == 2
    (lock,) = folder.glob("process_*.lock")
    assert files.owner_of(lock) not in Index.of(folder).contained
    os.close(tried[1])


def counted_in_memory(log, error):
    """Start to count in this process; check that it does so in memory, and that the log says why."""
    with capturedLogs() as events:
        found = files.process_metrics()
    (event,) = events
    text = formatEvent(event)
    assert error in text and "counted in memory" in text and str(log) in text
    found.opened("secure", "esxi1").inc()
    assert samples(found)["sessions_opened_total{listener=secure,upstream=esxi1}"] == 1


@pytest.mark.usefixtures("starting")
def test_a_process_without_the_folder_counts_in_memory(folder):
    folder.rmdir()
    limit = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("the start does not end"))
    signal.alarm(20)
    try:
        counted_in_memory(folder, "No such file")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, limit)


@pytest.mark.usefixtures("starting")
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_process_that_starts_on_a_full_disk_counts_in_memory(folder, monkeypatch, at):
    """The disk may become full after some of the files of the process are reserved."""
    real, reserved = os.posix_fallocate, []

    def posix_fallocate(*arguments):
        reserved.append(arguments)
        if len(reserved) > at:
            disk_full()
        real(*arguments)

    monkeypatch.setattr(mapped_file.os, "posix_fallocate", posix_fallocate)
    monkeypatch.setattr(mapped_file, "_FIRST_SIZE", 1 << 12)
    counted_in_memory(folder, "No space left")
    assert set(samples(folder).values()) <= {0.0}, "it stores nothing there"


@pytest.mark.usefixtures("starting")
def test_the_variable_of_the_library_is_not_that_of_the_proxy(folder, monkeypatch):
    monkeypatch.delenv(files.ENVIRONMENT)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    monkeypatch.setattr(values, "ValueClass", values.MultiProcessValue())
    found = files.process_metrics()
    found.opened("secure", "esxi1").inc()
    assert samples(found)["sessions_opened_total{listener=secure,upstream=esxi1}"] == 1
    assert list(folder.iterdir()) == []


def test_a_file_that_is_just_being_created_disturbs_no_reader(folder, start):
    start(2, 1)
    (folder / "counter_1-0000000000000000.db").touch()
    assert total(folder, "sessions_opened_total") == 2


def test_the_folder_is_emptied_and_private(folder, start):
    kill(start(2, 1))
    prepare(folder)
    assert list(folder.iterdir()) == [] and folder.stat().st_mode & 0o777 == 0o700
    assert samples(folder) == {}


# Values of plugins


def test_gauges_of_plugins_keep_their_meaning(folder):
    program = (
        COUNTING
        + "from prometheus_client import Gauge\n"
        + "for mode in ('max', 'min', 'sum', 'mostrecent', 'all', 'livemax'):\n"
        + "    Gauge(f'plugin_{mode}', 'A value.', multiprocess_mode=mode).set(float(VALUE))"
    )
    for value in (5, 3):
        assert ended(run(folder, program.replace("VALUE", str(value)))) == 0
    found = {name: value for name, value in samples(folder).items() if name.startswith("plugin")}
    assert found["plugin_max"] == 5 and found["plugin_min"] == 3 and found["plugin_sum"] == 8
    assert set(found) == {"plugin_max", "plugin_min", "plugin_sum", "plugin_mostrecent"}


# A full disk


def blocks(path):
    return path.stat().st_blocks * 512


def test_the_blocks_of_a_file_are_reserved_before_they_are_mapped(tmp_path):
    path = tmp_path / "counter_1.db"
    file = ReservedFile(str(path))
    assert blocks(path) >= path.stat().st_size == 1 << 16
    for number in range(2000):
        file.write_value(f"{number}" + "x" * 100, number, 0.0)
    file.close()
    assert blocks(path) >= path.stat().st_size > 1 << 17
    stored = {key: value for key, value, *_ in MmapedDict.read_all_values_from_file(str(path))}
    assert len(stored) == 2000 and stored["1999" + "x" * 100] == 1999


def test_a_full_disk_is_an_error_and_spoils_no_value(tmp_path, monkeypatch):
    path = tmp_path / "counter_1.db"
    file = ReservedFile(str(path))
    file.write_value("known", 1.0, 0.0)

    monkeypatch.setattr(mapped_file.os, "posix_fallocate", disk_full)
    with pytest.raises(OSError, match="No space left"):
        file.write_value("x" * (1 << 17), 1.0, 0.0)
    file.write_value("known", 2.0, 0.0)
    file.write_value("fits", 3.0, 0.0)
    file.close()
    stored = {key: value for key, value, *_ in MmapedDict.read_all_values_from_file(str(path))}
    assert stored == {"known": 2.0, "fits": 3.0}
