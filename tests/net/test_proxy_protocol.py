"""The PROXY protocol: received by a listener, and sent to an upstream."""

from functools import partial
from ipaddress import ip_network

import pytest
from twisted.internet.address import IPv6Address
from twisted.logger import capturedLogs

from esxiproxy.core.http.forwarded import TrustedProxies
from esxiproxy.core.http.policy import Http, ListenerPolicy
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.proxy_protocol import SIGNATURE, ProxyVersion, encode_proxy_header
from esxiproxy.core.routing import Upstream
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.net.listener.proxy_protocol import ProxyProtocolFactory
from tests.net.http_scene import OK, HttpScene, get, read
from tests.net.memory import MemoryTransport, Wire
from tests.net.scene import UPSTREAM, frame, opening, up

HEADER = b"PROXY TCP4 192.0.2.99 203.0.113.1 5555 443\r\n"


def behind(trust=None, connection_limits=None, upstream=UPSTREAM, **limits):
    scene = HttpScene(upstream, **limits)
    factory = ProxyProtocolFactory(
        scene.factory,
        scene.clock,
        scene.factory.limits.head_timeout,
        trust,
        partial(scene.admission.take_handshake_slot, "test", connection_limits or ConnectionLimits()),
    )
    scene.client = Wire(factory.buildProtocol(None))
    scene.clock.calls[:1] = []  # the deadline of the scene's own connection
    return scene


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize("version", ProxyVersion)
def test_the_header_names_the_client(version, chunk):
    scene = behind()
    header = encode_proxy_header(version, PeerAddress("192.0.2.99", 5555), PeerAddress("203.0.113.1", 443))
    sent = read(scene.ask(header + get(), chunk))
    assert sent.values(b"X-Forwarded-For") == [b"192.0.2.99"]
    assert read(scene.answer(OK)).body == b"ok"
    assert scene.record.client == PeerAddress("192.0.2.99", 5555)
    scene.client.close()
    scene.advance(10)
    assert scene.at_rest()


def test_a_header_without_addresses_leaves_the_connections_own():
    scene = behind()
    assert read(scene.ask(b"PROXY UNKNOWN\r\n" + get())).values(b"X-Forwarded-For") == [b"198.51.100.7"]


def test_a_mapped_client_is_an_ipv4_client_everywhere():
    upstream = Upstream("u", "192.0.2.10", 80, secure=False, send_proxy_protocol=ProxyVersion.V1)
    header = b"PROXY TCP6 ::ffff:c000:263 ::ffff:cb00:7101 5555 443\r\n"
    scene = behind(trust=TrustedProxies((ip_network("198.51.100.0/24"),)), upstream=upstream)
    sent = read(scene.ask(header + get()))
    assert sent.values(b"X-Forwarded-For") == [b"192.0.2.99"]
    assert scene.connector.headers == [b"PROXY TCP4 192.0.2.99 203.0.113.1 5555 443\r\n"]
    assert scene.answer(OK) and scene.record.client == PeerAddress("192.0.2.99", 5555)


def test_the_client_of_a_socket_on_all_addresses_is_an_ipv4_client(monkeypatch):
    monkeypatch.setattr(
        MemoryTransport, "getPeer", lambda _: IPv6Address("TCP", "::ffff:198.51.100.7", 40000)
    )
    monkeypatch.setattr(MemoryTransport, "getHost", lambda _: IPv6Address("TCP", "::ffff:127.0.0.1", 80))
    upstream = Upstream("u", "192.0.2.10", 80, secure=False, send_proxy_protocol=ProxyVersion.V2)
    policy = ListenerPolicy(http=Http.FORWARD, trust=TrustedProxies((ip_network("198.51.100.0/24"),)))
    scene = HttpScene(upstream, policy)
    assert read(scene.ask(get())).values(b"X-Forwarded-For") == [b"198.51.100.7"]
    assert scene.connector.headers == [
        encode_proxy_header(ProxyVersion.V2, PeerAddress("198.51.100.7", 40000), PeerAddress("127.0.0.1", 80))
    ]
    scene.answer(OK)
    assert scene.record.client == PeerAddress("198.51.100.7", 40000)
    scene.ask(get(b"/", b"X-Forwarded-For: ::ffff:1.2.3.4"))
    scene.answer(OK)
    assert scene.records[-1].client.host == "1.2.3.4"


@pytest.mark.parametrize("chunk", [None, 1000, 1])
def test_a_header_with_a_client_certificate_is_read(chunk):
    plain = encode_proxy_header(
        ProxyVersion.V2, PeerAddress("192.0.2.99", 5555), PeerAddress("203.0.113.1", 443)
    )
    certificate = b"\x20" + (2100).to_bytes(2, "big") + b"c" * 2100
    header = plain[:14] + (12 + len(certificate)).to_bytes(2, "big") + plain[16:] + certificate
    sent = read(behind().ask(header + get(), chunk))
    assert sent.values(b"X-Forwarded-For") == [b"192.0.2.99"]


def test_a_connection_without_its_header_counts_as_a_handshake():
    scene = behind(connection_limits=ConnectionLimits(max_handshakes=2))
    assert scene.admission.handshakes == 2, "the one that the scene came with, and this one"
    scene.ask(HEADER + get())
    assert scene.admission.handshakes == 1
    crowded = behind(connection_limits=ConnectionLimits(max_handshakes=1))
    crowded.pump()
    assert crowded.client.ended == "aborted" and crowded.admission.refusals == {"max_handshakes": 1}


def test_a_websocket_is_forwarded():
    scene = behind()
    scene.ask(HEADER + opening())
    scene.accept()
    scene.pump()
    assert scene.client.received.startswith(b"HTTP/1.1 101 ")
    scene.host.send(frame(2, b"x" * 100))
    scene.pump()
    assert scene.client.received.endswith(b"x" * 100)
    scene.client.send(up(2, b"y" * 100))
    scene.pump()
    assert scene.host.received.endswith(up(2, b"y" * 100))
    scene.client.close()
    scene.advance(10)
    assert scene.at_rest() and scene.record.client.host == "192.0.2.99"


@pytest.mark.parametrize(
    "octets", [get(), b"\x16\x03\x01\x02\0", b"PROXY TCP4 x\r\n", HEADER[:-2] + b"\n" + get()]
)
def test_a_connection_without_a_header_is_aborted(octets):
    scene = behind()
    scene.ask(octets + b"\r\n" * 50)
    assert scene.client.ended == "aborted" and not scene.client.received and not scene.clock.getDelayedCalls()


def test_a_header_has_its_time():
    scene = behind(head_timeout=10)
    scene.ask(HEADER[:20])
    scene.advance(9)
    assert not scene.client.ended
    scene.advance(2)
    assert scene.client.ended == "aborted" and not scene.records and not scene.clock.getDelayedCalls()


@pytest.mark.parametrize(("octets", "lines"), [(b"", 0), (HEADER[:20], 1), (SIGNATURE[:1], 1)])
def test_a_connection_that_never_begins_its_header_is_ended_without_a_line(octets, lines):
    with capturedLogs() as told:
        scene = behind(head_timeout=10)
        scene.ask(octets)
        scene.advance(11)
    assert scene.client.ended == "aborted" and not scene.records and not scene.clock.getDelayedCalls()
    assert len(told) == lines


def test_only_trusted_proxies_may_connect_where_there_are_any():
    scene = behind(TrustedProxies((ip_network("10.0.0.0/8"),)))
    scene.pump()
    assert scene.client.ended == "aborted"
    scene = behind(TrustedProxies((ip_network("198.51.100.0/24"),)))
    assert scene.ask(HEADER + get())


def test_a_client_that_disconnects_before_its_header_is_no_error():
    scene = behind()
    scene.client.close()
    scene.pump()
    assert scene.client.ended == "far" and not scene.clock.getDelayedCalls()


@pytest.mark.parametrize("version", ProxyVersion)
def test_an_upstream_gets_the_clients_address(version):
    upstream = Upstream("u", "192.0.2.10", 80, secure=False, send_proxy_protocol=version)
    scene = HttpScene(upstream)
    scene.ask(get())
    assert scene.connector.headers == [
        encode_proxy_header(version, PeerAddress("198.51.100.7", 40000), PeerAddress("127.0.0.1", 80))
    ]
    scene.answer(OK)
    scene.ask(get())
    assert scene.connector.dials == 1


def test_a_connection_that_was_announced_for_one_client_is_not_used_for_another():
    upstream = Upstream("u", "192.0.2.10", 80, secure=False, send_proxy_protocol=ProxyVersion.V2)
    policy = ListenerPolicy(http=Http.FORWARD, trust=TrustedProxies((ip_network("198.51.100.0/24"),)))
    scene = HttpScene(upstream, policy)
    for client, dials in ((b"1.2.3.4", 1), (b"1.2.3.4", 1), (b"1.2.3.5", 2)):
        scene.ask(get(b"/", b"X-Forwarded-For: " + client))
        scene.answer(OK)
        assert scene.connector.dials == dials
