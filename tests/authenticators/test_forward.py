"""The authenticator `forward`: requests to its service, clients that name themselves, and its section."""

from itertools import product

import pytest

from esxiproxy.authenticators.forward import TYPE, ForwardAuthenticator, Service
from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.errors import AccessDenied
from esxiproxy.core.http.fields import end_to_end
from esxiproxy.core.http.forward_auth import service_fields
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.routing import Identity, Verify
from tests.authenticators.forward_scene import ALICE, SECRET, UPGRADE, URL, answer, asked, forward, request
from tests.authenticators.token_scene import Scene
from tests.authenticators.world import problems, settings
from tests.support.outcome import result

# --- what the service is told


def test_the_service_gets_the_request_in_both_conventions(tmp_path):
    told = asked(
        tmp_path,
        request(
            (b"Cookie", b"s=1"),
            (b"Authorization", b"Basic eDp5"),
            (b"Cookie", b"t=2"),
            *UPGRADE,
            target="/ui/a?x=1&ticket=" + SECRET,
            forwarded_for=("192.0.2.7", "10.0.0.1"),
            public_host=b"public.example.com:8443",
        ),
    )
    assert told == (
        (b"X-Original-Method", b"GET"),
        (b"X-Forwarded-Method", b"GET"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Uri", b"/ui/a?x=1&ticket=***"),
        (b"X-Forwarded-For", b"192.0.2.7, 10.0.0.1"),
        (b"X-Forwarded-Host", b"public.example.com:8443"),
        (b"X-Original-URL", b"https://public.example.com:8443/ui/a?x=1&ticket=***"),
        (b"X-Real-IP", b"192.0.2.7"),
        (b"Cookie", b"s=1"),
        (b"Cookie", b"t=2"),
        (b"Authorization", b"Basic eDp5"),
    )


def test_the_service_is_asked_as_its_section_says(tmp_path):
    found, http = forward(tmp_path, answer(200, ALICE), timeout="2s", socket="auth.sock")
    result(found.authenticate(request(method="POST")))
    ((method, url, how),) = http.requests
    assert (method, url) == ("GET", URL)
    assert (how["timeout"], how["socket"], how["identity"]) == (2.0, tmp_path / "auth.sock", None)
    assert dict(how["fields"])[b"X-Forwarded-Method"] == b"POST"


def test_the_authorities_of_the_section_verify_the_service(tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text("-----BEGIN CERTIFICATE-----\n")
    found, http = forward(tmp_path, answer(200, ALICE), ca="ca.pem")
    result(found.authenticate(request()))
    assert http.requests[0][2]["identity"] == Identity(Verify.CA, ca=path)


@pytest.mark.parametrize(
    ("asking", "name", "value"),
    [
        (request(secure=False), b"X-Forwarded-Proto", b"http"),
        (request(secure=False, target="/ui/"), b"X-Original-URL", b"http://consoles.example.com/ui/"),
        (request(target="*", method="OPTIONS"), b"X-Forwarded-Uri", b"*"),
        (request(target="*", method="OPTIONS"), b"X-Original-URL", b"https://consoles.example.com"),
        (request(host=False), b"X-Forwarded-Host", None),
        (request(host=False), b"X-Original-URL", None),
        (request(client=PeerAddress("unix", 0)), b"X-Real-IP", None),
        (request(client=PeerAddress("unix", 0)), b"X-Forwarded-For", b"unknown"),
        (request(client=PeerAddress("2001:db8::1", 1)), b"X-Real-IP", b"2001:db8::1"),
        (request((b"User-Agent", b"x")), b"User-Agent", None),
        (request((b"X-Forwarded-For", b"203.0.113.9")), b"X-Forwarded-For", b"192.0.2.7"),
        (request((b"X-Original-URL", b"/public"), target="/ui/"), b"X-Forwarded-Uri", b"/ui/"),
    ],
)
def test_a_field_for_the_service(tmp_path, asking, name, value):
    assert [each for key, each in asked(tmp_path, asking) if key == name] == (
        [] if value is None else [value]
    )


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (f"/ticket/{SECRET}", "/ticket/***"),
        (f"/ticket/{SECRET}/b?x=1", "/ticket/***?x=1"),
        (f"/tick%65t/{SECRET}", "/tick***"),
        (f"/TICKET/{SECRET}", "/TICKET/***"),
        (f"/902;cst-{SECRET}", "/902;***"),
        (f"/nfc/{SECRET}/disk-0.vmdk", "/nfc/***"),
        (f"/ui?ticket={SECRET}&host=h", "/ui?ticket=***&host=h"),
        (f"/ui?%74icket={SECRET}", None),
        (f"/ui?token={SECRET}#", None),
        (f"/ui/{'a' * 2000}?ticket={SECRET}", None),
        ("/ui?" + "&".join(f"x{number}={SECRET}" for number in range(80)), None),
    ],
)
def test_no_ticket_reaches_the_service(tmp_path, target, shown):
    if "#" in target:
        target = target.replace("#", "")
    told = dict(asked(tmp_path, request(target=target)))
    assert not [value for value in told.values() if SECRET.encode() in value]
    if shown is not None:
        assert told[b"X-Forwarded-Uri"].decode() == shown
        assert told[b"X-Original-URL"].decode() == "https://consoles.example.com" + shown


@pytest.mark.parametrize(
    "target",
    [
        "/ticket/../admin",
        "/ticket/x/../../admin",
        "/ticket/%2e%2e/admin",
        "/ticket/..%2fadmin",
        "/ticket/..;/admin",
        "/ticket/..\\admin",
        "/ticket//admin",
        f"/ui/{'a' * 2000}/../../admin",
        "/t%69cket/x/%2e%2e/%2e%2e/admin",
        "//user@ticket/x",
    ],
)
def test_a_hidden_part_of_the_path_cannot_lead_elsewhere(tmp_path, target):
    found, http = forward(tmp_path, answer(200, ALICE))
    with pytest.raises(AccessDenied, match="the path is ambiguous"):
        result(found.authenticate(request(target=target)))
    assert http.requests == []


def test_a_path_that_is_shown_whole_may_be_odd(tmp_path):
    told = dict(asked(tmp_path, request(target="/folder/a%2Fb//c")))
    assert told[b"X-Forwarded-Uri"] == b"/folder/a%2Fb//c"


def test_other_fields_of_the_client_are_passed_if_the_section_names_them(tmp_path):
    fields = ((b"x-api-key", b"k"), (b"Cookie", b"c=1"), (b"Authorization", b"Basic x"))
    found, http = forward(tmp_path, answer(200, ALICE), headers="X-Api-Key, Accept")
    principal = result(found.authenticate(request(*fields)))
    passed = http.requests[0][2]["fields"]
    assert (b"X-Api-Key", b"k") in passed
    assert not {b"Cookie", b"Authorization", b"Accept"} & {name for name, _value in passed}
    assert b"authorization" not in principal.consumed


# --- a client that names itself

NAMES = ["Remote-User", "X-authentik-username", "X-Auth-Request-User"]
NAMES += ["Remote-Groups", "X-authentik-groups", "X-Auth-Request-Groups"]


def every_spelling(name):
    first, *parts = name.split("-")
    for separators in product("-_", repeat=len(parts)):
        spelling = first + "".join(each + part for each, part in zip(separators, parts, strict=True))
        yield from (spelling, spelling.lower(), spelling.upper())


@pytest.mark.parametrize("name", [spelling for name in NAMES for spelling in every_spelling(name)])
def test_a_client_cannot_name_itself(tmp_path, name):
    asking = request((name.encode(), b"root"), (b"X-Other", b"1"))
    found, http = forward(tmp_path, answer(200, ALICE), answer(401), answer(200))
    principal = result(found.authenticate(asking))
    assert (principal.name, principal.groups) == ("alice", frozenset())
    assert b"root" not in [value for _name, value in http.requests[0][2]["fields"]]
    assert name.lower().encode() in found.identity_fields & principal.consumed
    upstream = end_to_end(asking.head.fields, principal.consumed)
    assert [key for key, _value in upstream] == [b"Host", b"X-Other"]
    assert result(found.authenticate(asking)) is None
    with pytest.raises(AccessDenied):
        result(found.authenticate(asking))


def test_the_names_of_the_section_are_identity_fields(tmp_path):
    found, _http = forward(tmp_path, user="X-My_User", groups="Roles")
    assert found.identity_fields == {b"x-my-user", b"x_my-user", b"x-my_user", b"x_my_user", b"roles"}


# --- the section


def test_the_defaults(tmp_path):
    found = settings(TYPE, tmp_path, url=URL)
    assert found["user"] == ("Remote-User", "X-authentik-username", "X-Auth-Request-User")
    assert found["groups"] == ("Remote-Groups", "X-authentik-groups", "X-Auth-Request-Groups")
    assert found["headers"] == (b"Cookie", b"Authorization")
    assert (found["timeout"], found["reauthenticate_grace"]) == (5.0, 900.0)
    assert [found[key] for key in ("ca", "socket", "login", "consume_cookies", "reauthenticate")] == [
        None
    ] * 5
    assert problems(TYPE, tmp_path, url=URL) == []
    assert TYPE.create(found, Scene().context).ambient is True
    assert isinstance(TYPE.create(found, Scene().context), ForwardAuthenticator)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("url", "ftp://h/", "is no URL"),
        ("url", "auth.example.com/x", "is no URL"),
        ("url", "https:///x", "is no URL"),
        ("url", "https://h:99999/", "is no URL"),
        ("url", "https://h/a b", "is no URL"),
        ("url", "https://h/\u00fc", "is no URL"),
        ("url", "https://[::1/", "is no URL"),
        ("url", "https://me:pw@h/", "a user name or a password"),
        ("url", "https://h/{path}", "it is no template"),
        ("url", "https://h/#a", "fragment"),
        ("login", "/login", "is no URL"),
        ("user", "Remote User", "is no name of a header"),
        ("user", "", "is no name of a header"),
        ("user", "a-b-c-d-e-f-g-h-i-j", "more than 8 hyphens"),
        ("user", "Host", "is a header of HTTP itself"),
        ("groups", "X_Forwarded_For", "is a header of HTTP itself"),
        ("groups", "Sec-WebSocket-Key", "is a header of HTTP itself"),
        ("user", ",".join(f"x{number}" for number in range(17)), "16 are the most"),
        ("headers", "Connection", "is not passed from the client"),
        ("headers", "X-Forwarded-User", "is not passed from the client"),
        ("headers", "x_original_url", "is not passed from the client"),
        ("headers", "Cookie, Host", "is not passed from the client"),
        ("consume_cookies", "a b", "is no name of a cookie"),
        ("timeout", "soon", "soon"),
    ],
)
def test_a_bad_value(tmp_path, key, value, message):
    known = {each.name: each for each in TYPE.keys}[key]
    with pytest.raises(BadValue, match=message):
        known.type.parse(value, tmp_path)


def test_the_conflicts(tmp_path):
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    found = problems(
        TYPE, tmp_path, url="http://h/", ca="ca.pem", headers="Cookie, remote_user, X-Auth-Request_Groups"
    )
    assert [key for key, _text in found] == ["ca", "headers", "headers"]
    assert "a client could name itself" in found[1][1]


def test_no_query_of_the_service_shows():
    assert "u1" not in repr(Service(URL, (), ()))


def test_the_service_learns_no_link_and_no_token_of_the_routers(tmp_path):
    """The listener's routers declare the places of these secrets in a request."""
    places = (("path", b"/c/"), ("query", b"key"), ("cookie", b"link"))
    secret = "Zm9vYmFyYmF6cXV4MTIzNA"
    for target in (f"/c/{secret}", f"/ui/?a=1&key={secret}"):
        sent = request((b"Cookie", f"a=1; link={secret}; b=2".encode()), target=target, secrets=places)
        fields = service_fields(sent, (b"Cookie",))
        assert not any(secret.encode() in value for _name, value in fields), target
        assert dict(fields)[b"Cookie"] == b"a=1; b=2"
