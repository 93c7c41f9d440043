"""The router `resolver`: its requests to a service, and the routes that it makes of the answers."""

import json
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.plugin_type import Names, settings_of
from esxiproxy.core.config.section import SectionKind
from esxiproxy.core.errors import RouteNotFound, ServiceUnavailable
from esxiproxy.core.networks import Networks
from esxiproxy.core.routing import Identity, Principal, TCPAddress, Upstream, Verify
from esxiproxy.core.thumbprint import Pin
from esxiproxy.interfaces import Answer
from esxiproxy.routers import resolver
from esxiproxy.routers.resolver import TYPE, ResolverRouter, resolver_url
from tests.routers.scene import ANYONE, ESX
from tests.support.outcome import result
from tests.support.plugin_context import FakeContext
from tests.support.requests import request

PINNED = Upstream("esx", "", 0, secure=True, verify=Verify.PIN)
NOW = 1_800_000_000.0
SECRET = "S3cretT0ken"


def answer(status=200, **more):
    return Answer(status, (), json.dumps({"host": "esx1.lab", "port": 8443, **more}).encode())


class Scene:
    def __init__(self, folder=Path("/"), template=ESX, ca=None, **keys):
        texts = {
            "url": "https://tokens.lab/api/{token}?key=hidden",
            "template": "esx",
            "allow": "10.0.0.0/8",
            **keys,
        }
        self.settings = settings_of(TYPE, SectionKind.ROUTER, texts, folder)
        self.context = FakeContext(esx=template)
        self.networks = Networks(allow=self.settings["allow"])
        self.router = ResolverRouter(
            self.settings["url"],
            self.settings["locate"],
            template,
            self.networks,
            ca,
            self.context,
            lambda: NOW + self.context.clock.seconds(),
        )

    def answers(self, *answers):
        self.context.http.answers[:] = answers
        return self

    def route(self, target=b"/x?token=abc", *fields, **more):
        return result(self.router.route(request(target, *fields, **more), ANYONE))

    @property
    def urls(self):
        return [asked.url for asked in self.context.http.requests]


def test_the_service_is_asked_and_answers_with_a_host():
    scene = Scene().answers(answer(path="/ticket/x", principal="alice"))
    route = scene.route(b"/x?a=b&token=a%2Fb+c")
    (asked,) = scene.context.http.requests
    assert (asked.method, asked.url) == ("GET", "https://tokens.lab/api/a%2Fb%20c?key=hidden")
    assert (asked.fields, asked.identity) == (((b"Accept", b"application/json"),), None)
    assert asked.max_body == 65536
    found = route.destination
    assert (found.addresses, found.secure, found.name) == ((TCPAddress("esx1.lab", 8443),), True, "esx1.lab")
    assert (found.template, found.identity, found.networks) == (ESX, Identity(), scene.networks)
    assert (route.target, route.principal) == (b"/ticket/x", Principal("alice"))


def test_without_a_path_the_client_s_target_is_sent_without_the_token():
    route = Scene().answers(answer()).route(b"/x?a=b&token=abc")
    assert (route.target, route.principal) == (b"/x?a=b", None)


def test_pins_of_the_answer_verify_the_host():
    pin = Pin("sha256", "a" * 64)
    for template in (ESX, PINNED):
        identity = (
            Scene(template=template)
            .answers(answer(pins=[f"sha256:{pin.digest}"]))
            .route()
            .destination.identity
        )
        assert identity == Identity(template.verify, pins=(pin,))
    with pytest.raises(ServiceUnavailable, match="has no pins, and the template has verify = pin"):
        Scene(template=PINNED).answers(answer()).route()


def test_authorities_of_the_service_are_those_of_the_section():
    scene = Scene(ca=Path("/ca.pem")).answers(answer())
    scene.route()
    assert scene.context.http.requests[0].identity == Identity(Verify.CA, ca=Path("/ca.pem"))


TOKENS = {
    b"a/b": "a%2Fb",
    b"a%26x=y%23": "a%26x%3Dy%23",
    b"%2e%2e%2fadmin": "..%2Fadmin",
    b"a%0d": None,
    b"%00": None,
    b"%c2%85": None,
    b"%25s": "%25s",
    b"{token}": "%7Btoken%7D",
    b"%c3%a9": "%C3%A9",
    b"a@b:c": "a%40b%3Ac",
    b".": None,
    b"..": None,
    b"%2e%2e": None,
    b"...": "...",
    b"a" * 4096: "a" * 4096,
    b"a" * 4097: None,
    b"%c3%a9" * 1000: "%C3%A9" * 1000,
}


@pytest.mark.parametrize(("token", "sent"), TOKENS.items(), ids=lambda value: repr(value)[:20])
def test_a_token_is_sent_percent_encoded_or_not_at_all(token, sent):
    scene = Scene().answers(answer())
    if sent is None:
        with pytest.raises(RouteNotFound, match=r"^the token "):
            scene.route(b"/?token=" + token)
        assert not scene.urls
    else:
        scene.route(b"/?token=" + token)
        assert scene.urls == [f"https://tokens.lab/api/{sent}?key=hidden"]


def test_a_dot_segment_is_a_token_in_a_query():
    scene = Scene(url="http://tokens.lab:81?token={token}").answers(answer())
    scene.route(b"/?token=..")
    assert scene.urls == ["http://tokens.lab:81/?token=.."]


FAILURES = (201, 204, 301, 302, 400, 401, 403, 429, 500, 502, 503)
STATUSES = dict.fromkeys((404, 410), RouteNotFound) | dict.fromkeys(FAILURES, ServiceUnavailable)


@pytest.mark.parametrize(("status", "error"), STATUSES.items())
def test_a_status_is_an_error(status, error):
    with pytest.raises(error):
        Scene().answers(answer(status)).route()


def test_a_service_that_cannot_be_asked_is_an_error():
    with pytest.raises(ServiceUnavailable, match="no route"):
        Scene().answers(ServiceUnavailable("no route")).route()


@pytest.mark.parametrize(
    "more", [{"host": "127.1"}, {"port": "443"}, {"path": "x"}, {"pin": "x"}, {"expires": "1"}]
)
def test_an_answer_that_is_not_right_is_an_error(more):
    with pytest.raises(ServiceUnavailable, match=r"^the answer of https://tokens\.lab cannot be used: "):
        Scene().answers(answer(**more)).route()


def test_no_error_shows_the_token_or_the_key_of_the_service():
    outcomes = [answer(404), answer(500), answer(host=SECRET + "/"), answer(expires=1), answer(principal="")]
    for outcome in outcomes:
        with pytest.raises((RouteNotFound, ServiceUnavailable)) as caught:
            Scene().answers(outcome).route(b"/?token=" + SECRET.encode())
        assert SECRET not in str(caught.value) and "hidden" not in str(caught.value)
    scene = Scene().answers(answer(path=f"/ticket/{SECRET}"))
    assert SECRET not in repr(scene.route()) and "hidden" not in repr(scene.settings["url"])


def test_an_expired_token_is_refused():
    with pytest.raises(RouteNotFound, match="expired"):
        Scene().answers(answer(expires=NOW)).route()


def test_an_answer_is_cached_until_it_expires():
    scene = Scene().answers(answer(expires=NOW + 10, path="/first"), answer(path="/second"))
    assert [scene.route().target for _ in range(3)] == [b"/first"] * 3
    scene.context.clock.advance(10)
    assert scene.route().target == b"/second" and len(scene.urls) == 2


def test_an_answer_is_cached_for_a_minute_at_most():
    scene = Scene().answers(answer(expires=NOW + 1000), answer(expires=NOW + 1000))
    scene.route()
    scene.context.clock.advance(59.9)
    scene.route()
    assert len(scene.urls) == 1
    scene.context.clock.advance(0.1)
    scene.route()
    assert len(scene.urls) == 2


def test_an_answer_without_expires_or_with_an_error_is_not_cached():
    scene = Scene().answers(answer(404), answer(), answer(500), answer())
    for error in (RouteNotFound, None, ServiceUnavailable, None):
        if error is None:
            scene.route()
        else:
            with pytest.raises(error):
                scene.route()
    assert len(scene.urls) == 4


def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(resolver, "MAX_CACHED", 3)
    scene = Scene().answers(*(answer(expires=NOW + 50) for _ in range(9)))
    for number in (0, 1, 2, 3, 1, 2, 3):
        scene.route(b"/?token=%d" % number)
    assert len(scene.urls) == 4
    scene.route(b"/?token=0")
    assert len(scene.urls) == 5


def test_a_cancelled_request_leaves_nothing_behind():
    waiting = Deferred()
    scene = Scene().answers(waiting, answer())
    asked = Deferred.fromCoroutine(scene.router.route(request(b"/?token=abc"), ANYONE))
    asked.cancel()
    asked.addErrback(lambda _: None)
    assert scene.route().destination.name == "esx1.lab"


PLACES = {
    "query:t": (b"/x?t=abc&y", {}, b"/x?y", (("query", b"t"),), False),
    "path:/c/{token}": (b"/c/abc/x?y", {}, b"/x?y", (("path", b"/c/"),), False),
    "host:{token}.lab": (b"/x?y", {"host": b"abc.lab"}, b"/x?y", (), False),
    "cookie:t": (b"/x?y", {"cookie": b"t=abc"}, b"/x?y", (("cookie", b"t"),), True),
}


@pytest.mark.parametrize(("locate", "expected"), PLACES.items())
def test_the_token_stands_where_the_section_says(locate, expected):
    target, more, left, secrets, ambient = expected
    scene = Scene(locate=locate).answers(answer())
    fields = ((b"Cookie", more.pop("cookie")),) if "cookie" in more else ()
    assert scene.route(target, *fields, **more).target == left
    assert scene.urls == ["https://tokens.lab/api/abc?key=hidden"]
    router = scene.router
    assert (router.secrets, router.ambient, router.upgrades_only) == (secrets, ambient, True)
    assert router.consumed_cookies == ({b"t"} if ambient else frozenset())
    assert scene.route(b"/other") is None


URLS = {
    "https://tokens.lab/{token}": ("https://tokens.lab", "/", ""),
    "HTTP://[::1]:81/a?b={token}&c": ("http://[::1]:81", "/a?b=", "&c"),
    "https://tokens.lab?{token}": ("https://tokens.lab", "/?", ""),
}


@pytest.mark.parametrize(("text", "parts"), URLS.items())
def test_a_url_is_read(text, parts):
    url = resolver_url(text)
    assert (url.origin, url.before, url.behind) == parts


BAD_URLS = {
    "": "is no URL",
    "tokens.lab/{token}": "is no URL",
    "ftp://tokens.lab/{token}": "is no URL",
    "https://tokens.lab/a b{token}": "is no URL",
    "https://tokens.lab/é{token}": "is no URL",
    "https://tokens.lab/": "has to have {token} once",
    "https://tokens.lab/%s": "has to have {token} once",
    "https://tokens.lab/{token}/{token}": "has to have {token} once",
    "https://tokens.lab/{token}/{name}": "has to have {token} once",
    "https://{token}.lab/": "{token}.lab",
    "https://user:hidden@tokens.lab/{token}": "has a user or a password",
    "https://tokens.lab/{token}#x": "has a fragment",
    "https://tokens.lab:0/{token}": "is no port",
    "https:///{token}": "has no host",
    "https://127.1/{token}": "is no IPv4 address",
}


@pytest.mark.parametrize(("text", "expected"), BAD_URLS.items())
def test_a_bad_url_is_a_mistake(text, expected):
    with pytest.raises(BadValue) as caught:
        resolver_url(text)
    assert expected in str(caught.value) and "hidden" not in str(caught.value)


def test_mistakes_of_the_section(tmp_path):
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    keys = {"template": "esx", "allow": "10.0.0.0/8", "ca": "ca.pem"}
    plain, secure = (
        settings_of(TYPE, SectionKind.ROUTER, {"url": f"{scheme}://t/{{token}}", **keys}, tmp_path)
        for scheme in ("http", "https")
    )
    assert list(TYPE.conflicts(plain, Names())) == [
        ("template", "no [upstream esx]: there is none"),
        ("ca", "only with an https:// url: an http:// service has no certificate"),
    ]
    assert list(TYPE.conflicts(secure, Names({"esx": ESX}))) == []
    router = TYPE.create(secure, FakeContext(esx=ESX))
    assert router.secrets == (("query", b"token"),)
    for missing in ("allow", "template"):
        texts = {"url": "https://t/{token}", **keys}
        del texts[missing]
        with pytest.raises(BadValue, match=f"needs {missing}"):
            settings_of(TYPE, SectionKind.ROUTER, texts, tmp_path)


@pytest.mark.parametrize("value", ["", "x", "10.0.0.1/8", "10.0.0.0/8,", "unix", "any", "10.0.0"])
def test_networks_are_read_strictly(value):
    with pytest.raises(BadValue, match=r"is no network|has host bits set"):
        Scene(allow=value)
