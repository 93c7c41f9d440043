"""Logins at a provider of OpenID Connect: the way there and back, other sites, and the provider's logout."""

from types import SimpleNamespace
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from esxiproxy.core.errors import AccessDenied, ServiceUnavailable
from esxiproxy.core.login_token import InvalidToken, TokenLogin
from esxiproxy.core.oidc import OidcIdentity
from tests.portal.scene import DAY, Portal

NAME, ATTEMPT = "__Host-esxiproxy", "__Host-esxiproxy-attempt"


class Sso:
    """A provider that knows alice by the code `good`."""

    issuer = "https://id.example.com"

    def __init__(self):
        self.asked, self.fails, self.ends = [], None, ("alice-1", "")

    async def authorization_url(self, attempt, redirect):
        if self.fails:
            raise self.fails
        return f"{self.issuer}/authorize?{urlencode({'state': attempt.state, 'redirect_uri': redirect})}"

    async def identity(self, code, attempt, redirect):
        self.asked.append((code, attempt.secret, redirect))
        if code != "good":
            raise AccessDenied("the token has another nonce")
        return OidcIdentity(TokenLogin("alice", frozenset({"ops"}), DAY + 60), "alice-1", "s-1")

    async def ended(self, token):
        if token != b"good":
            raise InvalidToken("the token is no logout token")
        return self.ends


@pytest.fixture
def sso():
    return Sso()


@pytest.fixture
def portal(sso):
    return Portal(sso=sso)


def begin(portal, wanted="/vm/dc1/x"):
    """Go to the provider, and return the state with which it sends the browser back."""
    answer = portal.get(f"/login/with/sso?next={wanted}")
    assert answer.status == 303 and answer["Location"].startswith("https://id.example.com/authorize?")
    query = parse_qs(urlsplit(answer["Location"]).query)
    assert query["redirect_uri"] == ["https://c.example.com/login/callback"]
    return query["state"][0]


def back(portal, state, code="good", **more):
    return portal.get("/login/callback?" + urlencode({"state": state, "code": code, **more}))


def test_a_user_logs_in_at_the_provider(portal, sso):
    form = portal.get("/login?next=/vm/dc1/x")
    assert b'href="/login/with/sso?next=/vm/dc1/x">Log in with sso</a>' in form.body
    answer = portal.get("/login/with/sso?next=/vm/dc1/x")
    (cookie,) = answer.cookies
    assert cookie.startswith(f"{ATTEMPT}=") and "; Secure; HttpOnly; SameSite=Lax" in cookie
    assert portal.cookies[ATTEMPT].partition(".")[0] not in answer["Location"]
    state = parse_qs(urlsplit(answer["Location"]).query)["state"][0]
    answer = back(portal, state, iss=sso.issuer)
    assert answer.status == 303 and answer["Location"] == "/vm/dc1/x" and ATTEMPT not in portal.cookies
    principal = portal.principal()
    assert principal.names == ("alice", "sso/alice") and principal.groups == {"ops"}
    assert sso.asked[0][2] == "https://c.example.com/login/callback"
    assert back(portal, state).status == 403, "the attempt is over"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"state": "x" * 64}, 403),
        ({"state": ""}, 403),
        ({"code": "bad"}, 403),
        ({"code": ""}, 403),
        ({"iss": "https://evil.example"}, 403),
        ({"error": "access_denied"}, 403),
    ],
)
def test_another_way_back_is_no_login(portal, change, status):
    state = begin(portal)
    answer = back(portal, **{"state": state, **change})
    assert answer.status == status and NAME not in portal.cookies and ATTEMPT not in portal.cookies
    assert b"Log in with sso" in answer.body and b"evil" not in answer.body


def test_logins_that_fail_are_slowed_down(portal, sso):
    for _ in range(5):
        assert back(portal, begin(portal), "bad").status == 403
    answer = back(portal, begin(portal))
    assert answer.status == 429 and int(answer["Retry-After"]) > 0 and len(sso.asked) == 5
    portal.clock.advance(3)
    assert back(portal, begin(portal)).status == 303


def test_a_user_who_logs_in_too_often_waits(portal):
    portal.refuse_logins("sso/alice")
    answer = back(portal, begin(portal))
    assert answer.status == 429 and answer["Retry-After"] == "10" and b"logged in too often" in answer.body
    assert NAME not in portal.cookies and ATTEMPT not in portal.cookies


def test_a_browser_that_has_begun_nothing_gets_no_login(portal, sso):
    state = begin(portal)
    victim = Portal(sso=sso)
    assert back(victim, state).status == 403 and not sso.asked
    victim.cookies[ATTEMPT] = "x"
    assert back(victim, state).status == 403 and not sso.asked
    assert portal.ask("POST", "/login/callback", body={}).status == 405


@pytest.mark.parametrize(
    "wanted", ["//evil.example", "https://evil.example", "/\\evil", "/login", "/%0d%0aX:y"]
)
def test_the_provider_leads_to_a_page_of_the_portal_only(portal, wanted):
    assert back(portal, begin(portal, wanted))["Location"] == "/"
    state = begin(portal)
    secret = portal.cookies[ATTEMPT].partition(".")[0]
    portal.cookies[ATTEMPT] = f"{secret}.sso.Ly9ldmls"  # //evil
    assert back(portal, state)["Location"] == "/"


def test_the_login_before_ends(portal):
    portal.login()
    first = portal.cookies[NAME]
    assert back(portal, begin(portal)).status == 303
    assert portal.cookies[NAME] != first and [command.reason for command in portal.told] == ["login ended"]


def test_a_provider_that_does_not_answer_has_a_sentence(portal, sso):
    sso.fails = ServiceUnavailable("https://id.example.com did not answer within 8 s")
    answer = portal.get("/login/with/sso")
    assert answer.status == 502 and b"did not answer" in answer.body and b"8 s" not in answer.body
    assert portal.get("/login/with/staff").status == 404 and portal.get("/login/with/other").status == 404
    only = Portal(sso=sso, providers=())
    assert b'<form method="post" action="/login" hidden>' in only.get("/login").body


def logout(portal, name="sso", token="good"):
    body = urlencode({"logout_token": token}).encode()
    return portal.ask(
        "POST",
        f"/login/logout/{name}",
        body=body,
        principal=None,
        content_type="application/x-www-form-urlencoded",
    )


@pytest.mark.parametrize(
    ("ends", "is_ended"),
    [(("alice-1", ""), True), (("", "s-1"), True), (("alice-1", "s-2"), False), (("bob", ""), False)],
)
def test_the_provider_ends_a_login(portal, sso, ends, is_ended):
    back(portal, begin(portal))
    sso.ends = ends
    assert logout(portal).status == 200
    assert (portal.principal() is None) == is_ended
    assert [command.selector.kind.value for command in portal.told] == ["login"] * is_ended


def test_no_other_client_ends_a_login(portal):
    back(portal, begin(portal))
    assert logout(portal, token="bad").status == 400 and logout(portal, "staff").status == 404
    assert portal.get("/login/logout/sso").status == 405
    assert portal.ask("POST", "/login/logout/sso", body={}, principal=None).status == 415
    other = Portal(sso=SimpleNamespace(issuer="x"))
    other.login()
    assert other.principal() is not None and portal.principal() is not None and not portal.told
