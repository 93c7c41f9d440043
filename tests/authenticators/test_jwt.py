"""The authenticator `jwt`: attacks on tokens, the places of a token, names and groups, and running logins."""

import sys
import time
from contextlib import suppress
from dataclasses import replace
from urllib.parse import parse_qs, urlencode, urlsplit

import oidc_provider_mock
import pytest

jwt = pytest.importorskip("jwt")


from esxiproxy.authenticators.jwt import BEARER, TYPE, JwtAuthenticator  # noqa: E402
from esxiproxy.authenticators.jwt_keys import KeySetFile, KeySetUrl  # noqa: E402
from esxiproxy.core.config.errors import BadValue, ConfigError  # noqa: E402
from esxiproxy.core.config.key import SectionKind  # noqa: E402
from esxiproxy.core.config.loader import load  # noqa: E402
from esxiproxy.core.config.plugin_type import settings_of  # noqa: E402
from esxiproxy.core.errors import AccessDenied, ServiceUnavailable  # noqa: E402
from esxiproxy.core.login_token import TokenRules  # noqa: E402
from esxiproxy.core.routing import Principal  # noqa: E402
from esxiproxy.routers.static import TYPE as STATIC  # noqa: E402
from tests.authenticators.token_scene import (  # noqa: E402
    ALLOWED,
    AUDIENCE,
    EC,
    ED,
    ISSUER,
    KEYS,
    NOW,
    OTHER_RSA,
    PUBLIC_PEM,
    RSA,
    SECRET,
    Scene,
    b64,
    bearer,
    claims,
    compact,
    header,
    hs256,
    jwk,
    jwks,
    make,
    request,
    token,
)
from tests.support.growth import grows  # noqa: E402
from tests.support.outcome import result  # noqa: E402
from tests.support.plugin_types import types  # noqa: E402

NO_TOKENS = {
    "no field": request(),
    "another scheme": request((b"Authorization", b"Basic dXNlcjpwYXNz")),
    "Bearer alone": request((b"Authorization", b"Bearer")),
    "an opaque token": bearer(b"8xLOxBtZp8"),
    "two parts": bearer(token().rpartition(b".")[0]),
    "four parts": bearer(token() + b".e30"),
    "an encrypted token": bearer(b"e30.a.b.c.d"),
    "padding": bearer(token() + b"=="),
    "white space inside": bearer(token().replace(b".", b" .", 1)),
    "a tab inside": bearer(token().replace(b".", b".\t", 1)),
    "two tokens": bearer(token() + b", " + token()),
    "an empty header": bearer(b"." + token().partition(b".")[2]),
    "the standard alphabet": bearer(token() + b"+/"),
    "a token as the scheme": request((b"Authorization", token())),
    "no scheme Bearer": request((b"Authorization", b"BearerX " + token())),
    "a cookie that is not read": request((b"Cookie", b"sso=" + token())),
    "another field": request((b"X-Authorization", b"Bearer " + token())),
    "two fields of other schemes": request((b"Authorization", b"Basic x"), (b"Authorization", b"Digest y")),
}


@pytest.mark.parametrize("name", NO_TOKENS)
def test_a_request_without_a_token_is_left_to_others(authenticator, name):
    assert result(authenticator.authenticate(NO_TOKENS[name])) is None


@pytest.mark.parametrize(
    "first", [b"Bearer " + token(), b"Basic dXNlcjpwYXNz"], ids=["the same", "another scheme"]
)
def test_two_fields_are_denied(authenticator, first):
    double = request((b"Authorization", first), (b"authorization", b"Bearer " + token()))
    with pytest.raises(AccessDenied, match="several Authorization fields"):
        result(authenticator.authenticate(double))


GOOD = {
    "RS256": token(),
    "PS256": token(OTHER_RSA, "PS256", "pss"),
    "ES256": token(EC, "ES256", "ec"),
    "EdDSA": token(ED, "EdDSA", "ed"),
    "no kid": token(EC, "ES256", None),
    "a list of audiences": token(aud=["other", AUDIENCE]),
    "within the leeway": token(iat=NOW + 4, nbf=NOW + 4),
    "no iat": token(iat=None),
    "another case of the type": header(typ="application/AT+JWT"),
    "no type": compact({"alg": "RS256", "kid": "rsa"}, claims()),
    "members that name other keys": header(jku="https://x", x5u="https://x", jwk={}, x5c=[]),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_token_identifies_its_client(authenticator, name):
    assert result(authenticator.authenticate(bearer(GOOD[name]))) == Principal(
        "alice", consumed=frozenset({b"authorization"}), expires=NOW + 300
    )


def test_scheme_and_white_space_follow_the_standard(authenticator):
    found = request((b"authorization", b"bEARER   " + token() + b" "))
    assert result(authenticator.authenticate(found)).name == "alice"


def test_the_last_moment_is_that_before_the_leeway(authenticator):
    assert result(authenticator.authenticate(bearer(token(exp=NOW - 4.5)))).expires == NOW - 4.5


def test_without_kid_one_key_of_the_algorithm_is_needed(tmp_path):
    two = make(tmp_path, jwks(jwk(RSA, "a"), jwk(OTHER_RSA, "b"), jwk(EC, "c")))
    with pytest.raises(AccessDenied, match="names no key"):
        result(two.authenticate(bearer(token(kid=None))))
    assert result(two.authenticate(bearer(token(EC, "ES256", None)))).name == "alice"


def test_a_secret_is_used_when_its_algorithm_is_named(tmp_path):
    keys = jwks(jwk(SECRET, "s"), jwk(RSA, "rsa"))
    named = make(tmp_path, keys, ("HS256", "RS256"))
    assert result(named.authenticate(bearer(token(SECRET, "HS256", "s")))).name == "alice"
    assert result(named.authenticate(bearer(token()))).name == "alice"
    with pytest.raises(AccessDenied, match="not that of its key"):
        result(named.authenticate(bearer(hs256(PUBLIC_PEM, "rsa"))))
    with pytest.raises(AccessDenied, match="not allowed"):
        result(make(tmp_path, keys).authenticate(bearer(token(SECRET, "HS256", "s"))))


GROUPS = {
    None: (),
    ("admins", "two words"): ("admins", "two words"),
    "admins,ops  dev, ": ("admins", "ops", "dev"),
    "": (),
    (): (),
    ("", "a", "a"): ("a",),
}


@pytest.mark.parametrize(("value", "expected"), GROUPS.items(), ids=map(str, range(len(GROUPS))))
def test_groups(authenticator, value, expected):
    found = result(authenticator.authenticate(bearer(token(groups=value))))
    assert found.groups == frozenset(expected)


def test_name_and_groups_come_from_the_named_claims(tmp_path):
    named = make(tmp_path, user="preferred_username", groups="https://example.com/roles")
    made = token(sub=1, preferred_username="Al Ice", **{"https://example.com/roles": ["x"]})
    found = result(named.authenticate(bearer(made)))
    assert (found.name, found.groups) == ("Al Ice", {"x"})


def test_a_cookie_is_consumed_by_its_name(tmp_path):
    cookie = make(tmp_path, places=(b"sso",))
    assert cookie.ambient and not make(tmp_path).ambient
    found = result(cookie.authenticate(request((b"Cookie", b"a=b; sso=" + token() + b"; c=d"))))
    assert (found.consumed, found.consumed_cookies) == (frozenset(), {b"sso"})
    assert result(cookie.authenticate(bearer(token()))) is None


@pytest.mark.parametrize(
    ("cookies", "reason"),
    [
        ((b"sso=abc",), "three parts"),
        ((b"sso=" + token() + b"; sso=x.y.z",), "several cookies"),
        ((b"sso=" + token(), b"sso=x.y.z"), "several cookies"),
        ((b"sso=%22" + token() + b"%22",), "three parts"),
    ],
)
def test_a_bad_cookie_is_denied(tmp_path, cookies, reason):
    fields = [(b"Cookie", value) for value in cookies]
    with pytest.raises(AccessDenied, match=reason):
        result(make(tmp_path, places=(b"sso",)).authenticate(request(*fields)))


@pytest.mark.parametrize(
    "value", [b"a=b", b"SSO=" + token(), b"sso", b"sso=", b"xsso=" + token()], ids=map(str, range(5))
)
def test_other_cookies_are_no_tokens(tmp_path, value):
    assert result(make(tmp_path, places=(b"sso",)).authenticate(request((b"Cookie", value)))) is None


def test_the_first_place_with_a_token_decides(tmp_path):
    both = make(tmp_path, places=(BEARER, b"sso"))
    cookie = (b"Cookie", b"sso=" + token(sub="bob"))
    found = result(both.authenticate(request(cookie, (b"Authorization", b"Bearer " + token()))))
    assert (found.name, found.consumed, found.consumed_cookies) == ("alice", {b"authorization"}, {b"sso"})
    found = result(both.authenticate(request(cookie, (b"Authorization", b"Bearer opaque"))))
    assert (found.name, found.consumed, found.consumed_cookies) == ("bob", frozenset(), {b"sso"})
    with pytest.raises(AccessDenied, match="expired"):
        result(both.authenticate(request(cookie, (b"Authorization", b"Bearer " + token(exp=1)))))
    other = make(tmp_path, places=(b"sso", BEARER))
    found = result(other.authenticate(request(cookie, (b"Authorization", b"Bearer " + token()))))
    assert (found.name, found.consumed) == ("bob", {b"authorization"}), "no token of ours goes upstream"


FIELDS = {
    "a bearer field": lambda run: bearer(run),
    "a token": lambda run: bearer(b"e30." + run + b".e30"),
    "a token's header": lambda run: bearer(b64(run) + b".e30.e30"),
    "a cookie": lambda run: request((b"Cookie", b"sso=" + run)),
    "cookies": lambda run: request((b"Cookie", b"sso=a; " * (len(run) // 8))),
}


@pytest.mark.parametrize("name", FIELDS)
def test_the_work_grows_with_the_size_of_a_field(tmp_path, name):
    both = make(tmp_path, places=(BEARER, b"sso"))

    def call(asked):
        with suppress(AccessDenied):
            result(both.authenticate(asked))

    for unit in (b"a", b".", b"=", b";", b" ", b"[", b'{"a":', b"-_"):
        assert not grows(call, lambda size, unit=unit: FIELDS[name](unit * (size // len(unit))), 500), unit


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_provider_of_openid_connect_is_understood(tmp_path):
    provider = oidc_provider_mock.app().test_client()
    back = "https://consoles.example.com/back"
    query = urlencode(
        {
            "client_id": AUDIENCE,
            "redirect_uri": back,
            "response_type": "code",
            "scope": "openid email",
            "state": "s",
            "nonce": "n",
        }
    )
    answer = provider.post(f"/oauth2/authorize?{query}", data={"sub": "alice@example.com"})
    (code,) = parse_qs(urlsplit(answer.headers["Location"]).query)["code"]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": back}
    answer = provider.post("/oauth2/token", data=form, auth=(AUDIENCE, "secret"))
    made = answer.get_json()["id_token"].encode()
    discovery = provider.get("/.well-known/openid-configuration").get_json()
    scene = Scene(provider.get(urlsplit(discovery["jwks_uri"]).path).get_data())
    source = KeySetUrl("https://sso.example.com/jwks", None, ALLOWED, scene.context)
    live = JwtAuthenticator(source, TokenRules(discovery["issuer"], AUDIENCE), ALLOWED)
    assert result(live.authenticate(bearer(made))).name == "alice@example.com"
    first, middle, last = made.split(b".")
    with pytest.raises(AccessDenied, match="signature"):
        result(live.authenticate(bearer(b".".join([first, middle, last[:-8] + b"AAAAAAAA"]))))
    assert len(scene.http.requests) == 1


def test_a_client_without_a_token_is_challenged(authenticator):
    assert authenticator.challenge(request()).fields == ((b"WWW-Authenticate", b"Bearer"),)


def test_a_login_ends_with_its_token_or_its_key(tmp_path):
    now, scene = [NOW], Scene()
    live = make(tmp_path, now=lambda: now[0], scene=scene)
    asked = bearer(token())
    principal = replace(result(live.authenticate(asked)), authenticator="authenticator sso")
    remembered = live.remember(asked, principal)
    assert (remembered.expires, remembered.key.kid) == (NOW + 300, "rsa")
    assert result(live.reauthenticate(remembered)) is principal
    path = tmp_path / "keys.json"
    scene.change(path, jwks(jwk(RSA, "rsa"), jwk(EC, "new")))
    assert result(live.reauthenticate(remembered)) is principal
    scene.change(path, jwks(jwk(OTHER_RSA, "rsa"), jwk(EC, "new")))
    assert result(live.reauthenticate(remembered)) is None
    scene.change(path, KEYS)
    now[0] = NOW + 299
    assert result(live.reauthenticate(remembered)) is principal
    now[0] = NOW + 300
    assert result(live.reauthenticate(remembered)) is None


def test_a_token_that_became_invalid_before_the_console_opened_ends_its_login(tmp_path):
    now = [NOW]
    live = make(tmp_path, now=lambda: now[0])
    asked = bearer(token())
    principal = result(live.authenticate(asked))
    now[0] = NOW + 400
    assert result(live.reauthenticate(live.remember(asked, principal))) is None
    assert result(live.reauthenticate(live.remember(request(), principal))) is None


def test_a_bad_version_of_the_file_is_refused_and_the_old_one_stays(tmp_path):
    scene = Scene()
    live = make(tmp_path, scene=scene)
    path = tmp_path / "keys.json"
    for content, reason in ((b"{", "no JSON"), (jwks(), "no usable key"), (None, "no such file")):
        scene.change(path, content)
        assert "old one stays" in scene.lines[-1] and reason in scene.lines[-1]
        assert result(live.authenticate(bearer(token()))).name == "alice"
    scene.change(path, jwks(jwk(EC, "ec"), {"kty": "future"}))
    assert "'future' is not supported" in scene.lines[-1]
    with pytest.raises(AccessDenied, match="not known"):
        result(live.authenticate(bearer(token())))


def test_a_file_without_keys_refuses_the_start(tmp_path):
    source = KeySetFile(tmp_path / "keys.json", ALLOWED, Scene().context)
    with pytest.raises(ValueError, match="no such file"):
        result(source.ready())
    with pytest.raises(ServiceUnavailable, match="no such file"):
        result(source.current())
    (tmp_path / "keys.json").write_bytes(KEYS)
    assert set(result(source.current()).keys) == {"rsa", "pss", "ec", "ed"}


def section(folder, **texts):
    whole = {"keys": "keys.json", "issuer": ISSUER, "audience": AUDIENCE} | texts
    return settings_of(TYPE, SectionKind.AUTHENTICATOR, whole, folder)


def test_a_section_makes_an_authenticator(tmp_path):
    (tmp_path / "keys.json").write_bytes(KEYS)
    settings = section(tmp_path, **{"from": "cookie:sso, bearer", "user": "email", "leeway": "1m"})
    found = TYPE.create(settings, Scene().context)
    result(found.ready())
    assert found.ambient
    made = token(exp=time.time() - 30, iat=time.time(), email="a@example.com")
    assert result(found.authenticate(bearer(made))).name == "a@example.com"


BAD_TEXTS = {
    ("keys", "http://sso.example.com/keys"): "no https URL",
    ("keys", "file:///etc/keys"): "no https URL",
    ("keys", "https:///keys"): "no https URL",
    ("keys", "https://sso.example.com:x/keys"): "no URL",
    ("keys", "https://me:pass@sso.example.com/keys"): "user name or a password",
    ("keys", "https://sso.example.com/keys#a"): "fragment",
    ("issuer", ""): "empty",
    ("audience", ""): "empty",
    ("from", "cookie"): "write bearer or cookie:NAME",
    ("from", "cookie:"): "write bearer or cookie:NAME",
    ("from", "cookie:a b"): "write bearer or cookie:NAME",
    ("from", "query:x"): "write bearer or cookie:NAME",
    ("from", "bearer, bearer"): "twice",
    ("algorithms", "RS256, none"): "never allowed",
    ("algorithms", "NONE"): "never allowed",
    ("algorithms", "RS1"): "not supported",
    ("algorithms", ""): "not supported",
    ("leeway", "off"): "cannot be off",
    ("ca", "missing.pem"): "no such file",
}


@pytest.mark.parametrize(("key", "text"), BAD_TEXTS)
def test_a_bad_value_is_named(tmp_path, key, text):
    with pytest.raises(BadValue, match=BAD_TEXTS[key, text]) as caught:
        section(tmp_path, **{key: text})
    assert "pass@" not in str(caught.value)


def problems(folder, **texts):
    return list(TYPE.conflicts(section(folder, **texts), None))


def test_conflicting_keys_are_named(tmp_path):
    url = "https://sso.example.com/keys"
    (tmp_path / "keys.json").write_bytes(KEYS)
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    assert problems(tmp_path) == problems(tmp_path, keys=url, ca="ca.pem") == []
    assert problems(tmp_path, ca="ca.pem") == [("ca", "not used: keys is a file. Remove ca")]
    ((key, text),) = problems(tmp_path, keys=url, algorithms="RS256, HS256")
    assert (key, text.startswith("HS256 needs a file")) == ("algorithms", True)
    (tmp_path / "keys.json").write_bytes(jwks(jwk(b"short", "s")))
    ((key, text),) = problems(tmp_path, algorithms="HS256")
    assert (key, "5 bytes" in text, "short" in text) == ("keys", True, False)


def test_a_missing_library_is_named_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jwt", None)
    ((key, text),) = problems(tmp_path)
    assert key == "type" and "pip install 'esxiproxy[auth]'" in text


def test_check_names_the_line(tmp_path):
    text = (
        "[listener one]\nlisten = :80\nupstream = u\nauthenticator = sso\n[upstream u]\nurl = ws://192.0.2.1\n"
        f"[authenticator sso]\ntype = jwt\nissuer = i\naudience = a\nkeys = {tmp_path}/none.json\n"
    )
    with pytest.raises(ConfigError) as caught:
        load("x.ini", text.encode(), types([STATIC], [TYPE]))
    (problem,) = caught.value.problems
    assert str(problem) == f"x.ini:11: [authenticator sso] keys: no such file: {tmp_path}/none.json"
