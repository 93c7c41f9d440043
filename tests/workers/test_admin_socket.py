"""The unix socket of [admin], bound by a reactor of Twisted for the master."""

import grp
import os

import pytest
from twisted.internet.selectreactor import SelectReactor
from twisted.logger import capturedLogs, formatEvent

from esxiproxy.core.config.model import ADMIN_MANHOLE, ADMIN_SOCKET
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


ROOT = grp.getgrgid(0).gr_name


@pytest.fixture
def given(monkeypatch):
    """The arguments of each call of chown, which does nothing."""
    given = []
    monkeypatch.setattr(os, "chown", lambda path, user, group: given.append((str(path), user, group)))
    return given


def mode(path):
    return path.stat().st_mode & 0o777


def test_a_group_may_open_it_that_a_reload_may_change(sockets, path, given):
    sockets.keep(sockets.bind([endpoint(path, "660")], ROOT), ROOT)
    assert given == [(str(path), -1, 0)] and mode(path) == 0o660
    inode = path.stat().st_ino
    sockets.keep(sockets.bind([endpoint(path, "660")], ROOT), ROOT)
    assert len(given) == 1
    sockets.keep(sockets.bind([endpoint(path)]), "")
    assert mode(path) == 0o600 and path.stat().st_ino == inode


def test_the_socket_of_the_manhole_has_the_same_group(sockets, path, given):
    manhole = path.with_name("manhole.sock")
    endpoints = [endpoint(path, "660"), (ADMIN_MANHOLE, f"unix:{manhole}:mode=660")]
    sockets.keep(sockets.bind(endpoints, ROOT), ROOT)
    assert given == [(str(path), -1, 0), (str(manhole), -1, 0)]
    assert mode(path) == mode(manhole) == 0o660
    bound = sockets.bind(endpoints)
    assert mode(path) == mode(manhole) == 0o600
    sockets.release_new(bound)
    assert mode(path) == mode(manhole) == 0o660


def test_a_reload_that_fails_gives_it_its_group_back(sockets, path, given):
    sockets.keep(sockets.bind([endpoint(path)]))
    bound = sockets.bind([endpoint(path, "660")], ROOT)
    assert mode(path) == 0o660
    sockets.release_new(bound, ROOT)
    assert mode(path) == 0o600 and sockets.bind([endpoint(path)])[ADMIN_SOCKET].port is not None


def test_a_group_that_a_kept_socket_cannot_have_refuses_the_reload(sockets, path):
    sockets.keep(sockets.bind([endpoint(path)]))
    with pytest.raises(
        BindError, match=r"socket_group: .* cannot be given to no.group: there is no such group"
    ):
        sockets.bind([endpoint(path, "660")], "no.group")
    assert mode(path) == 0o600 and path.is_socket()


def test_a_group_that_it_cannot_have_refuses_the_start(sockets, reactor, path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(BindError, match=rf"{path} cannot be given to {ROOT}: Operation not permitted; run"):
        sockets.bind([endpoint(path, "660")], ROOT)
    reactor.runUntilCurrent()
    assert not path.exists()
