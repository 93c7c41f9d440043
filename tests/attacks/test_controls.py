"""The legitimate request of each listener opens a console, so that no refusal of the table is empty.

What is for the proxy does not go up: links, cookies with links, credentials, identities that a client claims.
The address that is dialled is the one that was checked.
"""

import pytest

from esxiproxy.core.errors import UpstreamRefused
from esxiproxy.core.http.policy import Http
from tests.attacks.attempt import TICKET, Attempt
from tests.attacks.of_link_uses import once
from tests.attacks.of_links import link
from tests.attacks.of_listener import login
from tests.attacks.of_tokens import answer
from tests.attacks.scene import LISTENERS, Scene, logged, request

OWN = b"Origin: http://proxy.example:81"
ESX1 = {"host": "10.0.0.1", "port": 443, "path": f"/ticket/{TICKET}"}
NAMED = {"esx1.lab": (("10.0.0.5",),)}


def good(listener, target, dialled, up, *fields, **more):
    """Return a request that opens a console, with the address that is dialled and the target that is sent."""
    return Attempt(up.decode(), listener, target, dialled, 101, fields, **more)


def to(**changed):
    return link(to={**ESX1, **changed})


UP = b"/ticket/SECRET-TICKET"
GOOD = (
    good("static", b"/lab/x?y", "10.0.0.7:443", b"/lab/x?y", host=b"a.lab.example.com"),
    good("static", b"/lab", "10.0.0.7:443", b"/lab", host=b"A.LAB.example.com.:81"),
    good("static", b"/ui/", "10.0.0.8:443", b"/ui/"),
    good("inventory", b"/h/ESX1./ticket/x?y", "10.0.0.1:443", b"/ticket/x?y"),
    good("inventory", b"/h/esx2.lab/", "10.0.0.2:8443", b"/"),
    good("inventory", b"/h/named/x", "10.0.0.5:443", b"/x", names={"named.lab": (("10.0.0.5",),)}),
    good("inventory-query", b"/x?a=b&host=esx1&host=esx2.lab&c", "10.0.0.1:443", b"/x?a=b&c"),
    good("inventory-host", b"/x", "10.0.0.1:443", b"/x", host=b"esx1.consoles.example.com:81"),
    good("inventory-cookie", b"/x", "10.0.0.1:443", b"/x", b"Cookie: a=b; esx=esx1; c=d", OWN),
    good("tokens", b"/x?token=S3cretToken&a=b", "10.0.0.5:443", b"/x?a=b", names=NAMED),
    good("tokens", b"/x?token=S3cretUrl", "10.0.0.9:8443", UP),
    good("resolver", b"/x?token=S3cretToken", "10.0.0.5:443", UP, names=NAMED, answers=(answer(),)),
    good("resolver-path", b"/r/S3cretToken/x", "10.0.0.5:443", UP, names=NAMED, answers=(answer(),)),
    good(
        "resolver-cookie",
        b"/x",
        "10.0.0.5:443",
        UP,
        b"Cookie: console=S3cretToken; c=d",
        OWN,
        names=NAMED,
        answers=(answer(),),
    ),
    good("links", b"/c/{link}", "10.0.0.1:443", UP, link=to()),
    good("links", b"/c/{link}?host=esx2&token=x", "10.0.0.1:443", UP, link=to(port=443)),
    good("links", b"/c/{link}", "10.0.0.5:444", UP, link=to(host="esx1.lab", port=444), names=NAMED),
    good("links-query", b"/ticket/other?link={link}", "10.0.0.1:443", UP, link=to()),
    good("links-cookie", b"/x", "10.0.0.1:443", UP, b"Cookie: console={link}; c=d", OWN, link=to()),
    good(
        "links-subprotocol", b"/x", "10.0.0.1:443", UP, link=to(), protocol=b"esxiproxy.link.{link}, binary"
    ),
    good("links-opaque", b"/c/{link}", "10.0.0.1:443", UP, link=lambda scene: scene.opaque(to=ESX1)),
    good("links-plain", b"/c/{link}", "10.0.0.1:443", UP, link=to()),
    good(
        "links-alice",
        b"/c/{link}",
        "10.0.0.1:443",
        UP,
        b"Authorization: Basic S3cretBasic",
        link=link(to=ESX1, sub="alice"),
    ),
    good("links-alice", b"/c/{link}", "10.0.0.1:443", UP, link=to()),
    good(
        "all",
        b"/c/{link}",
        "10.0.0.1:443",
        UP,
        b"Cookie: console=S3cretCookie; c=d; esx=esx2.lab",
        OWN,
        link=to(),
    ),
    good("all", b"/h/esx2.lab/x", "10.0.0.2:8443", b"/x", b"Cookie: c=d; esx=esx1"),
    good("login", b"/x", "10.0.0.7:443", b"/x", b"Authorization: Bearer {link}", link=login()),
    good("login-cookie", b"/x", "10.0.0.7:443", b"/x", b"Cookie: login={link}; c=d", OWN, link=login()),
    good("restricted", b"/", "10.0.0.7:443", b"/"),
)
_SECRETS = ("S3cret",)
_LOCATING = (b"esx=", b"console=", b"login=", b"esxiproxy.link", b"authorization", b"host=", b"token=")


def scene_of(case, folder, http=Http.REFUSE):
    return Scene(folder, case.listener, http, case.keys, case.files, case.names, case.answers)


@pytest.mark.parametrize("case", GOOD, ids=[f"{each.listener} {n}" for n, each in enumerate(GOOD)])
def test_a_legitimate_request_opens(tmp_path, case):
    with logged() as events:
        scene = scene_of(case, tmp_path)
        octets, secrets = request(case, scene, True)
        head = scene.open(octets)
        answer_head = scene.client.received
        scene.finish()
    assert [f"{host}:{port}" for host, port in scene.dials.made] == [case.error]
    assert head.startswith(b"GET " + case.what.encode() + b" HTTP/1.1\r\n")
    fields = head.partition(b"\r\n")[2].lower()
    assert [part for part in _LOCATING if part in fields] == []
    assert (b"c=d" in fields) == any(b"c=d" in field for field in case.fields)
    assert scene.at_rest() == {} and scene.recorder.records[0].status == 101
    text = {"answer": answer_head.decode("latin-1"), "events": "\n".join(events), **scene.output()}
    for secret in (*secrets, *_SECRETS):
        assert [place for place, shown in text.items() if secret in shown] == []
        assert secret.encode() not in fields
    assert [place for place, shown in text.items() if TICKET in shown] == []


def test_every_listener_has_a_control():
    assert {case.listener for case in GOOD} | {"links-nobody", "inventory-alice"} == set(LISTENERS)


# --- addresses


@pytest.mark.parametrize("case", [each for each in GOOD if each.names], ids=lambda case: case.listener)
def test_the_dialled_address_is_the_checked_one(tmp_path, case):
    scene = scene_of(case, tmp_path)
    ((name, _found),) = case.names.items()
    scene.names.answers[name] = [("10.0.0.5",), ("127.0.0.1",), ("169.254.169.254",)]
    scene.open(request(case, scene, True)[0])
    assert scene.names.asked == [name]
    assert [host for host, _port in scene.dials.made] == ["10.0.0.5"]


def test_of_several_addresses_each_is_a_checked_one(tmp_path):
    case = next(each for each in GOOD if each.listener == "links" and each.names)
    scene = scene_of(case, tmp_path)
    scene.names.answers["esx1.lab"] = [("10.0.0.5", "10.0.0.6"), ("127.0.0.1",)]
    scene.dials.failure = UpstreamRefused("refused")
    scene.send(request(case, scene, True)[0])
    assert (scene.names.asked, scene.dials.made) == (["esx1.lab"], [("10.0.0.5", 444), ("10.0.0.6", 444)])


# --- what a link costs


def opening(scene, make, **more):
    case = good("links", b"/c/{link}", "", UP, link=make, **more)
    return request(case, scene, True)[0]


def test_a_link_opens_once_and_a_plain_request_spends_nothing(tmp_path):
    for http in Http:
        folder = tmp_path / http.value
        folder.mkdir()
        scene, make = Scene(folder, "links", http), once()
        asked = request(good("links", b"/c/{link}", "", UP, link=make), scene, False)[0]
        for method in (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE"):
            assert scene.send(asked.replace(b"GET", method, 1)).startswith(b"HTTP/1.1 426 "), method
            scene.finish()
        assert scene.dials.made == [] and scene.memory.marks == {}
        scene.open(opening(scene, make))
        scene.finish()
        assert scene.send(opening(scene, make)).startswith(b"HTTP/1.1 404 ")
        assert scene.recorder.records[-1].error == "LinkUsed"


@pytest.mark.parametrize("failure", ["refused", "denied", "unresolved"])
def test_a_failure_before_the_request_spends_no_link(tmp_path, failure):
    scene = Scene(tmp_path, "links", names={"x.lab": ((), ("192.0.2.1",), ("10.0.0.5",))})
    make = once(to={**ESX1, "host": "x.lab"})
    octets = opening(scene, make)
    if failure == "refused":
        scene.names.answers["x.lab"] = [("10.0.0.5",)]
        scene.dials.failure = UpstreamRefused("refused")
    elif failure == "denied":
        scene.names.answers["x.lab"].pop(0)
    scene.send(octets)
    assert scene.recorder.records[-1].error == f"Upstream{failure.title()}"
    assert scene.memory.marks == {}
    scene.finish()
    scene.dials.failure, scene.names.answers["x.lab"] = None, [("10.0.0.5",)]
    scene.open(octets)


@pytest.mark.parametrize("listener", ["links-query", "links-cookie", "links-subprotocol"])
def test_of_two_links_the_first_is_used_and_the_other_one_is_not_forwarded(tmp_path, listener):
    scene = Scene(tmp_path, listener)
    first, second = (link(to=ESX1, jti=name)(scene) for name in ("one", "two"))
    both = {
        "links-query": {"target": b"/x?link=%b&a=b&link=%b" % (first, second)},
        "links-cookie": {"fields": (b"Cookie: console=%b; console=%b" % (first, second),)},
        "links-subprotocol": {
            "protocol": b"esxiproxy.link.%b, binary, esxiproxy.link.%b" % (first, second),
        },
    }[listener]
    case = Attempt("", listener, **{"target": b"/x", "error": "", "status": 101, **both})
    head = scene.open(request(case, scene, True)[0])
    assert first not in head and second not in head
    assert second not in scene.client.received and len(scene.memory.marks) == 1
    scene.finish()
    assert scene.send(request(case, scene, True)[0]).startswith(b"HTTP/1.1 404 ")
    assert scene.recorder.records[-1].error == "LinkUsed"


# --- subprotocols


@pytest.mark.parametrize("prefix", [b"esxiproxy.link.", b"ESXIPROXY.LINK.", b"Esxiproxy.Link."])
def test_a_link_in_a_subprotocol_is_neither_forwarded_nor_echoed(tmp_path, prefix):
    scene = Scene(tmp_path, "links-subprotocol")
    found = link(to=ESX1)(scene)
    case = good("links-subprotocol", b"/x", "", UP, protocol=b"binary, " + prefix + found)
    head = scene.open(request(case, scene, True)[0])
    assert found not in head and b"Sec-WebSocket-Protocol: binary\r\n" in head
    assert b"Sec-WebSocket-Protocol: binary\r\n" in scene.client.received
    assert found not in scene.client.received


def test_an_upstream_cannot_choose_the_subprotocol_of_a_link(tmp_path):
    scene = Scene(tmp_path, "links-subprotocol")
    found = link(to=ESX1)(scene)
    case = good("links-subprotocol", b"/x", "", UP, protocol=b"binary, esxiproxy.link." + found)
    scene.send(request(case, scene, True)[0])
    scene.accept("esxiproxy.link." + found.decode())
    assert scene.client.received.startswith(b"HTTP/1.1 502 ") and found not in scene.client.received
    assert scene.recorder.records[0].error == "UpstreamInvalid"


@pytest.mark.parametrize("listener", ["static", "inventory", "links"])
def test_a_link_in_a_subprotocol_is_cut_whatever_router_leads(tmp_path, listener):
    scene = Scene(tmp_path, listener)
    found = link(to=ESX1)(scene)
    target = {"static": b"/ui/", "inventory": b"/h/esx1/", "links": b"/c/" + link(to=ESX1)(scene)}[listener]
    case = good(listener, target, "", UP, protocol=b"binary, esxiproxy.link." + found)
    assert found not in scene.open(request(case, scene, True)[0])


# --- identity

SPOOFED = (b"Remote-User: root", b"X-Auth-Request-User: root", b"rEMOTE-uSER: root")


def test_identity_fields_of_a_client_do_not_go_up(tmp_path):
    scene = Scene(tmp_path, "links-alice")
    case = good("links-alice", b"/c/{link}", "", UP, *SPOOFED, link=to())
    assert b"root" not in scene.open(request(case, scene, True)[0])
    assert scene.recorder.opened_sessions[0].principal.name == "alice"


def test_forwarded_fields_of_a_client_do_not_go_up(tmp_path):
    scene = Scene(tmp_path, "static")
    spoofed = [b"X-Forwarded-For: 10.9.9.9", b"X-Real-IP: 10.9.9.9", b"Forwarded: for=10.9.9.9"]
    case = good("static", b"/ui/", "", b"", *spoofed)
    head = scene.open(request(case, scene, True)[0])
    assert b"10.9.9.9" not in head and b"X-Forwarded-For: 198.51.100.7\r\n" in head


def test_identity_fields_in_trailers_do_not_go_up(tmp_path):
    scene = Scene(tmp_path, "inventory-alice", Http.FORWARD)
    scene.send(
        b"POST /h/esx1/x HTTP/1.1\r\nHost: proxy.example:81\r\nTransfer-Encoding: chunked\r\n"
        b"Trailer: Remote-User\r\nRemote-User: root\r\n\r\n"
        b"0\r\nRemote-User: root\r\nX-Other: kept\r\n\r\n"
    )
    assert b"X-Other: kept" in scene.host.received and b"root" not in scene.host.received


# --- the cookies of routers


@pytest.mark.parametrize("kind", ["console", "plain"])
def test_cookies_of_all_routers_are_cut(tmp_path, kind):
    scene = Scene(tmp_path, "all", Http.FORWARD)
    found = link(to=ESX1)(scene)
    case = good("all", b"/h/esx2.lab/x", "", b"/x", b"Cookie: esx=esx1; c=d")
    if kind == "console":
        head = scene.open(request(case, scene, True)[0])
    else:
        scene.send(request(case, scene, False)[0])
        head = scene.host.received
    assert b"Cookie: c=d\r\n" in head and found not in head
