"""A reload reads the file of a running service, and logs what is wrong with it."""

from types import SimpleNamespace

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from esxiproxy.app.reload import Reload
from esxiproxy.core.reload_outcome import ReloadOutcome
from esxiproxy.core.startup import BindError
from tests.support import config

GOOD = config.listener("a") + config.upstream("ws://192.0.2.1")


class Reloaded:
    """A fake service that records its calls."""

    def __init__(self):
        self.told, self.answer = [], succeed(None)
        self.systemd = SimpleNamespace(
            reloading=lambda: self.told.append("reloading"), ready=lambda: self.told.append("ready")
        )

    def reload(self, config):
        self.told.append([listener.name for listener in config.listeners])
        return self.answer


class Threadless:
    """A fake reactor whose threads run each call at once."""

    def getThreadPool(self):
        return self

    def callInThreadWithCallback(self, over, call, *arguments):
        try:
            over(True, call(*arguments))
        except Exception:
            over(False, Failure())

    def callFromThread(self, call, *arguments):
        call(*arguments)


class Scene:
    def __init__(self, folder):
        self.path, self.service, self.lines = folder / "proxy.ini", Reloaded(), []
        self.path.write_text(GOOD)
        self.reload = Reload(self.path, self.service, Threadless())
        self.reload._log = SimpleNamespace(
            info=self.line,
            error=self.line,
            failure=lambda text, **given: self.line(f"FAILURE {text}", **given),
        )

    def line(self, text, **given):
        self.lines.append(text.format(**given))


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def test_a_good_file_is_handed_over_between_reloading_and_ready(scene):
    scene.reload()
    assert scene.service.told == ["reloading", ["a"], "ready"]
    assert scene.lines == [f"reload: {scene.path} is in force"]


def test_each_problem_of_a_bad_file_is_logged_and_nothing_is_reloaded(scene):
    scene.path.write_text(GOOD + "colour = blue\n[nonsense x]\n")
    scene.reload()
    assert scene.service.told == ["reloading", "ready"]
    places = [line.partition("]")[0] for line in scene.lines]
    assert places == [
        f"{scene.path}:8: [upstream esxi1",
        f"{scene.path}:9: [nonsense x",
        "reload: the file has problems; everything stays as it was",
    ]


def test_a_file_that_is_gone_is_a_problem_like_any_other(scene):
    scene.path.unlink()
    scene.reload()
    assert scene.lines[0] == f"{scene.path}:1: no such file" and scene.service.told == ["reloading", "ready"]


def test_a_failed_reload_is_logged_in_one_line(scene):
    scene.service.answer = fail(BindError("listener a: Address already in use"))
    scene.reload()
    assert scene.lines == ["reload: listener a: Address already in use; everything stays as it was"]
    assert scene.service.told[-1] == "ready"


def test_a_bug_in_a_plugin_is_logged_with_its_traceback(scene):
    scene.service.answer = fail(RuntimeError("bug"))
    assert scene.reload().called
    assert scene.lines[0].startswith("FAILURE ") and scene.lines[1].endswith("everything stays as it was")


def test_the_second_one_reads_the_file_when_the_first_one_is_done(scene):
    scene.service.answer = first = Deferred()
    scene.reload(), scene.reload()
    scene.path.write_text(GOOD.replace("listener a", "listener b"))
    scene.service.answer = succeed(None)
    assert scene.service.told == ["reloading", ["a"]]
    first.callback(None)
    assert scene.service.told[2:] == ["ready", "reloading", ["b"], "ready"]


def test_a_warning_beside_a_problem_is_logged_as_a_warning(scene):
    warned = []
    scene.reload._log.warn = lambda text, **given: warned.append(text.format(**given))
    scene.path.write_text(GOOD.replace("\n\n", "\nproxy_protocol = yes\ncolour = blue\n\n", 1))
    scene.reload()
    assert [line.partition("]")[0] for line in warned] == [f"{scene.path}:4: warning: [listener a"]
    assert scene.lines[0].startswith(f"{scene.path}:5: [listener a] colour: ")


def test_the_caller_gets_the_outcome(scene):
    assert scene.reload().result == ReloadOutcome(True)
    scene.service.answer = fail(BindError("listener a: Address already in use."))
    assert scene.reload().result == ReloadOutcome(False, ("listener a: Address already in use",))
    scene.service.answer = fail(RuntimeError("bug"))
    assert scene.reload().result == ReloadOutcome(False, ("an internal error",))


def test_the_caller_gets_the_problems_of_the_file_as_they_stand_in_the_log(scene):
    scene.path.write_text(GOOD + "colour = blue\n[nonsense x]\n")
    outcome = scene.reload().result
    assert not outcome.reloaded and outcome.problems == tuple(scene.lines[:-1]) and len(outcome.problems) == 2


def test_two_callers_at_once_get_an_outcome_each(scene):
    scene.service.answer = first = Deferred()
    one, two = scene.reload(), scene.reload()
    scene.service.answer = succeed(None)
    first.errback(BindError("no"))
    assert (one.result, two.result) == (ReloadOutcome(False, ("no",)), ReloadOutcome(True))
