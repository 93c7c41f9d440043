"""Tests that an upstream's TLS alert after the handshake is reported by name, for consoles and HTTP."""

from __future__ import annotations

import socket

import pytest
from OpenSSL import SSL

from esxiproxy.core.http.policy import Http, ListenerPolicy
from esxiproxy.core.routing import Upstream, Verify
from esxiproxy.proxy import Proxy
from esxiproxy.routers.static import StaticRouter
from tests.net.http_scene import get
from tests.net.scene import RefusalRecorder, opening
from tests.net.transport.loop import Peer, in_thread


@pytest.mark.parametrize("request_head", [get(b"/ui/"), opening()], ids=["http", "console"])
@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION], ids=["1.2", "1.3"])
def test_a_host_that_wants_a_certificate(secure, request_head, version):
    secure.server.context.set_max_proto_version(version)
    secure.server.context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
    host = secure.listen(Peer(), Peer()).getHost()
    seen = RefusalRecorder()
    proxy = Proxy(secure.reactor, [seen])
    router = StaticRouter(Upstream("esxi1", "127.0.0.1", host.port, True, Verify.NONE))
    factory = proxy.listener("one", router, policy=ListenerPolicy(http=Http.FORWARD))
    port = secure.reactor.listenTCP(0, factory, interface="127.0.0.1")
    secure._open.append(port)

    def ask():
        with socket.create_connection(("127.0.0.1", port.getHost().port), timeout=20) as sock:
            sock.sendall(request_head)
            return sock.recv(12)

    assert in_thread(secure, ask) == b"HTTP/1.1 502"
    secure.until(lambda: seen.records)
    (record,) = seen.records
    assert (record.error, record.ended_by) == ("UpstreamInvalid", "upstream")
    wants = "requires a client certificate" if version == SSL.TLS1_3_VERSION else "client certificate"
    assert wants in record.detail
