"""The unix socket of [admin], bound by a reactor of Twisted for the master."""

import grp
import os
import socket

import pytest
from twisted.internet.selectreactor import SelectReactor
from twisted.logger import capturedLogs, formatEvent

from esxiproxy.core.config.model import ADMIN_LISTEN, ADMIN_MANHOLE, ADMIN_SOCKET
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


def endpoint(path):
    return (ADMIN_SOCKET, f"unix:{path}:mode=600")


def test_it_is_for_its_owner_alone(sockets, path):
    with capturedLogs() as lines:
        sockets.keep(sockets.bind([endpoint(path)]))
    assert path.stat().st_mode & 0o777 == 0o600
    assert f"[admin] socket listening on unix:{path}" in [formatEvent(line) for line in lines]


OTHER_ID = next(each.gr_gid for each in grp.getgrall() if each.gr_gid not in (0, os.getgid()))
OTHER = grp.getgrgid(OTHER_ID).gr_name


def mode(path):
    return path.stat().st_mode & 0o777


def test_a_group_may_open_it_that_a_reload_may_change(sockets, path, chowns):
    sockets.keep(sockets.bind([endpoint(path)], OTHER))
    assert chowns == [(str(path), -1, OTHER_ID)] and mode(path) == 0o660
    inode = path.stat().st_ino
    sockets.keep(sockets.bind([endpoint(path)]))
    assert mode(path) == 0o600 and path.stat().st_ino == inode


def test_the_socket_of_the_manhole_has_the_same_group(sockets, path, chowns):
    manhole = path.with_name("manhole.sock")
    endpoints = [endpoint(path), (ADMIN_MANHOLE, f"unix:{manhole}:mode=600")]
    sockets.keep(sockets.bind(endpoints, OTHER))
    assert chowns == [(str(path), -1, OTHER_ID), (str(manhole), -1, OTHER_ID)]
    assert mode(path) == mode(manhole) == 0o660
    bound = sockets.bind(endpoints)
    assert mode(path) == mode(manhole) == 0o600
    sockets.release_new(bound)
    assert mode(path) == mode(manhole) == 0o660


def test_a_socket_that_has_its_group_is_not_changed(sockets, path, monkeypatch):
    """A master that has given up root may not change it."""
    own = grp.getgrgid(os.getgid()).gr_name
    sockets.keep(sockets.bind([endpoint(path)], own))
    assert mode(path) == 0o660
    for name in ("chown", "chmod"):
        monkeypatch.setattr(os, name, lambda *arguments: pytest.fail(f"it is changed: {arguments}"))
    sockets.keep(sockets.bind([endpoint(path)], own))


def test_a_reload_that_fails_gives_it_its_group_back(sockets, path, chowns):
    sockets.keep(sockets.bind([endpoint(path)]))
    bound = sockets.bind([endpoint(path)], OTHER)
    assert mode(path) == 0o660
    sockets.release_new(bound)
    assert mode(path) == 0o600 and sockets.bind([endpoint(path)])[ADMIN_SOCKET].port is not None


@pytest.fixture
def busy():
    """Return an endpoint whose port is in use."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"


def test_an_address_that_is_in_use_opens_it_to_no_group(sockets, path, chowns, busy):
    sockets.keep(sockets.bind([endpoint(path)]))
    with pytest.raises(BindError, match=r"\[admin\] listen: .*in use"):
        sockets.bind([endpoint(path), (ADMIN_LISTEN, busy)], OTHER)
    assert chowns == [] and mode(path) == 0o600


def test_a_good_reload_closes_one_that_is_open_to_a_group(sockets, path):
    sockets.keep(sockets.bind([endpoint(path)]))
    path.chmod(0o660)
    sockets.keep(sockets.bind([endpoint(path)]))
    assert mode(path) == 0o600


def test_no_group_may_open_the_socket_while_its_group_changes(sockets, path, monkeypatch):
    own, modes = grp.getgrgid(os.getgid()).gr_name, []
    sockets.keep(sockets.bind([endpoint(path)], own))
    monkeypatch.setattr(os, "chown", lambda *_: modes.append(mode(path)))
    sockets.bind([endpoint(path)], OTHER)
    assert modes == [0o600] and mode(path) == 0o660


def test_a_group_that_a_kept_socket_cannot_have_refuses_the_reload(sockets, path):
    sockets.keep(sockets.bind([endpoint(path)]))
    with pytest.raises(
        BindError, match=r"socket_group: .* cannot be given to no.group: there is no such group"
    ):
        sockets.bind([endpoint(path)], "no.group")
    assert mode(path) == 0o600 and path.is_socket()


def test_a_group_that_it_cannot_have_refuses_the_start(sockets, reactor, path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(BindError, match=rf"{path} cannot be given to {OTHER}: Operation not permitted; run"):
        sockets.bind([endpoint(path)], OTHER)
    reactor.runUntilCurrent()
    assert not path.exists()


def test_one_whose_file_was_removed_is_bound_again(sockets, reactor, path):
    first = sockets.bind([endpoint(path)])
    sockets.keep(first)
    path.unlink()
    second = sockets.bind([endpoint(path)])
    assert second[ADMIN_SOCKET] is not first[ADMIN_SOCKET] and mode(path) == 0o600
    sockets.keep(second)
    sockets.release_others()
    reactor.runUntilCurrent()
    assert path.is_socket() and sockets.bind([endpoint(path)]) == second
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_reload_that_fails_after_the_file_was_removed_changes_nothing(sockets, reactor, path):
    first = sockets.bind([endpoint(path)])
    sockets.keep(first)
    path.unlink()
    sockets.release_new(sockets.bind([endpoint(path)]))
    reactor.runUntilCurrent()
    assert not path.exists() and first[ADMIN_SOCKET].port is not None
    sockets.keep(sockets.bind([endpoint(path)]))
    assert path.is_socket()


def test_a_file_in_its_place_refuses_the_reload(sockets, path):
    sockets.keep(sockets.bind([endpoint(path)]))
    path.unlink()
    path.write_text("precious")
    with pytest.raises(BindError, match="exists and is not a socket: remove it"):
        sockets.bind([endpoint(path)])
    assert path.read_text() == "precious"
