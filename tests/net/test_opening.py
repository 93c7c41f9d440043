"""The opening handshake: the client's 101 follows the upstream's."""

from ipaddress import ip_network

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from esxiproxy.core.errors import RouteNotFound, UpstreamRefused
from esxiproxy.core.http.chunks import CHUNKS_PER_TURN
from esxiproxy.core.http.forwarded import TrustedProxies
from esxiproxy.core.http.policy import Http, ListenerPolicy
from esxiproxy.core.routing import Principal, Subprotocol, Upstream
from tests.net.http_scene import HttpScene, get, read
from tests.net.scene import UPSTREAM, Scene, close, frames, opening, up


def status(octets):
    return int(octets.split(b" ", 2)[1])


def fields(octets):
    head = octets.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return [tuple(line.split(b": ", 1)) for line in head[1:]]


def asked(scene, *args, **kwargs):
    scene.client.send(opening(*args, **kwargs))
    scene.pump()
    return scene.request()


def values(found, name):
    return [value for key, value in found if key.lower() == name.lower()]


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
def test_our_own_origin_becomes_the_upstreams_however_its_port_is_written(page, policy, origin, forwarded):
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


def test_what_the_authenticator_took_stays_here():
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


REDIRECT = b"HTTP/1.1 %b Moved\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n"
BEHIND_TLS = ListenerPolicy(trust=TrustedProxies((ip_network("198.51.100.0/24"),)))


def redirected(location, status=b"301", upstream=UPSTREAM, told=()):
    scene = HttpScene(upstream, BEHIND_TLS)
    asked(scene, b"/ticket/secret", *told)
    scene.host.send(REDIRECT % (status, location))
    scene.pump()
    scene.client.close()
    scene.advance(6)
    assert scene.at_rest()
    return scene


@pytest.mark.parametrize(
    ("location", "seen"),
    [
        (b"http://192.0.2.10/ui/", b"http://proxy.example:81/ui/"),
        (b"HTTP://192.0.2.10:80/ui/", b"http://proxy.example:81/ui/"),
        (b"ws://192.0.2.10/ticket/x", b"ws://proxy.example:81/ticket/x"),
        (b"//192.0.2.10/ui/", b"//proxy.example:81/ui/"),
        (b"http://proxy.example:81/x", b"http://proxy.example:81/x"),
        (b"/ui/?a=https://evil.example/", b"/ui/?a=https://evil.example/"),
        (b"ui/", b"ui/"),
        (b"", b""),
    ],
)
def test_a_redirect_of_the_opening_is_rewritten_to_the_proxy(location, seen):
    scene = redirected(location)
    assert status(scene.client.received) == 301
    assert values(fields(scene.client.received), b"Location") == [seen]
    assert scene.record.error == "UpgradeRefused"


def test_a_redirect_of_the_opening_has_the_clients_scheme():
    told = (b"X-Forwarded-Proto: https", b"X-Forwarded-Host: console.example")
    for scheme, seen in ((b"http", b"https"), (b"ws", b"wss")):
        scene = redirected(scheme + b"://192.0.2.10/x", told=told)
        assert values(fields(scene.client.received), b"Location") == [seen + b"://console.example/x"]


SAME_HOST = "use wss:// in the upstream's url"
ELSEWHERE = "check the upstream's url, and whether it has to be wss://"
PAST = [
    (b"https://192.0.2.10/ticket/secret", SAME_HOST),
    (b"HTTPS://192.0.2.10:443/ticket/secret", SAME_HOST),
    (b"wss://192.0.2.10/ticket/secret", SAME_HOST),
    (b"http://192.0.2.10:8080/ticket/secret", ELSEWHERE),
    (b"https://esxi1.example/ticket/secret", ELSEWHERE),
    (b"//esxi1.example/ticket/secret", ELSEWHERE),
    (b"https://proxy.example:81/ticket/secret", ELSEWHERE),
    (b"http://proxy.example/ticket/secret", ELSEWHERE),
    (b"http://192.0.2.10@esxi1.example/", ELSEWHERE),
    (b"https:esxi1.example/", ELSEWHERE),
    (b"/\\esxi1.example/", ELSEWHERE),
    (b"/\t/esxi1.example/", ELSEWHERE),
    (b"\\\\esxi1.example/", ELSEWHERE),
    (b"mailto:x@esxi1.example", ELSEWHERE),
]


@pytest.mark.parametrize(("location", "advice"), PAST)
@pytest.mark.parametrize("code", [b"301", b"302", b"303", b"307", b"308"])
def test_a_redirect_of_the_opening_past_the_proxy_is_a_502_with_advice(code, location, advice):
    scene = redirected(location, code)
    assert status(scene.client.received) == 502
    assert advice.encode() in scene.client.received and scene.record.detail.endswith(advice)
    assert values(fields(scene.client.received), b"Location") == []
    assert values(fields(scene.client.received), b"Proxy-Status") == [b"esxiproxy; error=http_upgrade_failed"]
    for secret in (b"secret", b"192.0.2.10", b"esxi1"):
        assert secret not in scene.client.received
    assert (scene.record.error, scene.record.ended_by) == ("UpstreamRedirect", "upstream")


def test_a_redirect_of_a_tls_upstream_to_plain_is_a_502():
    secure = Upstream("u", "192.0.2.10", 443, secure=True)
    assert status(redirected(b"http://192.0.2.10/ticket/secret", upstream=secure).client.received) == 502
    assert status(redirected(b"https://192.0.2.10/ui/", upstream=secure).client.received) == 301


def test_one_of_two_locations_past_the_proxy_is_enough():
    scene = redirected(b"/ui/\r\nLocation: https://192.0.2.10/ticket/secret")
    assert status(scene.client.received) == 502


COOKIE = b"Set-Cookie: a=b; Domain=192.0.2.10; Secure; SameSite=None; Path=/"


def test_cookies_of_a_101_and_of_a_refusal_are_those_of_plain_http():
    scene = Scene()
    asked(scene)
    scene.accept(b"binary", COOKIE, b"Set-Cookie: c=d; HttpOnly")
    scene.pump()
    assert values(fields(scene.client.received), b"Set-Cookie") == [b"a=b; Path=/", b"c=d; HttpOnly"]
    scene = Scene()
    asked(scene)
    scene.host.send(
        b"HTTP/1.1 401 No\r\n" + COOKIE + b"\r\nContent-Location: http://192.0.2.10/a\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    scene.pump()
    got = fields(scene.client.received)
    assert values(got, b"Set-Cookie") == [b"a=b; Path=/"]
    assert values(got, b"Content-Location") == [b"http://proxy.example:81/a"]


def test_cookies_of_a_secure_client_stay_secure():
    scene = HttpScene(policy=BEHIND_TLS)
    asked(scene, b"/", b"X-Forwarded-Proto: https")
    scene.accept(b"binary", COOKIE)
    scene.pump()
    got = fields(scene.client.received)
    assert values(got, b"Set-Cookie") == [b"a=b; Secure; SameSite=None; Path=/"]


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


def test_an_upstream_that_disconnects_without_a_response_is_502():
    scene = Scene()
    asked(scene)
    scene.host.close()
    scene.pump()
    assert status(scene.client.received) == 502
    scene.client.close()
    scene.pump()
    assert scene.record.error == "UpstreamLost"


# Refusals of the proxy


@pytest.mark.parametrize(
    ("failure", "expected"), [(RouteNotFound("no upstream for this"), 404), (ValueError("a bug"), 500)]
)
def test_a_router_that_raises_is_answered_by_name(failure, expected):
    scene = Scene(failure)
    scene.client.send(opening())
    scene.pump()
    assert status(scene.client.received) == expected
    assert b"a bug" not in scene.client.received
    assert scene.connector.dials == 0


def test_a_dial_that_fails_is_answered_by_name():
    scene = Scene()
    scene.connector.failure = UpstreamRefused("esxi1 (192.0.2.10) refused the connection")
    scene.client.send(opening())
    scene.pump()
    assert status(scene.client.received) == 502
    assert values(fields(scene.client.received), b"Proxy-Status") == [b"esxiproxy; error=connection_refused"]
    assert scene.client.transport.half_closed
    scene.advance(5.2)
    assert scene.client.ended == "aborted" and scene.at_rest()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ((b"Version: 13", b"Version: 12"), 426),
        ((b"Version: 13", b"Version: +13"), 426),
        ((b"Version: 13", b"Version: 13\r\nSec-WebSocket-Version: 13"), 400),
        ((b"Sec-WebSocket-Version: 13\r\n", b""), 400),
        ((b"GET ", b"POST "), 405),
        ((b"Upgrade: websocket", b"Upgrade: h2c"), 426),
        ((b", Upgrade", b""), 426),
        ((b" HTTP/1.1", b" HTTP/1.0"), 426),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25j"), 400),
        ((b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""), 400),
        ((b"Host: ", b"Content-Length: 5\r\nHost: "), 400),
        ((b"Host: ", b"Transfer-Encoding: chunked\r\nHost: "), 400),
        ((b": binary", b": binary, binary"), 400),
        ((b": binary", b": bin ary"), 400),
        ((b"Host: ", b"Origin: http://a.example\r\nOrigin: http://b.example\r\nHost: "), 400),
    ],
)
def test_an_invalid_opening_handshake_is_refused_before_the_dial(change, expected):
    scene = Scene()
    scene.client.send(opening().replace(*change) + up(2, b"x"))
    scene.pump()
    assert status(scene.client.received) == expected
    assert scene.connector.dials == 0
    scene.advance(5.2)
    assert scene.at_rest()


@pytest.mark.parametrize("text", ["Å", "ą", "公", "元", "\x85", "\x80\xff", "🖥"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_field_may_hold_any_byte_beyond_ascii(text, encoding):
    """RFC 9110 5.5, obs-text: the host and the client get the bytes unchanged."""
    value = b"a=" + text.encode(encoding, "ignore") + b"; b=2"
    scene = Scene()
    scene.client.send(opening(b"/ticket/abc", b"Cookie: " + value, b"Remote-Name: " + value))
    scene.pump()
    sent = scene.request()[1]
    assert values(sent, b"Cookie") == [value] and values(sent, b"Remote-Name") == [value]
    scene.accept(b"binary", b"X-Host-Name: " + value)
    scene.pump()
    assert status(scene.client.received) == 101
    assert values(fields(scene.client.received), b"X-Host-Name") == [value]


def test_a_426_names_the_version_that_is_spoken():
    scene = Scene()
    scene.client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    scene.pump()
    got = fields(scene.client.received)
    assert status(scene.client.received) == 426
    assert values(got, b"Sec-WebSocket-Version") == [b"13"] and values(got, b"Upgrade") == [b"websocket"]


def test_a_missing_head_is_408():
    scene = Scene()
    for octet in opening()[:90]:
        scene.client.send(bytes([octet]))
        scene.advance(0.2)
    assert status(scene.client.received) == 408
    assert scene.connector.dials == 0


# During the dial


def test_a_client_that_disconnects_cancels_the_dial():
    scene = Scene()
    asked(scene)
    scene.client.close()
    scene.pump()
    assert scene.connector.cancelled == 1 and scene.host.ended == "aborted"
    assert scene.record.error == "ClientLost" and scene.record.status == 499
    assert scene.at_rest()


def test_a_client_that_disconnects_during_authentication_is_not_dialled_for():
    scene = Scene()
    scene.authenticator.answer = Deferred()
    scene.client.send(opening())
    scene.pump()
    scene.client.close()
    scene.pump()
    assert scene.connector.dials == 0 and scene.at_rest()
    assert scene.record.error == "ClientLost"


def test_a_second_head_behind_the_first_does_not_dial_twice():
    scene = Scene()
    scene.client.send(opening() + opening(b"/ticket/second"))
    scene.pump()
    scene.client.send(opening(b"/ticket/third"))
    scene.pump()
    assert scene.connector.dials == 1
    scene.accept()
    scene.pump()
    assert scene.host.received.count(b"GET ") == 1, "what came behind is frames, and not good ones"
    assert frames(scene.host.received.partition(b"\r\n\r\n")[2])[0][2][:2] == close(1001)


def test_64_kib_before_the_101_are_buffered_and_more_is_refused():
    scene = Scene()
    asked(scene)
    scene.client.send(b"x" * 65536)
    scene.pump()
    assert scene.client.received == b"" and scene.client.transport.reading
    scene.client.send(b"x")
    scene.pump()
    assert status(scene.client.received) == 400
    assert scene.host.ended == "aborted"
    scene.advance(5.2)
    assert scene.at_rest()


def test_a_refused_client_that_keeps_sending_is_read_and_then_aborted():
    scene = Scene(RouteNotFound("nothing here"))
    scene.client.send(opening())
    scene.pump()
    for _ in range(60):
        scene.client.send(b"x" * 65536)
        scene.advance(0.1)
    assert scene.client.ended == "aborted" and scene.at_rest()
    assert scene.record.error == "RouteNotFound"


def test_an_observer_that_raises_changes_nothing():
    scene = Scene()
    scene.recorder.opened = lambda session: 1 / 0
    scene.open()
    assert scene.client.ended is None
