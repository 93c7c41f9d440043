"""The addresses of the admin service in a process without a master, bound by a real reactor."""

import grp
import os
import socket
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.selectreactor import SelectReactor

from esxiproxy.admin.service import AdminService
from esxiproxy.core.config.model import ADMIN_SOCKET, Admin, AdminAddress
from esxiproxy.core.startup import BindError
from esxiproxy.net.transport.reactor import with_fast_transports

OTHER = next(each.gr_name for each in grp.getgrall() if each.gr_gid not in (0, os.getgid()))


@pytest.fixture
def reactor():
    return with_fast_transports(SelectReactor())


@pytest.fixture
def service(reactor):
    service = AdminService(reactor, SimpleNamespace(services=()))
    yield service
    Deferred.fromCoroutine(service.close_others({}))
    reactor.runUntilCurrent()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "admin.sock"


@pytest.fixture
def reload(service, reactor):
    """Bind the addresses of a configuration, and undo it when what follows fails."""

    async def run(admin, follow):
        async with AsyncExitStack() as undo:
            bound = service.bind(admin, undo)
            follow()
            undo.pop_all()
        await service.close_others(bound)
        return bound

    def reload(admin, follow=lambda: None):
        found, failed = [], []
        Deferred.fromCoroutine(run(admin, follow)).addCallbacks(found.append, failed.append)
        reactor.runUntilCurrent()
        for failure in failed:
            failure.raiseException()
        return found[0]

    return reload


def fail():
    raise BindError("the manhole's port is in use")


def mode(path):
    return path.stat().st_mode & 0o777


def test_a_reload_that_is_refused_afterwards_opens_the_socket_to_no_group(reload, path, chowns):
    reload(Admin(path))
    with pytest.raises(BindError, match="the manhole's port"):
        reload(Admin(path, OTHER), fail)
    assert mode(path) == 0o600 and len(chowns) == 1


def test_an_address_that_is_in_use_opens_it_to_no_group(reload, path, chowns):
    reload(Admin(path))
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = AdminAddress(f"tcp:{other.getsockname()[1]}:interface=127.0.0.1", "")
        with pytest.raises(BindError, match="in use"):
            reload(Admin(path, OTHER, busy))
    assert chowns == [] and mode(path) == 0o600


def test_a_good_reload_without_a_group_closes_it_to_groups(reload, path):
    reload(Admin(path))
    path.chmod(0o660)
    kept = reload(Admin(path))[ADMIN_SOCKET]
    assert mode(path) == 0o600 and kept.binding.port is not None


def test_a_reload_may_change_the_group_of_the_socket(reload, path, chowns):
    first = reload(Admin(path))
    assert mode(path) == 0o600
    second = reload(Admin(path, OTHER))
    assert mode(path) == 0o660 and len(chowns) == 1
    third = reload(Admin(path))
    assert mode(path) == 0o600 and first[ADMIN_SOCKET] is second[ADMIN_SOCKET] is third[ADMIN_SOCKET]


def test_a_socket_whose_file_was_removed_is_bound_again(reload, path, reactor):
    first = reload(Admin(path))
    path.unlink()
    second = reload(Admin(path))
    reactor.runUntilCurrent()
    assert second[ADMIN_SOCKET] is not first[ADMIN_SOCKET] and path.is_socket() and mode(path) == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    assert reload(Admin(path))[ADMIN_SOCKET] is second[ADMIN_SOCKET]
