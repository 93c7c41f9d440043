"""The router `links`: where a link leads to, once or more often, and what is refused under which name."""

import json
import shutil

import pytest
from twisted.internet.defer import Deferred, fail

from esxiproxy.core.errors import (
    AccessDenied,
    LimitReached,
    LinkExpired,
    LinkInvalid,
    LinkRevoked,
    StateUnavailable,
)
from esxiproxy.core.link import LEEWAY, new_id
from esxiproxy.core.link_keys import read_keys
from esxiproxy.core.routing import Identity, Principal, TCPAddress, Verify
from esxiproxy.core.sealing import key_of
from esxiproxy.core.session.claim import OnceClaim
from esxiproxy.routers.links import OPAQUE_SPACE, REVOKED_SPACE
from tests.routers.link_scene import ESXI, LinkScene, ask, request, routed
from tests.support.certificates import self_signed
from tests.support.links import AUDIENCE, ISSUER, PIN, token
from tests.support.outcome import result


@pytest.fixture
def scene(tmp_path):
    return LinkScene(tmp_path)


def test_a_link_leads_to_its_host(scene):
    route = routed(scene.router(), scene.link())
    destination = route.destination
    assert destination.addresses == (TCPAddress("esxi1.example.com", 443),)
    assert (destination.secure, destination.name, destination.template) == (True, "esxi1.example.com", ESXI)
    assert (destination.identity, route.upstream) == (Identity(), ESXI)
    assert [str(each) for each in destination.networks.allow] == ["192.0.2.0/24", "2001:db8::/32"]
    assert (route.target, route.link) == (b"/ticket/SECRET-TICKET", "link-1")
    assert (route.console, route.principal, dict(route.limits)) == (None, None, {})
    assert "SECRET" not in repr(route)


def test_claims_of_a_link_reach_the_route(scene):
    route = routed(scene.router(deny="192.0.2.7"), scene.link(sub="alice", ttl=60, pin=[PIN]))
    assert (route.principal, dict(route.limits)) == (Principal("alice"), {"max_lifetime": 60.0})
    assert [str(each) for each in route.destination.networks.deny] == ["192.0.2.7/32"]
    identity = route.destination.identity
    assert (identity.verify, [pin.digest for pin in identity.pins]) == (Verify.PIN, ["ab" * 32])


def test_a_certificate_in_a_link_is_the_identity(scene):
    certificate = self_signed(scene.folder, "host")
    route = routed(scene.router(template="pinned"), scene.link("ec", crt=certificate.path.read_text()))
    assert route.destination.identity == Identity(Verify.PIN, (), certificate.der)


@pytest.mark.parametrize(
    ("template", "changed"), [("pinned", {}), ("plain", {"pin": [PIN]})], ids=["no pin", "no TLS"]
)
def test_a_host_that_could_not_be_verified_is_refused(scene, template, changed):
    with pytest.raises(LinkInvalid, match="pin"):
        routed(scene.router(template=template), scene.link(**changed))


ONCE = {
    "once": ({}, 0.0, 1),
    "reuse 0": ({"reuse": 0}, 0.0, 1),
    "reuse": ({"reuse": 60}, 60.0, 11),
}


@pytest.mark.parametrize("case", ONCE)
def test_a_link_has_its_mark(scene, case):
    changed, reuse, most = ONCE[case]
    (claim,) = routed(scene.router(), scene.link(**changed)).claims
    name = f"link: {key_of(json.dumps([ISSUER, AUDIENCE, 'link-1']))}"
    assert claim == OnceClaim(name, scene.now + 300 + LEEWAY, reuse, most)


def test_a_link_for_many_has_no_mark(scene):
    assert routed(scene.router(), scene.link(reuse="many")).claims == ()


@pytest.mark.parametrize("changed", [{}, {"reuse": 60}])
def test_a_mark_may_be_missing_before_the_state(scene, changed):
    since = scene.state.since
    early, just, late = (scene.link(iat=since + by, **changed) for by in (-0.01, 0, 0.01))
    router = scene.router()
    with pytest.raises(LinkInvalid, match="older than the state"):
        routed(router, early)
    assert routed(router, just) and routed(router, late)
    assert routed(router, scene.link(iat=since - 10, reuse="many"))


NOT_MINE = ["/", "/ticket/abc", "/c", "/c/", "/h/esxi1/c/x", "/?link=x"]


@pytest.mark.parametrize("target", NOT_MINE)
def test_a_request_without_a_link_is_for_another_router(scene, target):
    assert ask(scene.router(), request(target)) is None


def test_the_request_does_not_choose_the_path(scene):
    router, link = scene.router(locate="query:link"), scene.link()
    for target in (f"/ticket/other?link={link}", f"/h/esxi2/ticket/x?host=esxi2&link={link}&token=y"):
        route = ask(router, request(target))
        assert (route.target, route.destination.name) == (b"/ticket/SECRET-TICKET", "esxi1.example.com")
    for rest in ("/ticket/other", "/../x", "%2f", "/", "."):
        with pytest.raises(LinkInvalid):
            routed(scene.router(), link + rest)


REFUSED = {
    "expired": ({"exp": -LEEWAY}, {}, LinkExpired),
    "not yet valid": ({"nbf": LEEWAY + 1}, {}, LinkExpired),
    "another network": ({"net": "192.0.2.0/24"}, {}, LinkInvalid),
    "another family": ({"net": "192.0.2.0/24"}, {"client": "2001:db8::1"}, LinkInvalid),
    "a unix socket": ({"net": "0.0.0.0/0"}, {"client": "unix"}, LinkInvalid),
    "view": ({"view": True}, {}, LinkInvalid),
    "record": ({"rec": True}, {}, LinkInvalid),
    "unknown": ({"clipboard": False}, {}, LinkInvalid),
    "another audience": ({"aud": "x"}, {}, LinkInvalid),
    "another issuer": ({"iss": "x"}, {}, LinkInvalid),
}


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("case", REFUSED)
def test_a_link_is_refused_under_its_name(scene, case, opaque):
    changed, options, error = REFUSED[case]
    changed = {
        name: scene.now + value if name in ("exp", "nbf") else value for name, value in changed.items()
    }
    router = scene.router(opaque="yes" if opaque else "no")
    link = scene.opaque(**changed) if opaque else scene.link(**changed)
    with pytest.raises(LinkInvalid) as caught:
        routed(router, link, **options)
    assert type(caught.value) is error
    shown = (caught.value.public_name, caught.value.public_message, caught.value.status_code)
    assert shown == ("RouteNotFound", "No upstream belongs to this request.", 404)
    assert link not in str(caught.value) and "SECRET" not in str(caught.value)


def test_a_client_of_the_network_may_use_the_link(scene):
    link = scene.link(net="192.0.2.0/24")
    assert routed(scene.router(), link, client="192.0.2.9")
    assert routed(scene.router(), link, client="::ffff:192.0.2.9")


def test_a_revoked_link_has_its_name(scene):
    router, link = scene.router(), scene.link()
    assert routed(router, link)
    result(scene.state.put(REVOKED_SPACE, key_of("link-1"), "", scene.now + 1000))
    with pytest.raises(LinkRevoked):
        routed(router, link)
    assert routed(router, scene.link(jti="link-2"))


@pytest.mark.parametrize("opaque", ["no", "yes"])
def test_every_refusal_asks_the_state_equally(scene, opaque):
    router, asked = scene.router(opaque=opaque), []
    get = scene.state.get
    scene.state.get = lambda space, key: asked.append(space) or get(space, key)
    make = scene.opaque if opaque == "yes" else scene.link
    links = [
        "x",
        "A" * 22,
        token({"jti": 1}).decode(),
        make(exp=scene.now - 60),
        make(view=True),
        make(aud="x"),
    ]
    result(scene.state.put(REVOKED_SPACE, key_of("gone"), "", scene.now + 1000))
    for link in (*links, make(jti="gone")):
        with pytest.raises(LinkInvalid):
            routed(router, link)
    one = [OPAQUE_SPACE, REVOKED_SPACE] if opaque == "yes" else [REVOKED_SPACE]
    assert asked == one * (len(links) + 1)


def test_without_the_state_no_link_is_decided(scene):
    scene.state.get = lambda space, key: (_ for _ in ()).throw(StateUnavailable("gone"))
    for link in (scene.link(), "garbage"):
        with pytest.raises(StateUnavailable):
            routed(scene.router(), link)


def test_an_opaque_link_leads_to_its_host(scene):
    router, link = scene.router(opaque="yes"), scene.opaque(sub="alice")
    route = routed(router, link)
    assert (route.target, route.principal) == (b"/ticket/SECRET-TICKET", Principal("alice"))
    assert route.link == "link-1" and link not in repr(route)
    assert len(route.claims) == 1
    for other in (link[:-1] + ("A" if link[-1] != "A" else "B"), new_id(), link[:-1], link + "A", "A" * 22):
        with pytest.raises(LinkInvalid):
            routed(router, other)
    with pytest.raises(LinkInvalid):
        routed(router, scene.link())
    with pytest.raises(LinkInvalid):
        routed(scene.router(), link)


def test_an_opaque_link_of_another_router_is_unknown(scene):
    with pytest.raises(LinkInvalid, match="no such link"):
        routed(scene.router(opaque="yes"), scene.opaque("router other"))


def test_a_link_in_a_cookie_is_consumed(scene):
    router, link = scene.router(locate="cookie:console"), scene.link(sub="alice").encode()
    route = ask(router, request("/any", b"Cookie: a=b; console=" + link))
    assert route.principal == Principal("alice", consumed_cookies=frozenset({b"console"}))
    assert (router.ambient, router.secrets) == (True, (("cookie", b"console"),))
    assert ask(router, request("/any", b"Cookie: a=b")) is None


def test_a_link_in_a_subprotocol_stands_beside_another_one(scene):
    router = scene.router(locate="subprotocol")
    offer = b"Sec-WebSocket-Protocol: esxiproxy.link." + scene.link().encode()
    assert ask(router, request("/", offer + b", binary")).target == b"/ticket/SECRET-TICKET"
    for lines in ([offer], [b"Sec-WebSocket-Protocol: esxiproxy.link.garbage"]):
        with pytest.raises(AccessDenied, match="beside the subprotocol of its console") as caught:
            ask(router, request("/", *lines))
        assert caught.value.status_code == 400
    assert ask(router, request("/", b"Sec-WebSocket-Protocol: binary")) is None
    assert router.secrets == () and not router.ambient


def test_the_attributes_name_the_place_of_a_link(scene):
    router = scene.router()
    assert router.upgrades_only and not router.ambient and router.secrets == (("path", b"/c/"),)
    assert scene.router(locate="query:l").secrets == (("query", b"l"),)


# --- keys that change


def test_keys_are_read_again(scene):
    router, old = scene.router(), scene.link()
    ((path, _changed),) = scene.watched
    assert path == scene.keys
    shutil.copy(scene.keys / "ec.es256.pem", scene.keys / "new.es256.pem")
    new = scene.link("new")
    with pytest.raises(LinkInvalid):
        routed(router, new)
    scene.change()
    assert routed(router, new) and routed(router, old)
    (scene.keys / "ed.eddsa.pem").unlink()
    scene.change()
    with pytest.raises(LinkInvalid):
        routed(router, old)


def test_a_bad_version_keeps_the_old_keys(scene):
    router, link = scene.router(), scene.link()
    (scene.keys / "bad.eddsa.pem").write_text("-----BEGIN PRIVATE KEY-----\nSECRET\n")
    scene.change()
    assert routed(router, link)
    (event,) = scene.logged
    assert event["log_level"].name == "error" and "bad.eddsa.pem" in event["error"]
    assert "SECRET" not in str(event["error"])


def test_a_change_during_the_reading_is_read_too(scene):
    running = []
    router = scene.router()
    scene.threads = lambda call, *arguments: running.append(Deferred()) or running[-1]
    before, link = read_keys(scene.keys), scene.link()
    scene.change()
    scene.change()
    (first,) = running
    first.callback({"ec": before["ec"]})
    with pytest.raises(LinkInvalid):
        routed(router, link)
    scene.clock.advance(1)
    running[1].callback({"ed": before["ed"]})
    assert routed(router, link)


def test_a_full_thread_pool_keeps_the_keys(scene):
    router = scene.router()
    calls = []
    scene.threads = lambda call, *arguments: calls.append(call) or fail(LimitReached("64 calls are waiting"))
    scene.change()
    assert routed(router, scene.link()) and len(calls) == 1
    scene.clock.advance(1)
    assert len(calls) == 2, "the change is not lost"
    scene.threads = lambda call, *arguments: fail(ValueError("a bug"))
    scene.clock.advance(1)
    assert routed(router, scene.link()) and len(scene.logged) == 1
