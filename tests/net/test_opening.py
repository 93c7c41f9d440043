"""Opening handshakes: fields, origins and subprotocols that go to the upstream."""

from ipaddress import ip_network

import pytest

from esxiproxy.core.http.forwarded import TrustedProxies
from esxiproxy.core.http.policy import Http, ListenerPolicy
from esxiproxy.core.routing import Principal, Subprotocol, Upstream
from tests.net.http_scene import HttpScene, get, read
from tests.net.opening_scene import asked, fields, status, values
from tests.net.scene import Scene


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
