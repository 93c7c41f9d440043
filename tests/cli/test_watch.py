"""``esxiproxy watch``: files are real, and so are the command and the proxy in the last test."""

import signal
import subprocess
import sys

import pytest

from esxiproxy.cli.watch import signature, watch
from tests.support import config
from tests.support.programs import ROOT, Proxy, environment, until

MAIN = """
import sys
from esxiproxy.cli import main, watch
watch._INTERVAL = 0.2
sys.exit(main.main())
"""


class Steps:
    """A stand-in for the time between two checks.

    Each step changes files, and the last one ends the watch.
    """

    def __init__(self, *steps):
        self._steps = iter(steps)
        self.answers = iter(())
        self.looks = 0
        self.reloads = []

    def wait(self, seconds):
        assert seconds > 0
        step = next(self._steps, None)
        if step is None:
            return True
        step()
        self.looks += 1
        return False

    def reload(self):
        self.reloads.append(self.looks)
        return next(self.answers, True)


def nothing():
    pass


@pytest.fixture
def volume(tmp_path):
    """Create a volume as the kubelet writes it: files are links into a folder that is replaced as a whole."""

    def write(version, text):
        folder = tmp_path / f"..{version}"
        folder.mkdir()
        (folder / "proxy.ini").write_text(text)
        (tmp_path / "..new").symlink_to(folder.name)
        (tmp_path / "..new").rename(tmp_path / "..data")

    write("1", "a")
    (tmp_path / "proxy.ini").symlink_to("..data/proxy.ini")
    return tmp_path, write


def test_a_replaced_volume_is_reloaded_once_when_it_is_stable(volume):
    folder, write = volume
    steps = Steps(nothing, nothing, lambda: write("2", "a"), nothing, nothing, nothing)
    watch([folder], signature([folder]), steps.reload, steps.wait)
    assert steps.reloads == [4]


def test_files_that_still_change_are_waited_for(tmp_path):
    file = tmp_path / "proxy.ini"
    file.write_text("a")
    steps = Steps(
        *(lambda text=text: file.write_text(text) for text in ("ab", "abc", "abcd")), nothing, nothing
    )
    watch([file], signature([file]), steps.reload, steps.wait)
    assert steps.reloads == [4]


def test_a_proxy_that_cannot_be_reached_is_asked_again(volume):
    folder, write = volume
    steps = Steps(lambda: write("2", "b"), nothing, nothing, nothing, nothing)
    steps.answers = iter([False, False, True])
    watch([folder], signature([folder]), steps.reload, steps.wait)
    assert steps.reloads == [2, 3, 4]


def test_a_change_that_is_taken_back_is_none(volume):
    folder, _write = volume
    steps = Steps((folder / "new.csv").touch, (folder / "new.csv").unlink, nothing, nothing)
    watch([folder], signature([folder]), steps.reload, steps.wait)
    assert steps.reloads == []


def test_missing_files_are_no_error(tmp_path):
    assert signature([tmp_path / "none"]) == frozenset()
    (tmp_path / "broken").symlink_to("nowhere")
    assert signature([tmp_path]) == frozenset()


def test_the_running_proxy_reloads(tmp_path):
    text = config.listener() + config.upstream(1) + f"[admin]\nsocket = {tmp_path}/admin.sock\n"
    with Proxy(text) as proxy:
        file = proxy.folder / "proxy.ini"
        assert file.exists()
        command = [
            sys.executable,
            "-c",
            MAIN,
            "watch",
            "--socket",
            f"{tmp_path}/admin.sock",
            file,
        ]
        with subprocess.Popen(
            command,
            stdout=(tmp_path / "out").open("w"),
            stderr=subprocess.STDOUT,
            env=environment(PYTHONPATH=str(ROOT)),
        ) as running:
            printed = tmp_path / "out"
            try:
                until(lambda: "1 file at the start" in printed.read_text(), "the command watches")
                file.write_text(text + "colour = blue\n")
                until(lambda: "colour" in printed.read_text(), "the error is printed")
                assert "have reloaded" not in printed.read_text()
                file.write_text(text.replace("[listener one]", "[listener two]"))
                until(lambda: "the proxy has reloaded them" in printed.read_text(), "the proxy reloads")
                until(lambda: "is in force" in proxy.log(), "the log says so")
            finally:
                running.send_signal(signal.SIGTERM)
            assert running.wait(30) == 0, printed.read_text()
