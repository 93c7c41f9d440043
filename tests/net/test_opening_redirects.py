"""Redirects and cookies in the answer to an opening handshake."""

from ipaddress import ip_network

import pytest

from esxiproxy.core.http.forwarded import TrustedProxies
from esxiproxy.core.http.policy import ListenerPolicy
from esxiproxy.core.routing import Upstream
from tests.net.http_scene import HttpScene
from tests.net.opening_scene import asked, fields, status, values
from tests.net.scene import UPSTREAM, Scene

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
