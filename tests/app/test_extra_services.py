"""The extra services of a process without a master, with sockets that a real reactor binds."""

import socket
from contextlib import AsyncExitStack
from types import SimpleNamespace

from twisted.internet.defer import Deferred
from twisted.internet.selectreactor import SelectReactor

from esxiproxy.app.extra_services import ExtraServices
from esxiproxy.app.manhole import ManholeSocket
from esxiproxy.net.transport.reactor import with_fast_transports
from esxiproxy.ops.manhole.unix_socket import ShellSockets, UnixShellService


def test_a_manhole_whose_unix_socket_was_removed_is_bound_again(tmp_path):
    reactor, path, config = with_fast_transports(SelectReactor()), tmp_path / "hole.sock", SimpleNamespace()
    config.access_log, config.services, made = None, (), []
    value = ManholeSocket(f"unix:{path}:mode=600", "", None)

    def make():
        service = UnixShellService(value.endpoint, ShellSockets(None, reactor), reactor)
        made.append(service)
        return service

    manhole = SimpleNamespace(wanted=lambda config: [("manhole_socket", value, make)])
    services = ExtraServices(reactor, manhole)
    services.create(config)
    services.privilegedStartService()
    services.startService()

    async def reload():
        await services.commit(await services.start(config, AsyncExitStack()))

    def settle(done):
        while not done.called:
            reactor.runUntilCurrent()
            reactor.doIteration(0)
        assert done.result is None or isinstance(done.result, list)

    settle(Deferred.fromCoroutine(reload()))
    assert len(made) == 1
    path.unlink()
    settle(Deferred.fromCoroutine(reload()))
    assert len(made) == 2 and [slot.service for slot in services] == [made[1]]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    settle(Deferred.fromCoroutine(reload()))
    assert len(made) == 2
    settle(services.stopService())
    assert not path.exists()
