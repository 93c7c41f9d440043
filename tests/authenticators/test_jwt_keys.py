"""Keys from a URL: when they are fetched, how requests share a fetch, and what stays when one fails."""

from pathlib import Path

import pytest

pytest.importorskip("jwt")

from twisted.internet.defer import Deferred

from esxiproxy.authenticators.jwt import TYPE, JwtAuthenticator
from esxiproxy.authenticators.jwt_keys import KeySetUrl
from esxiproxy.core.config.key import SectionKind
from esxiproxy.core.config.plugin_type import settings_of
from esxiproxy.core.errors import AccessDenied, ServiceUnavailable
from esxiproxy.core.login_token import TokenRules
from esxiproxy.core.routing import Identity, Verify
from esxiproxy.interfaces import Answer
from tests.authenticators.token_scene import (
    ALLOWED,
    AUDIENCE,
    EC,
    ISSUER,
    KEYS,
    NOW,
    OTHER_RSA,
    RSA,
    Scene,
    bearer,
    jwk,
    jwks,
    token,
)
from tests.support.outcome import result

URL = "https://sso.example.com/keys?p=policy"
NEW_KEYS = jwks(jwk(EC, "new"))
NEW_TOKEN = token(EC, "ES256", "new")


class Live(Scene):
    """An authenticator with keys from a URL."""

    def __init__(self, *answers, previous=None):
        super().__init__(*answers)
        self.source = KeySetUrl(URL, None, ALLOWED, self.context, previous)
        rules = TokenRules(ISSUER, AUDIENCE)
        self.authenticator = JwtAuthenticator(self.source, rules, ALLOWED, time_of_day=lambda: NOW)

    def login(self, sent=None):
        return result(self.authenticator.authenticate(bearer(sent or token()))).name

    def begin(self, sent=None):
        """Start a login, and return the list of its outcome and the Deferred."""
        found = []
        waiting = Deferred.fromCoroutine(self.authenticator.authenticate(bearer(sent or token())))
        waiting.addBoth(found.append)
        return found, waiting

    @property
    def fetches(self):
        return len(self.http.requests)


def test_the_document_is_fetched_at_the_first_need():
    live = Live(KEYS)
    result(live.authenticator.ready())
    assert result(live.authenticator.authenticate(bearer(b"opaque"))) is None
    assert live.fetches == 0
    assert live.login() == live.login() == "alice"
    ((method, url, how),) = live.http.requests
    assert (method, url, how["identity"], how["timeout"], how["max_body"]) == (
        "GET",
        URL,
        None,
        5.0,
        256 * 1024,
    )


def test_a_token_that_is_refused_without_keys_fetches_nothing():
    live = Live()
    with pytest.raises(AccessDenied, match="not allowed"):
        live.login(token(alg="RS512"))
    assert live.fetches == 0


def test_the_document_is_fetched_again_after_ten_minutes():
    live = Live(KEYS, NEW_KEYS)
    live.login()
    live.clock.advance(599)
    live.login()
    assert live.fetches == 1
    live.clock.advance(1)
    with pytest.raises(AccessDenied, match="not known"):
        live.login()
    assert (live.fetches, live.login(NEW_TOKEN)) == (2, "alice")


def test_an_unknown_key_is_looked_for_every_thirty_seconds_at_most():
    live = Live(KEYS, KEYS, NEW_KEYS)
    live.login()
    live.clock.advance(29)
    for fetches in (1, 1):
        with pytest.raises(AccessDenied, match="not known"):
            live.login(NEW_TOKEN)
        assert live.fetches == fetches
    live.clock.advance(1)
    for _ in range(100):
        with pytest.raises(AccessDenied, match="not known"):
            live.login(NEW_TOKEN)
    assert live.fetches == 2
    live.clock.advance(30)
    assert (live.login(NEW_TOKEN), live.fetches) == ("alice", 3)


def test_concurrent_requests_share_a_fetch():
    answer = Deferred()
    live = Live(answer)
    waiting = [live.begin()[0] for _ in range(50)] + [live.begin(NEW_TOKEN)[0]]
    assert live.fetches == 1 and not any(waiting)
    answer.callback(Answer(200, (), KEYS))
    assert [each[0].name for each in waiting[:-1]] == ["alice"] * 50
    assert waiting[-1][0].check(AccessDenied) and live.fetches == 1


def test_a_client_that_disconnects_does_not_end_the_fetch_of_others():
    answer = Deferred()
    live = Live(answer)
    (_gone, leaving), (stays, _) = live.begin(), live.begin()
    leaving.addErrback(lambda _failure: None)
    leaving.cancel()
    answer.callback(Answer(200, (), KEYS))
    assert stays[0].name == "alice" and live.fetches == 1


FAILURES = {
    "no answer": (ServiceUnavailable("sso.example.com did not answer"), "did not answer"),
    "a redirect": (Answer(302, ((b"location", b"https://evil.example.com"),), b""), "status 302"),
    "an error": (Answer(503, (), KEYS), "status 503"),
    "no JSON": (b"<html>", "no JSON"),
    "no usable key": (jwks(jwk(EC, None)), "has no kid"),
    "only a secret": (jwks(jwk(b"x" * 32, "s")), "HS256 is not allowed"),
    "too large": (b" " * (256 * 1024 + 1), "larger than"),
    "a bug": (RuntimeError("a bug"), "see the log"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_fetch_keeps_the_old_keys(name):
    answer, reason = FAILURES[name]
    live = Live(KEYS, answer, answer, NEW_KEYS)
    live.login()
    live.clock.advance(600)
    assert live.login() == live.login() == "alice"
    assert live.fetches == 2
    assert reason == "see the log" or ("old ones stay" in live.lines[-1] and reason in live.lines[-1])
    assert "policy" not in "".join(live.lines)
    live.clock.advance(29)
    assert (live.login(), live.fetches) == ("alice", 2)
    live.clock.advance(1)
    assert (live.login(), live.fetches) == ("alice", 3)
    live.clock.advance(30)
    assert (live.login(NEW_TOKEN), live.fetches) == ("alice", 4)


@pytest.mark.parametrize("name", FAILURES)
def test_without_any_keys_the_service_is_unavailable(name):
    answer, reason = FAILURES[name]
    live = Live(answer, KEYS)
    for _ in range(3):
        with pytest.raises(ServiceUnavailable, match=reason):
            live.login()
    assert live.fetches == 1
    live.clock.advance(5)
    assert (live.login(), live.fetches) == ("alice", 2)


def test_a_login_ends_when_its_key_is_withdrawn():
    live = Live(KEYS, ServiceUnavailable("no answer"), jwks(jwk(OTHER_RSA, "rsa")))
    principal = result(live.authenticator.authenticate(bearer(token())))
    remembered = live.authenticator.remember(bearer(token()), principal)
    live.clock.advance(600)
    assert result(live.authenticator.reauthenticate(remembered)) is principal
    live.clock.advance(30)
    assert result(live.authenticator.reauthenticate(remembered)) is None


def test_a_skipped_key_is_named():
    live = Live(jwks(jwk(RSA, "rsa"), jwk(OTHER_RSA, "e", use="enc")))
    live.login()
    assert live.lines == [
        "[authenticator sso] skips a key of https://sso.example.com/keys: key 'e': its use is not sig"
    ]


def test_a_reload_keeps_the_keys_of_the_same_url():
    before = Live(KEYS)
    before.login()
    after = Live(previous=before.source)
    assert (after.login(), after.fetches) == ("alice", 0)
    other = KeySetUrl("https://other.example.com/keys", None, ALLOWED, before.context, before.source)
    assert other.loaded is None


def test_a_section_fetches_with_its_authorities(tmp_path):
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    texts = {"keys": URL, "issuer": ISSUER, "audience": AUDIENCE, "ca": "ca.pem"}
    settings = settings_of(TYPE, SectionKind.AUTHENTICATOR, texts, tmp_path)
    scene = Scene(KEYS)
    with pytest.raises(AccessDenied, match="expired"):
        result(TYPE.create(settings, scene.context).authenticate(bearer(token(exp=1))))
    ((_method, url, how),) = scene.http.requests
    assert (url, how["identity"]) == (URL, Identity(Verify.CA, ca=Path(tmp_path / "ca.pem")))
    again = Scene(previous=TYPE.create(settings, scene.context))
    assert TYPE.create(settings, again.context).source.loaded is None
