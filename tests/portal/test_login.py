"""The login form: a new id each time, no login from another site, no redirect to one, and the logout."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from esxiproxy.core.http.head import MAX_HEAD
from esxiproxy.core.http.portal import MAX_VISITOR_FIELDS, Visitor
from esxiproxy.core.oidc import LoginAttempt
from esxiproxy.core.routing import Principal
from esxiproxy.core.sealing import key_of
from esxiproxy.portal.arrival import PortalAnswer, PortalArrival
from esxiproxy.portal.login_form import next_path, set_cookie, to_login
from esxiproxy.portal.machine_service import ApiLink
from tests.portal.scene import Portal
from tests.support.portal_machines import machine

NAME, FORM = "__Host-esxiproxy", "__Host-esxiproxy-form"


@pytest.fixture
def portal():
    return Portal()


def test_a_page_leads_to_the_form_and_the_form_to_the_page(portal):
    answer = portal.get("/vm/dc1/5012a4ab")
    assert answer.status == 303 and answer["Location"] == "/login?next=/vm/dc1/5012a4ab"
    form = portal.get(answer["Location"])
    assert form.status == 200 and b'value="/vm/dc1/5012a4ab"' in form.body and b" hidden>Account" in form.body
    answer = portal.login(wanted="/vm/dc1/5012a4ab")
    assert answer.status == 303 and answer["Location"] == "/vm/dc1/5012a4ab"
    assert portal.get("/vm/dc1/5012a4ab").status == 200
    assert portal.staff.asked == [("alice", "secret", "192.0.2.7/32")]
    assert portal.get("/login?next=/vm/x/y")["Location"] == "/vm/x/y", "there is a login already"


def test_the_cookies_are_bound_to_the_host_and_hidden_from_scripts(portal):
    portal.get("/login")
    answer = portal.login()
    (cookie,) = [each for each in answer.cookies if each.startswith(f"{NAME}=")]
    assert cookie.split("; ")[1:] == ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"]
    assert FORM not in portal.cookies, "the form is used"
    assert portal.principal().names == ("alice", "staff/alice")


def test_a_login_has_an_id_that_no_client_could_choose(portal):
    portal.cookies[NAME] = "x" * 43
    portal.login()
    first = portal.cookies[NAME]
    assert first != "x" * 43
    planted = portal.principal()
    portal.cookies[FORM] = "t" * 43
    portal.submit({"name": "alice", "password": "secret", "token": "t" * 43})
    second = portal.cookies[NAME]
    assert second != first and portal.principal() is not None
    portal.cookies[NAME] = first
    assert portal.principal() is None, "the login before has ended"
    assert portal.told[0].selector.value == planted.login == key_of(first)


@pytest.mark.parametrize(
    ("change", "fields", "status"),
    [
        ({"token": "x" * 43}, (), 403),
        ({"token": ""}, (), 403),
        ({}, (("Sec-Fetch-Site", "cross-site"),), 403),
        ({}, (("Sec-Fetch-Site", "same-site"),), 403),
        ({}, (("Origin", "https://evil.example"),), 403),
        ({}, (("Origin", "null"),), 403),
        ({}, (("Origin", "http://c.example.com"),), 403),
        ({}, (("Origin", "https://c.example.com"), ("Sec-Fetch-Site", "same-origin")), 303),
        ({}, (("Origin", "https://c.example.com:443"),), 303),
    ],
)
def test_another_site_cannot_log_a_user_in(portal, change, fields, status):
    portal.get("/login")
    form = {"name": "alice", "password": "secret", "token": portal.cookies[FORM], **change}
    answer = portal.submit(form, *fields)
    assert answer.status == status
    assert (portal.principal() is not None) == (status == 303)
    assert len(portal.staff.asked) == (1 if status == 303 else 0)


def test_a_form_without_its_cookie_or_of_another_type_is_refused(portal):
    form = {"name": "alice", "password": "secret", "token": ""}
    assert portal.submit(form).status == 403 and not portal.staff.asked
    portal.get("/login")
    body = b'{"name": "alice"}'
    assert portal.ask("POST", "/login", body=body, content_type="text/plain").status == 415
    assert (
        portal.ask(
            "POST", "/login", body=b"name=a&name=b", content_type="application/x-www-form-urlencoded"
        ).status
        == 400
    )
    assert portal.ask("DELETE", "/login").status == 405


@pytest.mark.parametrize("name", ["bob", "", "a" * 300, "a\x00b", "alice\r\n"])
def test_a_wrong_password_is_answered_alike(portal, name):
    answer = portal.login(name, "wrong")
    assert answer.status == 403 and b"The user name or the password is wrong." in answer.body
    assert portal.principal() is None and b'wrong"' not in answer.body


def test_a_network_with_too_many_failures_waits(portal):
    portal.staff.wait = 8
    answer = portal.login()
    assert answer.status == 429 and answer["Retry-After"] == "8" and b"Too many logins" in answer.body
    assert portal.principal() is None


def test_a_user_who_logs_in_too_often_waits_and_keeps_the_login(portal):
    portal.login()
    first = portal.cookies["__Host-esxiproxy"]
    portal.refuse_logins()
    portal.cookies["__Host-esxiproxy-form"] = "t" * 43  # of a form that was open in another tab
    answer = portal.login()
    assert answer.status == 429 and answer["Retry-After"] == "10"
    assert b"This user has logged in too often. Please wait" in answer.body
    assert portal.cookies["__Host-esxiproxy"] == first and portal.principal() is not None


def test_the_form_asks_the_provider_that_was_chosen():
    portal = Portal(providers=("staff", "guests"))
    assert b'<option value="guests">' in portal.get("/login").body
    portal.login(provider="guests")
    assert portal.principal().names == ("alice", "guests/alice")
    assert Portal(providers=("staff", "guests")).login(provider="nobody").status == 404


@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/a\\b",
        "/login",
        "/login?next=/",
        "/api/logout",
        "/a\r\nSet-Cookie: x=y",
        "/\u202e",
        "",
        "a",
        "/" + "a" * 2000,
    ],
)
def test_a_login_leads_to_a_page_of_the_portal_only(portal, wanted):
    assert next_path(wanted) == "/" and to_login(wanted) == "/login"
    answer = portal.login(wanted=wanted)
    assert answer.status == 303 and answer["Location"] == "/"
    assert len(answer.cookies) == 2


def test_the_form_shows_hostile_texts_as_text(portal):
    portal.get("/login")
    form = {
        "name": "<b>",
        "password": "x",
        "token": portal.cookies[FORM],
        "next": '/"><script>alert(1)</script>',
    }
    answer = portal.submit(form)
    assert b"<script" not in answer.body and b"&lt;script&gt;" in answer.body
    portal.cookies[FORM] = '"><img src=x>' + "x" * 30
    assert b"<img" not in portal.get("/login").body


def test_a_logout_ends_the_login_and_its_consoles(portal):
    portal.login()
    key = portal.principal().login
    assert portal.act("/api/logout", {}, ("Sec-Fetch-Site", "cross-site")).status == 403
    assert portal.ask("POST", "/api/logout", body=b"a=b", content_type="text/plain").status == 415
    assert portal.principal() is not None
    answer = portal.act("/api/logout", {})
    assert answer.status == 200 and answer.value == {"login": "/login"} and NAME not in portal.cookies
    (command,) = portal.told
    assert (command.selector.value, command.reason) == (key, "login ended")
    assert portal.get("/")["Location"] == "/login" and portal.act("/api/logout", {}).status == 409


def test_no_page_may_show_the_portal_in_a_frame_unless_it_is_named(portal):
    answer = portal.get("/login")
    assert (
        "frame-ancestors 'none'" in answer["Content-Security-Policy"] and answer["X-Frame-Options"] == "DENY"
    )
    assert "script-src 'self';" in answer["Content-Security-Policy"] and answer["Cache-Control"] == "no-store"
    named = Portal(embed=("https://intranet.example.com:443",)).get("/login")
    assert named["X-Frame-Options"] == []
    assert named["Content-Security-Policy"].endswith("frame-ancestors https://intranet.example.com:443")


def test_a_listener_without_a_form_says_so():
    portal = Portal(providers=())
    assert portal.get("/login").status == 401 and portal.get("/").status == 303


def test_a_user_with_many_groups_gets_the_portal_and_a_long_request_too():
    portal = Portal(machine(1))
    portal.login()
    many = replace(portal.principal(), groups=frozenset(f"CN=group {n},OU=ü" * 8 for n in range(150)))
    cookie = ("Cookie", "a=" + "b" * (MAX_HEAD - 1000))
    answer = portal.get("/api/machines", cookie, principal=many)
    assert answer.status == 200 and answer.value["total"] == 1
    transport, _ = portal.send("GET", "/api/machines", [("A", "b" * 4 * MAX_VISITOR_FIELDS)])
    assert transport.disconnecting and not transport.value()


def test_no_password_and_no_cookie_is_in_a_repr(portal):
    fields = ((b"cookie", b"__Host-esxiproxy=s3cret"),)
    visitor = Visitor("people", "192.0.2.7", Principal("alice", login="s3cret"))
    listener = portal.listener
    arrival = PortalArrival(b"POST", "/login", "code=s3cret", fields, b"password=s3cret", visitor, listener)
    answer = PortalAnswer.redirect("/", (set_cookie(b"__Host-esxiproxy", "s3cret"),))
    link = ApiLink("https://c.example.com/c/s3cret", 1.0)
    attempt = LoginAttempt("s3cret")
    shown = repr([arrival, answer, link, attempt, PortalAnswer.of({"url": link.url})])
    assert "s3cret" not in shown and "alice" in shown


def test_a_login_at_a_provider_goes_on_when_its_client_leaves(portal):
    asked, ended = [], []

    def answer(arrival):
        asked.append(arrival.path)
        return Deferred(ended.append)

    portal.root._single_sign_on = SimpleNamespace(handles=lambda path: True, answer=answer)
    _, connection = portal.send("GET", "/login/with/sso")
    connection.connectionLost(Failure(ConnectionDone()))
    assert asked == ["/login/with/sso"] and not ended, "others may wait for the same answer of the provider"
