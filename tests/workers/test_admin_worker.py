"""The admin process that is started again, whose sockets have to be those of the master."""

import os
import socket
from types import SimpleNamespace

import pytest

from esxiproxy.app.preflight import load
from esxiproxy.core.config import admin as admin_section
from esxiproxy.core.startup import StartupError
from esxiproxy.workers.admin.admin_worker import AdminWorker
from esxiproxy.workers.plan import plan_of
from esxiproxy.workers.shared.admin_messages import AdminConfig
from esxiproxy.workers.shared.messages import Launch
from tests.support.config import ini, listener, upstream
from tests.support.reactor import FakeReactor

REST = ini(listener(listen=":80"), upstream("ws://192.0.2.1"))


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """Return the folder of the default socket, which does not exist yet."""
    monkeypatch.setattr(admin_section, "RUNTIME_FOLDER", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def start(tmp_path, run_folder):
    """Start the admin process for a section [admin] after a change of the system or of the installed code."""

    def start(section, change):
        path = tmp_path / "proxy.ini"
        path.write_text(section + REST)
        launch = Launch(str(path), str(tmp_path / "state.sqlite"), "run 1", 1.0, 0, {})
        plan = plan_of(load(path))
        descriptors = {name: socket.socket().detach() for name, _ in plan.admin_endpoints}
        given, inherited = AdminConfig.of(plan, launch, descriptors)
        for name, number in given.sockets.items():
            given.sockets[name] = inherited[number]
        given = change(given) or given
        reports = SimpleNamespace(send=lambda *_: None)
        try:
            worker = AdminWorker(given, load(path), FakeReactor(), reports, lambda: None)
        except StartupError:
            for number in descriptors.values():
                os.close(number)
            raise
        worker._close_sockets()
        return worker

    return start


def test_a_run_folder_that_appears_does_not_prevent_its_restart(start, run_folder):
    assert start("[admin]\n", lambda _: run_folder.mkdir()).running == 0


def test_a_run_folder_that_vanishes_does_not_prevent_its_restart(start, run_folder):
    run_folder.mkdir()
    assert start("[admin]\nprobe_listen = 127.0.0.1:9000\n", lambda _: run_folder.rmdir()).running == 0


@pytest.mark.parametrize(
    "section", ["[admin]\nsocket = a.sock\n", "[admin]\nprobe_listen = 127.0.0.1:9000\n"]
)
def test_other_sockets_than_those_of_the_master_are_an_error(start, section):
    def change(given):
        endpoint = given.endpoints[-1][1]
        return AdminConfig.read(
            given.line().replace(
                endpoint.encode(), endpoint.replace("9000", "9001").replace("a.", "b.").encode()
            )
        )

    with pytest.raises(StartupError, match="are not those of the master"):
        start(section, change)


def test_a_socket_that_the_master_lacks_is_an_error(start):
    def change(given):
        line = given.line().replace(b'[" admin probe_listen", ', b'[" admin listen", ')
        return AdminConfig.read(line)

    with pytest.raises(StartupError, match="are not those of the master"):
        start("[admin]\nprobe_listen = 127.0.0.1:9000\n", change)
