"""A login at a provider of OpenID Connect: discovery, code with PKCE, ID token, back-channel logout."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import parse_qs, urlsplit

import oidc_provider_mock
import pytest

from esxiproxy.authenticators import jwt
from esxiproxy.authenticators.oidc import DISCOVERY_AGE, RETRY_INTERVAL, TYPE, OidcProvider
from esxiproxy.core.config.key import SectionKind
from esxiproxy.core.config.plugin_type import Names, settings_of
from esxiproxy.core.errors import AccessDenied, ServiceUnavailable
from esxiproxy.core.login_token import InvalidToken
from esxiproxy.core.oidc import InvalidProvider, LoginAttempt, ProviderMetadata
from esxiproxy.interfaces import Answer
from esxiproxy.plugins import BadValue
from tests.authenticators.token_scene import (
    ED,
    ISSUER,
    KEYS,
    NOW,
    OTHER_RSA,
    RSA,
    Scene,
    claims,
    compact,
    result,
    token,
)

BACK = "https://c.example.com/login/callback"
CLIENT = "consoles"
DOCUMENT = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize?tenant=a",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/jwks",
}
ATTEMPT = LoginAttempt("s" * 43)
EVENT = {"http://schemas.openid.net/event/backchannel-logout": {}}


def document(**changes: Any) -> bytes:
    return json.dumps({**DOCUMENT, **changes}).encode()


def id_token(**changes: Any) -> bytes:
    return token(**{"nonce": ATTEMPT.nonce, "groups": ["ops"], "sid": "s-1", **changes})


def logout_token(key: Any = RSA, kind: str = "logout+jwt", **changes: Any) -> bytes:
    header = {"alg": "RS256", "typ": kind, "kid": "rsa"}
    return compact(header, claims(**{"events": EVENT, "sid": "s-1", **changes}), key)


@pytest.fixture
def make(tmp_path: Any) -> Any:
    """Return a provider whose HTTP client gives these answers, and its scene."""
    (tmp_path / "secret").write_text("s3cret&more\n")

    def make(*answers: Any, **texts: str) -> tuple[OidcProvider, Scene]:
        scene = Scene(*answers)
        settings = settings_of(
            TYPE,
            SectionKind.AUTHENTICATOR,
            {"issuer": ISSUER, "client_id": CLIENT, "client_secret_file": "secret", **texts},
            tmp_path,
            "authenticator sso",
        )
        return OidcProvider(settings, scene.context, lambda: NOW), scene

    return make


def tokens(made: bytes) -> Answer:
    return Answer(200, (), json.dumps({"access_token": "x", "id_token": made.decode()}).encode())


def test_a_user_is_sent_to_the_provider_with_a_challenge(make: Any) -> None:
    provider, scene = make(document())
    url = urlsplit(result(provider.authorization_url(ATTEMPT, BACK)))
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert url._replace(query="").geturl() == f"{ISSUER}/authorize"
    digest = hashlib.sha256(ATTEMPT.verifier.encode()).digest()
    assert query == {
        "tenant": "a",
        "response_type": "code",
        "client_id": CLIENT,
        "redirect_uri": BACK,
        "scope": "openid profile",
        "state": ATTEMPT.state,
        "nonce": ATTEMPT.nonce,
        "code_challenge": urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    assert len({ATTEMPT.state, ATTEMPT.nonce, ATTEMPT.verifier, ATTEMPT.secret}) == 4
    assert ATTEMPT.secret not in repr(ATTEMPT) and 43 <= len(ATTEMPT.verifier) <= 128
    result(provider.authorization_url(ATTEMPT, BACK))
    assert len(scene.http.requests) == 1, "the document is kept"
    scene.clock.advance(DISCOVERY_AGE)
    scene.http.answers.append(ServiceUnavailable("down"))
    assert result(provider.authorization_url(ATTEMPT, BACK)), "the endpoints before stay"


def test_the_code_is_exchanged_for_the_user(make: Any) -> None:
    provider, scene = make(document(), tokens(id_token()), KEYS)
    found = result(provider.identity("c", ATTEMPT, BACK))
    assert (found.login.name, found.login.groups) == ("alice", {"ops"})
    assert (found.subject, found.session) == ("alice", "s-1")
    method, url, how = scene.http.requests[1]
    assert (method, url) == ("POST", f"{ISSUER}/token")
    form = {name: values[0] for name, values in parse_qs(how["body"].decode()).items()}
    assert form == {
        "grant_type": "authorization_code",
        "code": "c",
        "redirect_uri": BACK,
        "code_verifier": ATTEMPT.verifier,
    }
    assert dict(how["fields"])[b"Authorization"] == b"Basic Y29uc29sZXM6czNjcmV0JTI2bW9yZQ=="
    post = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    provider, scene = make(
        document(**post), tokens(id_token(preferred_username="al")), KEYS, user_claim="preferred_username"
    )
    assert result(provider.identity("c", ATTEMPT, BACK)).login.name == "al"
    how = scene.http.requests[1][2]
    assert b"Authorization" not in dict(how["fields"]) and b"client_secret=s3cret%26more" in how["body"]


@pytest.mark.parametrize(
    "made",
    [
        id_token(nonce="other"),
        id_token(nonce=None),
        id_token(iss="https://evil.example"),
        id_token(aud="other"),
        id_token(aud=["consoles", "other"], azp="other"),
        id_token(exp=NOW - 60),
        id_token(exp=None),
        id_token(iat=None),
        id_token(sub=""),
        id_token(sub="anonymous"),
        id_token(sub="a\u202eb"),
        id_token(key=OTHER_RSA),
        id_token(key=ED, alg="EdDSA"),
        compact({"alg": "RS256", "typ": "at+jwt", "kid": "rsa"}, claims(nonce=ATTEMPT.nonce)),
        compact({"alg": "HS256", "typ": "JWT", "kid": "rsa"}, claims(nonce=ATTEMPT.nonce), b"x" * 32),
        logout_token(nonce=ATTEMPT.nonce),
        b"x",
        b"a.b.c",
    ],
)
def test_a_token_of_another_login_or_issuer_is_refused(make: Any, made: bytes) -> None:
    provider, _ = make(document(), tokens(made), KEYS, KEYS)
    with pytest.raises(AccessDenied) as caught:
        result(provider.identity("c", ATTEMPT, BACK))
    assert made.decode() not in str(caught.value) or len(made) < 9


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(400, (), b'{"error": "invalid_grant"}'), AccessDenied),
        (Answer(401, (), b""), AccessDenied),
        (Answer(500, (), b""), ServiceUnavailable),
        (Answer(200, (), b"[]"), AccessDenied),
        (Answer(200, (), b"{}"), AccessDenied),
        (ServiceUnavailable("no answer"), ServiceUnavailable),
    ],
)
def test_an_answer_without_a_token_is_a_failure(make: Any, answer: Any, error: Any) -> None:
    provider, _ = make(document(), answer)
    with pytest.raises(error):
        result(provider.identity("c", ATTEMPT, BACK))
    with pytest.raises(AccessDenied):
        result(provider.identity("", ATTEMPT, BACK))


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"[]",
        document(issuer=f"{ISSUER}/"),
        document(token_endpoint="http://sso.example.com/token"),
        document(jwks_uri=None),
        document(authorization_endpoint="javascript:alert(1)"),
        document(authorization_endpoint="https://[x/"),
        document(token_endpoint="https://a\r\nb/"),
    ],
)
def test_a_bad_document_is_refused(make: Any, octets: bytes) -> None:
    with pytest.raises(InvalidProvider):
        ProviderMetadata.read(octets, ISSUER)
    provider, scene = make(octets)
    for _ in range(3):
        with pytest.raises(ServiceUnavailable, match="well-known"):
            result(provider.authorization_url(ATTEMPT, BACK))
    assert len(scene.http.requests) == 1, "a flood of logins is no flood of requests"
    scene.clock.advance(RETRY_INTERVAL)
    scene.http.answers.append(document())
    assert result(provider.authorization_url(ATTEMPT, BACK))


def test_a_logout_token_names_a_subject_or_a_session(make: Any) -> None:
    provider, _ = make(document(), KEYS)
    assert result(provider.ended(logout_token())) == ("alice", "s-1")
    assert result(provider.ended(logout_token(sub=None, kind="JWT"))) == ("", "s-1")


@pytest.mark.parametrize(
    "made",
    [
        logout_token(events=None),
        logout_token(events={}),
        logout_token(events=[]),
        logout_token(nonce="n"),
        logout_token(sub=None, sid=None),
        logout_token(aud="other"),
        logout_token(iss="https://evil.example"),
        logout_token(exp=NOW - 60),
        logout_token(iat=None),
        logout_token(key=OTHER_RSA),
        id_token(),
        b"",
    ],
)
def test_another_token_ends_nothing(make: Any, made: bytes) -> None:
    provider, _ = make(document(), KEYS, KEYS)
    with pytest.raises(InvalidToken):
        result(provider.ended(made))


def test_check_names_mistakes(tmp_path: Any, make: Any) -> None:
    for text in ("http://sso.example.com", "https://u@h", "https://h?x", "x", "https://[h", "https://h/ü"):
        with pytest.raises(BadValue):
            make(issuer=text)
    with pytest.raises(BadValue, match="openid"):
        make(scopes="profile")
    assert make(issuer="http://localhost:9000", scopes="openid, email")[0]._scopes == ("openid", "email")
    (tmp_path / "empty").write_text("\n")
    for name, problem in (("empty", "has no secret"), ("missing", "cannot be read")):
        settings = settings_of(
            TYPE,
            SectionKind.AUTHENTICATOR,
            {"issuer": ISSUER, "client_id": CLIENT, "client_secret_file": name},
            tmp_path,
        )
        ((key, text),) = TYPE.conflicts(settings, Names())
        assert key == "client_secret_file" and problem in text


@pytest.mark.parametrize("plugin", [TYPE, jwt.TYPE], ids=lambda plugin: plugin.name)
def test_a_missing_package_is_named(tmp_path: Any, monkeypatch: Any, plugin: Any) -> None:
    monkeypatch.setitem(sys.modules, "jwt", None)
    (tmp_path / "secret").write_text("x")
    texts = {
        "oidc": {"client_id": CLIENT, "client_secret_file": "secret"},
        "jwt": {"keys": "keys", "audience": "consoles"},
    }
    section = {"issuer": ISSUER, **texts[plugin.name]}
    found = plugin.conflicts(settings_of(plugin, SectionKind.AUTHENTICATOR, section, tmp_path), Names())
    text = f"the type {plugin.name} needs the package PyJWT: pip install 'esxiproxy[auth]'"
    assert list(found) == [("type", text)]


class MockHttp:
    """The HTTP client of a provider that this project did not write, in this process."""

    def __init__(self) -> None:
        self.site = oidc_provider_mock.app().test_client()

    async def request(self, method: str, url: str, **how: Any) -> Answer:
        parts = urlsplit(url)
        answer = self.site.open(
            f"{parts.path}?{parts.query}",
            method=method,
            base_url=f"{parts.scheme}://{parts.netloc}",
            headers=[(name.decode(), value.decode()) for name, value in how["fields"]],
            data=how.get("body"),
        )
        return Answer(answer.status_code, (), answer.get_data())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_provider_of_others_logs_a_user_in(make: Any) -> None:
    provider, scene = make(issuer="http://localhost")
    object.__setattr__(scene.context, "http", MockHttp())
    provider._time_of_day = time.time
    url = urlsplit(result(provider.authorization_url(ATTEMPT, BACK)))
    site = scene.context.http.site
    answer = site.post(f"{url.path}?{url.query}", data={"sub": "alice@example.com"})
    back = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert back["state"] == [ATTEMPT.state]
    found = result(provider.identity(back["code"][0], ATTEMPT, BACK))
    assert found.login.name == found.subject == "alice@example.com"
    with pytest.raises(AccessDenied):
        result(provider.identity(back["code"][0], ATTEMPT, BACK))
