"""The opening handshake: the client's 101 follows the upstream's."""

from ipaddress import ip_network

import pytest
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from esxiproxy.core.http.chunked_body import CHUNKS_PER_TURN
from esxiproxy.core.http.forwarded import TrustedProxies
from esxiproxy.core.http.policy import Http, ListenerPolicy
from esxiproxy.core.routing import Principal, Subprotocol, Upstream
from tests.net.http_scene import HttpScene, get, read
from tests.net.opening_scene import asked, fields, status, values
from tests.net.scene import Scene

# Toward the upstream


@pytest.mark.parametrize(
    "target", [b"/", b"/ticket/a;x=1", b"/a?x=1;y=2&z=", b"/a+b%2f%2F//c?=&&", b"/?a=b=c", b"/a%00b"]
)
def test_the_target_goes_up_byte_for_byte(target):
    line, _ = asked(Scene(), target)
    assert line == b"GET " + target + b" HTTP/1.1"


def test_end_to_end_fields_pass_and_repeated_ones_stay_repeated():
    _, sent = asked(
        Scene(),
        b"/",
        b"Cookie: a=1",
        b"User-Agent: noVNC",
        b"Cookie: b=2",
        b"X-Name: Andr\xe9",
    )
    assert values(sent, b"Cookie") == [b"a=1", b"b=2"]
    assert values(sent, b"User-Agent") == [b"noVNC"]
    assert values(sent, b"X-Name")[0].endswith(b"\xe9")


def test_hop_by_hop_fields_stay_here():
    _, sent = asked(
        Scene(),
        b"/",
        b"Connection: X-Private",
        b"X-Private: 1",
        b"Keep-Alive: 5",
        b"TE: trailers",
        b"Proxy-Authorization: Basic eDp5",
        b"Sec-WebSocket-Extensions: permessage-deflate",
        b"HTTP2-Settings: AAMAAABkAAQAAP",
    )
    names = {name.lower() for name, _ in sent}
    assert not names & {
        b"x-private",
        b"keep-alive",
        b"te",
        b"proxy-authorization",
        b"sec-websocket-extensions",
        b"http2-settings",
    }
    assert values(sent, b"Connection") == [b"Upgrade"]


def test_forwarded_fields_are_written_and_those_of_clients_dropped():
    _, sent = asked(
        Scene(), b"/", b"X-Forwarded-For: 10.0.0.1", b"X-Forwarded-Proto: https", b"Forwarded: for=10.0.0.1"
    )
    assert values(sent, b"X-Forwarded-For") == [b"198.51.100.7"]
    assert values(sent, b"X-Forwarded-Proto") == [b"http"]
    assert values(sent, b"X-Forwarded-Host") == [b"proxy.example:81"]
    assert values(sent, b"Forwarded") == []
    (via,) = values(sent, b"Via")
    assert via.startswith(b"1.1 esxiproxy")


@pytest.mark.parametrize(
    ("rule", "sent_host", "sent_origin"),
    [
        ("upstream", b"192.0.2.10", b"http://192.0.2.10"),
        ("client", b"proxy.example:81", b"http://proxy.example:81"),
    ],
)
def test_host_and_origin_follow_the_upstreams_rule(rule, sent_host, sent_origin):
    upstream = Upstream("u", "192.0.2.10", 80, False, host_field=rule, origin_field=rule)
    _, sent = asked(Scene(upstream), b"/", b"Origin: http://proxy.example:81")
    assert values(sent, b"Host") == [sent_host]
    assert values(sent, b"Origin") == [sent_origin]


@pytest.mark.parametrize(
    "origin",
    [
        b"https://evil.example",
        b"https://proxy.example:81",  # another scheme
        b"http://proxy.example",  # another port
        b"http://proxy.example:81.evil.example",
        b"http://proxy.example:81/",
        b"http://evil@proxy.example:81",
        b"http://192.0.2.10.evil.example",
        b"null",
        b"",
        b"proxy.example:81",
        b"no origin",
        b"http://proxy.example:81 https://evil.example",
        b"http://ex\xe4mple",
    ],
)
@pytest.mark.parametrize("page", [False, True])
def test_a_foreign_origin_stays_foreign(page, origin):
    assert _origin_sent(page, b"Origin: " + origin) == [origin]


TRUSTED = ListenerPolicy(http=Http.FORWARD, trust=TrustedProxies((ip_network("198.51.100.0/24"),)))
OWN_ORIGINS = [
    (None, b"http://proxy.example:81", ()),
    (None, b"HTTP://Proxy.Example:81", ()),
    (TRUSTED, b"https://console.example", (b"console.example", b"https")),
    (TRUSTED, b"https://console.example", (b"console.example:443", b"https")),
    (TRUSTED, b"https://console.example:443", (b"console.example", b"https")),
    (TRUSTED, b"http://console.example", (b"Console.example:80", b"http")),
    (TRUSTED, b"https://console.example:8443", (b"console.example:8443", b"https")),
    (TRUSTED, b"https://[2001:db8::1]", (b"[2001:DB8::1]:443", b"https")),
]


@pytest.mark.parametrize(("policy", "origin", "forwarded"), OWN_ORIGINS)
@pytest.mark.parametrize("page", [False, True])
def test_our_own_origin_becomes_the_upstreams_in_each_notation_of_its_port(page, policy, origin, forwarded):
    names = (b"X-Forwarded-Host: ", b"X-Forwarded-Proto: ")
    told = [name + value for name, value in zip(names, forwarded, strict=False)]
    assert _origin_sent(page, b"Origin: " + origin, *told, policy=policy) == [b"http://192.0.2.10"]


def test_an_untrusted_client_does_not_choose_the_own_origin():
    told = (b"X-Forwarded-Host: evil.example", b"X-Forwarded-Proto: https")
    sent = _origin_sent(False, b"Origin: https://evil.example", *told)
    assert sent == [b"https://evil.example"]


@pytest.mark.parametrize("page", [False, True])
def test_no_origin_is_made_up(page):
    assert _origin_sent(page) == []


def _origin_sent(page, *fields, policy=None):
    scene = HttpScene(policy=policy)
    if page:
        return read(scene.ask(get(b"/", *fields))).values(b"Origin")
    return values(asked(scene, b"/", *fields)[1], b"Origin")


def test_an_origin_can_be_left_out_or_given():
    none = Upstream("u", "192.0.2.10", 80, False, origin_field="none")
    given = Upstream("u", "192.0.2.10", 80, False, host_field="vc.example", origin_field="https://vc.example")
    _, sent = asked(Scene(none), b"/", b"Origin: https://page.example")
    assert values(sent, b"Origin") == []
    _, sent = asked(Scene(given), b"/", b"Origin: https://page.example")
    assert values(sent, b"Origin") == [b"https://vc.example"] and values(sent, b"Host") == [b"vc.example"]


def test_credentials_that_the_authenticator_consumed_are_not_forwarded():
    scene = Scene()
    scene.authenticator.answer.addCallback(lambda _: Principal("bob", frozenset({b"authorization"})))
    _, sent = asked(scene, b"/", b"Authorization: Bearer x")
    assert values(sent, b"Authorization") == []


# Subprotocols


@pytest.mark.parametrize(
    ("offered", "rule", "up_list", "chosen", "mirrored"),
    [
        (b"binary", Subprotocol.BRIDGE, [b"binary"], b"binary", [b"binary"]),
        (b"vmware-vvc,binary, a", Subprotocol.BRIDGE, [b"vmware-vvc, binary, a"], b"a", [b"a"]),
        (b"a", Subprotocol.BRIDGE, [b"a"], None, []),
        (None, Subprotocol.BRIDGE, [b"binary"], b"binary", []),
        (None, Subprotocol.PASS, [], None, []),
    ],
)
def test_the_offered_subprotocols_are_forwarded_in_order_and_the_choice_returned(
    offered, rule, up_list, chosen, mirrored
):
    scene = Scene(Upstream("u", "192.0.2.10", 80, False, subprotocol=rule))
    _, sent = asked(scene, protocol=offered)
    assert values(sent, b"Sec-WebSocket-Protocol") == up_list
    scene.accept(chosen)
    scene.pump()
    assert status(scene.client.received) == 101
    assert values(fields(scene.client.received), b"Sec-WebSocket-Protocol") == mirrored


# Toward the client


def test_no_101_before_the_upstreams():
    scene = Scene()
    asked(scene)
    assert scene.client.received == b""
    scene.accept()
    scene.pump()
    assert status(scene.client.received) == 101
    assert values(fields(scene.client.received), b"Sec-WebSocket-Accept") == [b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]


def test_fields_of_the_upstreams_101_are_forwarded_each_set_cookie_its_own():
    scene = Scene()
    asked(scene)
    scene.accept(b"binary", b"Set-Cookie: a=1, x", b"Set-Cookie: b=\xe9", b"Keep-Alive: 5", b"Server: ESXi")
    scene.pump()
    got = fields(scene.client.received)
    assert values(got, b"Set-Cookie") == [b"a=1, x", b"b=\xe9"]
    assert values(got, b"Server") == [b"ESXi"]
    assert values(got, b"Keep-Alive") == []
    assert len(values(got, b"Upgrade")) == len(values(got, b"Connection")) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 5\r\n\r\nspent",
        b"HTTP/1.1 403 Forbidden\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nsp\r\n3\r\nent\r\n0\r\n\r\n",
        b"HTTP/1.0 403 Forbidden\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nspent",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        b"Content-Length: 5\r\n\r\nspent",
    ],
)
def test_a_refusal_of_the_upstream_is_passed_on_with_fields_and_body(answer):
    scene = Scene()
    asked(scene)
    scene.host.send(answer)
    scene.host.close()
    scene.advance(6)
    assert status(scene.client.received) == 403
    got = fields(scene.client.received)
    assert values(got, b"Set-Cookie") == [b"a=1", b"b=2"]
    assert values(got, b"Content-Length") == [b"5"] and scene.client.received.endswith(b"\r\n\r\nspent")
    assert values(got, b"Proxy-Status") == [b"esxiproxy; error=http_upgrade_failed; received-status=403"]
    assert scene.record.error == "UpgradeRefused" and scene.record.status == 403
    assert scene.at_rest()


@pytest.mark.parametrize("before", [b"\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\r\n"])
@pytest.mark.parametrize("accepts", [True, False])
@pytest.mark.parametrize("chunk", [1, 65536])
def test_an_empty_line_before_a_status_line_is_skipped(before, accepts, chunk):
    scene = Scene()
    asked(scene)
    scene.host.send(before, chunk)
    scene.pump()
    if accepts:
        scene.accept(extra=b"\x82\x02hi")
    else:
        scene.host.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nspent", chunk)
    scene.pump()
    assert status(scene.client.received) == (101 if accepts else 403)
    assert scene.client.received.endswith(b"\r\n\r\n" + (b"\x82\x02hi" if accepts else b"spent"))


def test_a_refusal_with_many_chunks_is_read_over_several_turns():
    scene = Scene()
    asked(scene)
    scene.host.send(b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n", 65536)
    calls, later = [], scene.clock.callLater
    scene.clock.callLater = lambda seconds, *call: calls.append(seconds) or later(seconds, *call)
    body = b"9\r\n123456789\r\n" * 4 * CHUNKS_PER_TURN
    scene.host.send(body, len(body))
    scene.pump()
    assert not scene.host.transport.reading and calls == [0]
    scene.clock.advance(0)
    assert scene.host.transport.reading and calls == [0, 0, 0]
    scene.host.send(b"0\r\n\r\n")
    scene.pump()
    assert status(scene.client.received) == 403 and scene.client.received.endswith(
        b"123456789" * 4 * CHUNKS_PER_TURN
    )
    scene.client.close()
    scene.advance(6)
    assert scene.at_rest()


def test_a_refusal_with_tiny_chunks_without_end_is_502():
    scene = Scene()
    asked(scene)
    scene.host.send(b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n", 65536)
    scene.host.send(b"1\r\nx\r\n" * 70_000, 1 << 20)
    scene.advance(10)
    assert status(scene.client.received) == 502 and scene.record.error == "UpstreamInvalid"


def test_a_refusal_cut_off_between_two_turns_is_passed_on_in_part():
    scene = Scene()
    asked(scene)
    scene.host.send(b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n", 65536)
    body = b"9\r\n123456789\r\n" * 2 * CHUNKS_PER_TURN
    scene.host.send(body, len(body))
    scene.pump()
    scene.backend.connectionLost(Failure(ConnectionDone()))
    scene.pump()
    assert status(scene.client.received) == 403 and scene.client.received.endswith(
        b"123456789" * 2 * CHUNKS_PER_TURN
    )
    scene.clock.advance(0)


def test_a_refusals_body_is_cut_at_64_kib():
    scene = Scene()
    asked(scene)
    scene.host.send(b"HTTP/1.1 500 No\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 500_000, 65536)
    scene.pump()
    assert len(scene.client.received.partition(b"\r\n\r\n")[2]) == 65536
    assert scene.host.ended == "aborted"


ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
INVALID = {
    "garbage": b"\x00\x01\x02garbage\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "no accept value": ACCEPTED + b"\r\n",
    "wrong accept value": ACCEPTED + b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 1000,
    "endless interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 6,
    "empty lines without end": b"\r\n" * 9,
    "NUL in a chunk's extension": b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\x00\r\nx\r\n",
}


@pytest.mark.parametrize("answer", INVALID.values(), ids=INVALID.keys())
def test_an_answer_that_is_no_opening_handshake_is_502(answer):
    scene = Scene()
    asked(scene)
    scene.host.send(answer)
    scene.pump()
    assert status(scene.client.received) == 502
    assert scene.host.ended == "aborted"
    scene.client.close()
    scene.pump()
    assert scene.record.error == "UpstreamInvalid" and scene.at_rest()


@pytest.mark.parametrize(
    "extra",
    [
        (b"other",),
        (b"binary", b"Sec-WebSocket-Protocol: binary"),
        (b"binary", b"Sec-WebSocket-Extensions: permessage-deflate"),
        (b"binary", b"Upgrade: h2c"),
    ],
)
def test_a_101_with_an_unoffered_choice_is_502(extra):
    scene = Scene()
    asked(scene)
    scene.accept(*extra)
    scene.pump()
    assert status(scene.client.received) == 502 and scene.host.ended == "aborted"


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 101 Sw", "before the answer was complete"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "before the answer was complete"),
    ],
)
def test_an_upstream_that_disconnects_without_a_response_is_502(sent, said):
    scene = Scene()
    asked(scene)
    scene.host.send(sent)
    scene.pump()
    scene.host.close()
    scene.pump()
    assert status(scene.client.received) == 502
    scene.client.close()
    scene.pump()
    assert scene.record.error == "UpstreamLost"
    assert scene.record.detail == f"the upstream ended the connection {said}"


@pytest.mark.parametrize(
    "field", [(b"A", b"b\r\nC: d"), (b"A\r\nB", b"c"), (b"A", b"b\r\n\r\n\x82\x01c"), (b"A b", b"c")]
)
def test_a_field_of_a_plugin_that_would_begin_another_one_is_not_sent(field):
    scene = Scene()
    bob = Principal("bob", response_fields=((b"Set-Cookie", b"a=b"), field))
    scene.authenticator.answer.addCallback(lambda _: bob)
    asked(scene)
    scene.accept()
    scene.pump()
    assert status(scene.client.received) == 502 and b"C: d" not in scene.client.received
    assert scene.host.ended == "aborted"
    scene.client.close()
    scene.pump()
    assert scene.record.error == "UpstreamInvalid" and scene.at_rest()


@pytest.mark.parametrize("field", [("X-User", "bob"), (b"X-User", b"bob", b"more"), (b"X-User", None), 42])
def test_fields_of_a_plugin_that_are_no_pairs_of_bytes_cost_a_500_and_no_connection(field):
    scene = Scene()
    bob = Principal("bob", response_fields=(field,))
    scene.authenticator.answer.addCallback(lambda _: bob)
    asked(scene)
    scene.accept()
    scene.pump()
    assert status(scene.client.received) == 500
    assert scene.host.ended == "aborted"
    scene.client.close()
    scene.pump()
    assert scene.record.error == "Internal" and scene.at_rest()
