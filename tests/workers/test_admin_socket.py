"""The unix socket of [admin], bound by a reactor of Twisted for the master."""

import grp
import os

import pytest
from twisted.internet.selectreactor import SelectReactor
from twisted.logger import capturedLogs, formatEvent

from esxiproxy.core.config.model import ADMIN_SOCKET
from esxiproxy.core.startup import BindError
from esxiproxy.workers.master.sockets import Sockets


@pytest.fixture
def reactor():
    return SelectReactor()


@pytest.fixture
def sockets(reactor):
    sockets = Sockets(reactor)
    yield sockets
    sockets.release_all()
    reactor.runUntilCurrent()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "admin.sock"


def endpoint(path, mode="600"):
    return (ADMIN_SOCKET, f"unix:{path}:mode={mode}")


def test_it_is_for_its_owner_alone(sockets, path):
    with capturedLogs() as lines:
        sockets.keep(sockets.bind([endpoint(path)]))
    assert path.stat().st_mode & 0o777 == 0o600
    assert f"[admin] socket listening on unix:{path}" in [formatEvent(line) for line in lines]


def test_a_group_may_open_it_that_a_reload_may_change(sockets, path, monkeypatch):
    given = []
    monkeypatch.setattr(os, "chown", lambda where, user, group: given.append((str(where), user, group)))
    root = grp.getgrgid(0).gr_name
    sockets.keep(sockets.bind([endpoint(path, "660")], root), root)
    assert given == [(str(path), -1, 0)] and path.stat().st_mode & 0o777 == 0o660
    inode = path.stat().st_ino
    sockets.keep(sockets.bind([endpoint(path, "660")], root), root)
    assert len(given) == 1
    sockets.keep(sockets.bind([endpoint(path)]), "")
    assert path.stat().st_mode & 0o777 == 0o600 and path.stat().st_ino == inode


def test_a_group_that_it_cannot_have_refuses_the_start(sockets, reactor, path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    root = grp.getgrgid(0).gr_name
    with pytest.raises(BindError, match=rf"{path} cannot be given to {root}: Operation not permitted; run"):
        sockets.bind([endpoint(path, "660")], root)
    reactor.runUntilCurrent()
    assert not path.exists()
