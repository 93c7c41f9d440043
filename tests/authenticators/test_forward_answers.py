"""The authenticator `forward`: answers of its service, challenges and reauthentication."""

import pytest
from twisted.internet.defer import CancelledError, Deferred

from esxiproxy.authenticators.forward import MAX_CHALLENGES
from esxiproxy.core.errors import AccessDenied, ServiceUnavailable
from esxiproxy.core.routing import Challenge, Principal
from tests.authenticators.forward_scene import ALICE, SECRET, UPGRADE, answer, forward, request
from tests.support.outcome import result

PAGE = (b"Accept", b"text/html,application/xhtml+xml,*/*;q=0.8")
# --- answers

COOKIES = ((b"Set-Cookie", b"s=2; Path=/"), (b"Set-Cookie", b"t=3"))
PRODUCTS = {
    "Authelia": (200, (ALICE, (b"Remote-Groups", b"admins,dev"), (b"Remote-Name", b"Al"))),
    "authentik": (
        200,
        (
            (b"X-authentik-username", b"alice"),
            (b"X-authentik-groups", b"admins|dev"),
            (b"X-authentik-jwt", b"x"),
        ),
    ),
    "oauth2-proxy": (202, ((b"X-Auth-Request-User", b"alice"), (b"X-Auth-Request-Groups", b"admins, dev,"))),
    "several headers": (204, (ALICE, (b"Remote-Groups", b"admins"), (b"Remote-Groups", b"dev"))),
}


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_headers_of_a_product(tmp_path, product):
    status, fields = PRODUCTS[product]
    found, _http = forward(tmp_path, answer(status, *fields, *COOKIES), consume_cookies="s, t")
    assert result(found.authenticate(request())) == Principal(
        "alice",
        consumed=found.identity_fields | {b"authorization"},
        groups=frozenset({"admins", "dev"}),
        consumed_cookies=frozenset({b"s", b"t"}),
        response_fields=COOKIES,
    )


def test_the_first_header_of_the_list_wins(tmp_path):
    fields = (
        (b"X-Auth-Request-User", b"bob"),
        ALICE,
        (b"X-Auth-Request-Groups", b"a"),
        (b"Remote-Groups", b"b"),
    )
    found, _http = forward(tmp_path, answer(200, *fields))
    principal = result(found.authenticate(request()))
    assert (principal.name, principal.groups) == ("alice", {"b"})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((), "has to send Remote-User or X-authentik-username or X-Auth-Request-User"),
        (((b"Remote-Groups", b"a"),), "did not name the user"),
        (((b"Remote-User", b""),), "Remote-User of the login service is empty"),
        (((b"Remote-User", b""), (b"X-Auth-Request-User", b"alice")), "is empty"),
        (((b"Remote-User", b"al\tice"),), "control characters"),
        (((b"Remote-User", b"al\x00ice"),), "control characters"),
        (((b"Remote-User", "al\u202eice".encode()),), "control characters"),
        (((b"Remote-User", b"al\xff"),), "is not UTF-8"),
        (((b"Remote-User", b" alice"),), "surrounded by spaces"),
        (((b"Remote-User", b"a" * 256),), "more than 255"),
        (((b"Remote-User", b"anonymous"),), "named anonymous"),
        ((ALICE, (b"remote-user", b"bob")), "sent 2 users in Remote-User"),
        ((ALICE, (b"Remote-Groups", b"a,b\x01")), "Remote-Groups of the login service has control"),
        ((ALICE, (b"Remote-Groups", b"a|" + b"b" * 256)), "Remote-Groups of the login service has more"),
    ],
)
def test_an_answer_without_a_usable_user(tmp_path, fields, message):
    found, _http = forward(tmp_path, answer(200, *fields))
    with pytest.raises(AccessDenied, match=message):
        result(found.authenticate(request()))


def test_a_name_may_have_any_printable_characters(tmp_path):
    found, _http = forward(tmp_path, answer(200, (b"Remote-User", "J\u00fcrgen O'x, a|b".encode())))
    assert result(found.authenticate(request())).name == "J\u00fcrgen O'x, a|b"


LOGIN = (b"Location", b"https://auth.example.com/login")


@pytest.mark.parametrize("fields", [UPGRADE, (PAGE,), ()])
@pytest.mark.parametrize("status", [401, 302, 303, 307])
def test_a_client_without_a_login_is_not_known(tmp_path, status, fields):
    found, _http = forward(tmp_path, answer(status, LOGIN))
    asking = request(*fields)
    assert result(found.authenticate(asking)) is None
    assert found.challenge(asking) is None  # the redirect of the service is never passed on


def test_status_403_refuses_the_client(tmp_path):
    found, _http = forward(tmp_path, answer(403, ALICE))
    with pytest.raises(AccessDenied) as caught:
        result(found.authenticate(request()))
    assert caught.value.status_code == 403


@pytest.mark.parametrize("given", [100, 300, 301, 304, 308, 400, 404, 407, 418, 429, 500, 502, 503])
def test_another_status_is_a_failure_of_the_service(tmp_path, given):
    found, _http = forward(tmp_path, answer(given, LOGIN, ALICE))
    with pytest.raises(ServiceUnavailable) as caught:
        result(found.authenticate(request()))
    text = f"https://auth.example.com answered with status {given}, not 2xx, 401 or 403"
    assert (str(caught.value), caught.value.status_code) == (text, 502)
    assert "auth.example.com" not in caught.value.public_message


def test_a_redirect_without_a_location_is_a_failure(tmp_path):
    found, _http = forward(tmp_path, answer(302, ALICE))
    with pytest.raises(ServiceUnavailable):
        result(found.authenticate(request()))


def test_a_service_that_cannot_be_asked(tmp_path):
    found, _http = forward(tmp_path, ServiceUnavailable("it did not answer within 5 s"))
    with pytest.raises(ServiceUnavailable, match="did not answer"):
        result(found.authenticate(request()))


def test_a_cancelled_call_cancels_its_request(tmp_path):
    waiting = Deferred()
    found, _http = forward(tmp_path, waiting)
    outcome = []
    asking = Deferred.fromCoroutine(found.authenticate(request())).addErrback(outcome.append)
    asking.cancel()
    assert outcome[0].check(CancelledError)


@pytest.mark.parametrize("value", [b"a=1\rX-Evil: 1", b"a=1\nX: 1", b"a=\x00", b"a=\x7f"])
@pytest.mark.parametrize(
    ("status", "name"), [(200, b"Set-Cookie"), (401, b"WWW-Authenticate"), (401, b"Set-Cookie")]
)
def test_a_field_for_the_client_has_no_control_characters(tmp_path, status, name, value):
    found, _http = forward(tmp_path, answer(status, ALICE, (name, value)))
    with pytest.raises(ServiceUnavailable, match=f"a {name.decode()} with control characters"):
        result(found.authenticate(request()))


# --- challenges

BASIC = (b"WWW-Authenticate", b'Basic realm="site"')


def challenge(found, asking):
    assert result(found.authenticate(asking)) is None
    return found.challenge(asking)


def test_the_challenge_and_the_cookies_of_the_service_are_passed_on(tmp_path):
    found, _http = forward(tmp_path, answer(401, BASIC, COOKIES[0], ALICE))
    asking = request()
    assert challenge(found, asking) == Challenge((COOKIES[0], BASIC))
    assert found.challenge(asking) is None


def test_challenges_that_are_not_asked_for_are_bounded(tmp_path):
    found, _http = forward(tmp_path, *[answer(401, BASIC)] * (MAX_CHALLENGES + 1))
    for number in range(MAX_CHALLENGES + 1):
        result(found.authenticate(request(session=f"s{number}")))
    assert found.challenge(request(session="s0")) is None
    assert found.challenge(request(session=f"s{MAX_CHALLENGES}")) == Challenge((BASIC,))


@pytest.mark.parametrize(
    ("asking", "redirected"),
    [
        (request(PAGE), True),
        (request((b"Accept", b"TEXT/HTML")), True),
        (request((b"Accept", b"text/plain"), (b"Accept", b"a/b, text/html;q=0.1")), True),
        (request((b"Accept", b"text/html;q=0.0")), False),
        (request((b"Accept", b"*/*")), False),
        (request((b"Accept", b"application/json")), False),
        (request(), False),
        (request(PAGE, method="POST"), False),
        (request(PAGE, method="HEAD"), False),
        (request(PAGE, *UPGRADE), False),
        (request(PAGE, UPGRADE[0]), False),
        (request(PAGE, UPGRADE[2]), False),
        (request(PAGE, (b"Upgrade", b"h2c")), False),
    ],
)
def test_only_a_page_is_redirected_to_the_login(tmp_path, asking, redirected):
    url = "https://sso.example.com/?app=consoles"
    found, _http = forward(tmp_path, answer(401), login=url)
    assert challenge(found, asking) == (Challenge(((b"Location", url.encode()),)) if redirected else None)


# --- reauthentication


def remembered(found, asking):
    return found.remember(asking, result(found.authenticate(asking)))


def test_the_service_is_asked_again_with_the_same_fields(tmp_path):
    again = answer(200, ALICE, (b"Remote-Groups", b"new"), *COOKIES)
    found, http = forward(tmp_path, answer(200, ALICE), again)
    kept = remembered(found, request((b"Cookie", b"s=\xe4"), (b"Authorization", b"Basic x")))
    assert result(found.reauthenticate(kept)) == Principal("alice", groups=frozenset({"new"}))
    first, second = (how["fields"] for _method, _url, how in http.requests)
    assert first == second


def test_a_remembered_login_shows_no_secret(tmp_path):
    found, _http = forward(tmp_path, answer(200, ALICE))
    kept = remembered(found, request((b"Cookie", b"s=" + SECRET.encode())))
    assert "sealed" not in repr(kept) and "alice" in repr(kept)
    assert SECRET not in kept.sealed


@pytest.mark.parametrize(
    "given",
    [
        answer(401),
        answer(403),
        answer(302, LOGIN),
        answer(307, LOGIN),
        answer(200),
        answer(200, (b"Remote-User", b"bob")),
        answer(200, (b"Remote-User", b"anonymous")),
    ],
)
def test_a_login_that_has_ended(tmp_path, given):
    found, _http = forward(tmp_path, answer(200, ALICE), given)
    assert result(found.reauthenticate(remembered(found, request()))) is None


@pytest.mark.parametrize("given", [answer(500), answer(302), ServiceUnavailable("no answer")])
def test_a_service_that_fails_does_not_end_a_login(tmp_path, given):
    found, _http = forward(tmp_path, answer(200, ALICE), given)
    kept = remembered(found, request())
    with pytest.raises(ServiceUnavailable):
        result(found.reauthenticate(kept))
