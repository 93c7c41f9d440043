"""The threads and the watched files of one plugin."""

import os
import threading

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from esxiproxy.app.file_watch import FileWatch, look
from esxiproxy.app.plugin_threads import MAX_WAITING, THREADS, PluginThreads
from esxiproxy.core.errors import LimitReached
from tests.support.reactor import FakeReactor


def test_a_call_gives_its_result_or_its_error():
    world = FakeReactor(runs_calls=False)
    threads = PluginThreads("router fleet", world)
    results = []
    threads.call(lambda a, b: a + b, 1, b=2).addCallback(results.append)
    threads.call(lambda: 1 / 0).addErrback(lambda failure: results.append(failure.type))
    world.run_until(lambda: len(results) == 2)
    assert sorted(results, key=str) == [3, ZeroDivisionError]
    threads.stopService()


def test_two_run_and_64_wait_and_a_cancelled_one_counts_until_it_ends():
    world = FakeReactor(runs_calls=False)
    threads = PluginThreads("router fleet", world)
    gate, results = threading.Event(), []
    calls = [threads.call(gate.wait, 10) for _ in range(THREADS + MAX_WAITING)]
    for call in calls:
        call.addBoth(results.append)
    refused = []
    threads.call(int).addErrback(refused.append)
    assert refused[0].check(LimitReached) and "[router fleet] has 64 calls" in str(refused[0].value)
    calls[0].cancel()
    assert results[0].check(CancelledError)
    threads.call(int).addErrback(refused.append)
    assert len(refused) == 2, "the thread still runs it"
    gate.set()
    world.run_until(lambda: len(results) == len(calls) and not threads._calls)
    threads.call(int).addCallback(results.append)
    world.run_until(lambda: results[-1] == 0)
    threads.stopService()


@pytest.fixture
def watch(monkeypatch):
    """Return a watch that checks at once."""
    from twisted.internet.defer import execute

    monkeypatch.setattr(
        "esxiproxy.app.file_watch.deferToThreadPool", lambda _reactor, _pool, call: execute(call)
    )
    clock = Clock()
    clock.getThreadPool = lambda: None
    watched = FileWatch("router fleet", clock)
    watched.startService()
    yield watched, clock
    watched.stopService()
    assert not clock.getDelayedCalls()


def test_a_change_of_a_file_is_seen_within_a_second(watch, tmp_path):
    watched, clock = watch
    path, changes = tmp_path / "hosts.csv", []
    watched.watch(path, lambda: changes.append(path.exists()))
    clock.advance(1)
    path.write_text("a")
    clock.advance(1)
    clock.advance(1)
    path.write_text("ab")
    clock.advance(1)
    path.unlink()
    clock.advance(1)
    assert changes == [True, True, False]


def test_a_change_in_a_folder_is_seen_also_beside_a_broken_link(watch, tmp_path):
    watched, clock = watch
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    changes = []
    watched.watch(tmp_path, lambda: changes.append(1))
    (tmp_path / "key.pem").write_text("a")
    clock.advance(1)
    os.utime(tmp_path / "key.pem", ns=(1, 1))
    clock.advance(1)
    assert changes == [1, 1]
    assert [name for name, *_ in look(tmp_path)] == ["broken", "key.pem"]


def test_a_function_that_raises_is_called_again_after_the_next_change(watch, tmp_path):
    watched, clock = watch
    path, calls = tmp_path / "file", []

    def changed():
        calls.append(1)
        raise RuntimeError("a bug")

    watched.watch(path, changed)
    for text in ("a", "bb"):
        path.write_text(text)
        clock.advance(1)
    assert calls == [1, 1]


def test_a_plugin_that_has_stopped_starts_no_threads():
    world = FakeReactor(runs_calls=False)
    threads = PluginThreads("router fleet", world)
    threads.stopService()
    failed = []
    threads.call(int).addErrback(failed.append)
    assert failed[0].check(CancelledError) and threads.is_unused
