"""The authenticator `jwt`: attacks on tokens, the places of a token, names and groups, and running logins."""

import hashlib
import hmac
import json
import sys
import time
from contextlib import suppress
from dataclasses import replace
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

jwt = pytest.importorskip("jwt")

from cryptography.hazmat.primitives import serialization  # noqa: E402

from esxiproxy.authenticators.jwt import BEARER, TYPE, JwtAuthenticator  # noqa: E402
from esxiproxy.authenticators.jwt_keys import KeySetFile, KeySetUrl  # noqa: E402
from esxiproxy.core.config.errors import BadValue, ConfigError  # noqa: E402
from esxiproxy.core.config.key import SectionKind  # noqa: E402
from esxiproxy.core.config.loader import load  # noqa: E402
from esxiproxy.core.config.plugin_type import settings_of  # noqa: E402
from esxiproxy.core.errors import AccessDenied, ServiceUnavailable  # noqa: E402
from esxiproxy.core.login_token import MAX_TOKEN, TokenRules  # noqa: E402
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
    RSA,
    SECRET,
    Scene,
    b64,
    bearer,
    claims,
    compact,
    jwk,
    jwks,
    request,
    result,
    token,
)
from tests.support.growth import grows  # noqa: E402
from tests.support.plugin_types import types  # noqa: E402

PUBLIC_PEM = RSA.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
HEADER = {"alg": "RS256", "typ": "JWT", "kid": "rsa"}


@pytest.fixture
def authenticator(tmp_path):
    return make(tmp_path)


def make(folder, keys=KEYS, algorithms=ALLOWED, places=(BEARER,), now=lambda: NOW, scene=None, **rules):
    """An authenticator with the keys of a file."""
    path = folder / "keys.json"
    path.write_bytes(keys)
    source = KeySetFile(path, algorithms, (scene or Scene()).context)
    found = JwtAuthenticator(source, TokenRules(ISSUER, AUDIENCE, **rules), algorithms, places, now)
    result(found.ready())
    return found


def hs256(key, kid):
    """A token with an HMAC of a public key, which PyJWT itself refuses to make."""
    signed = b".".join(
        b64(json.dumps(each).encode()) for each in (HEADER | {"alg": "HS256", "kid": kid}, claims())
    )
    return signed + b"." + b64(hmac.digest(key, signed, hashlib.sha256))


def unsigned(alg, signature=b""):
    parts = [b64(json.dumps(each).encode()) for each in ({"alg": alg, "kid": "rsa"}, claims())]
    return b".".join([*parts, signature])


def altered(part, place=5):
    """A valid token with one character changed in one part."""
    parts = token().split(b".")
    old = parts[part]
    parts[part] = old[:place] + (b"A" if old[place : place + 1] != b"A" else b"B") + old[place + 1 :]
    return b".".join(parts)


def payload(text):
    return compact(HEADER, text if isinstance(text, bytes) else text.encode())


def header(**members):
    return compact(HEADER | members, claims())


def changed_payload(**changes):
    first, _payload, last = token().split(b".")
    return b".".join([first, b64(json.dumps(claims(**changes)).encode()), last])


def respelt():
    """A token whose signature has the same bytes in another spelling."""
    whole = token(ED, "EdDSA", "ed")
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return whole[:-1] + letters[letters.index(whole[-1:]) ^ 1 :][:1]


GOOD_TEXT = json.dumps(claims())[:-1]
ATTACKS = {
    **{f"alg {alg}": (unsigned(alg), "algorithm") for alg in ("none", "None", "NONE", "nOnE", "noNe", "")},
    "alg none with a signature": (unsigned("none", token().rpartition(b".")[2]), "algorithm"),
    "alg is no text": (compact(HEADER | {"alg": 1}, claims(), algorithm="RS256"), "no algorithm"),
    "alg is missing": (compact({"kid": "rsa"}, claims(), algorithm="RS256"), "no algorithm"),
    "HS256 with the public key": (hs256(PUBLIC_PEM, "rsa"), "algorithm"),
    "HS256 with the public JWK": (hs256(json.dumps(jwk(RSA, "rsa")).encode(), "rsa"), "algorithm"),
    "another algorithm of the key's type": (token(RSA, "PS256", "rsa"), "not that of its key"),
    "an algorithm that is not allowed": (token(RSA, "RS512", "rsa"), "not allowed"),
    "kid with a path": (token(kid="../../../../dev/null"), "key is not known"),
    "kid with SQL": (token(kid="rsa' OR '1'='1"), "key is not known"),
    "kid with another case": (token(kid="RSA"), "key is not known"),
    "an empty kid": (token(kid=""), "key is not known"),
    "kid of another type": (token(kid="ec"), "not that of its key"),
    "kid of another key": (token(RSA, "PS256", "pss"), "signature"),
    "kid is no text": (header(kid=["rsa"]), "is no text"),
    "kid is null": (header(kid=None), "is no text"),
    "another key": (token(OTHER_RSA), "signature"),
    "expired": (token(exp=NOW - 6), "expired"),
    "expired at the leeway": (token(exp=NOW - 5), "expired"),
    "not valid yet": (token(nbf=NOW + 6), "not valid yet"),
    "issued in the future": (token(iat=NOW + 6), "not valid yet"),
    "wrong issuer": (token(iss="https://evil.example.com"), "issuer"),
    "issuer with a slash": (token(iss=f"{ISSUER}/"), "issuer"),
    "issuer in a list": (token(iss=[ISSUER]), "issuer"),
    "no issuer": (token(iss=None), "issuer"),
    "wrong audience": (token(aud="other"), "audience"),
    "part of the audience": (token(aud="console"), "audience"),
    "a list of wrong audiences": (token(aud=["other", "consoles2"]), "audience"),
    "a list with a number": (token(aud=[AUDIENCE, 1]), "audience"),
    "an object with the audience": (token(aud={AUDIENCE: 1}), "audience"),
    "an empty list of audiences": (token(aud=[]), "audience"),
    "no audience": (token(aud=None), "audience"),
    "no exp": (token(exp=None), "no expiry"),
    "exp is null": (payload(GOOD_TEXT.replace(str(NOW + 300), "null") + "}"), "exp is no number"),
    "exp is a text": (token(exp=str(int(NOW + 300))), "exp is no number"),
    "exp is true": (token(exp=True), "exp is no number"),
    "exp is NaN": (token(exp=float("nan")), "NaN"),
    "exp is infinite": (token(exp=float("inf")), "Infinity"),
    "exp is minus infinity": (token(exp=float("-inf")), "Infinity"),
    "exp overflows": (payload(GOOD_TEXT.replace(str(NOW + 300), "1e999") + "}"), "too large"),
    "exp is huge": (token(exp=10**12), "year 10000"),
    "exp has hundreds of digits": (token(exp=10**300), "year 10000"),
    "exp has thousands of digits": (payload('{"exp":' + "9" * 5000 + "}"), "too large"),
    "exp is negative": (token(exp=-1), "year 10000"),
    "nbf is a text": (token(nbf="0"), "nbf is no number"),
    "altered signature": (altered(2), "signature"),
    "altered payload": (altered(1), "signature"),
    "another payload": (changed_payload(sub="root"), "signature"),
    "no signature": (token().rpartition(b".")[0] + b".", "signature"),
    "short signature": (token()[:-4], "signature"),
    "a signature in another spelling": (respelt(), "base64url"),
    "the signature of ES256 in zeros": (
        token(EC, "ES256", "ec").rpartition(b".")[0] + b"." + b64(bytes(64)),
        "signature",
    ),
    "no payload": (b"%b..%b" % tuple(token().split(b".")[::2]), "signature"),
    "oversized": (compact(HEADER, claims(x="a" * MAX_TOKEN)), "8192 bytes"),
    "deep payload": (payload(b"[" * 5500), "nested too deep"),
    "deep header": (b64(b'{"a":' * 1000 + b"1" + b"}" * 1000) + b".e30.e30", "nested too deep"),
    "a claim twice": (payload(GOOD_TEXT + ', "sub": "root"}'), "member twice"),
    "a header member twice": (
        compact(b'{"alg":"RS256","alg":"none","kid":"rsa"}', claims(), algorithm="RS256"),
        "member twice",
    ),
    "a list as payload": (payload("[]"), "no object"),
    "a list as header": (b64(b"[]") + b".e30.e30", "no object"),
    "no JSON": (payload("alice"), "no JSON"),
    "UTF-16": (payload(json.dumps(claims()).encode("utf-16")), "Unicode"),
    "a byte order mark": (payload(b"\xef\xbb\xbf" + json.dumps(claims()).encode()), "no JSON"),
    "bytes after the payload": (payload(json.dumps(claims()) + "{}"), "no JSON"),
    "crit": (header(crit=["exp"]), "extension"),
    "an empty crit": (header(crit=[]), "extension"),
    "b64": (header(b64=False), "extension"),
    "a logout token": (header(typ="logout+jwt"), "another purpose"),
    "a link": (header(typ="esxiproxy+jwt"), "another purpose"),
    "typ is no text": (header(typ=1), "another purpose"),
    "jwk of another key": (
        compact(HEADER | {"jwk": jwk(OTHER_RSA, "rsa")}, claims(), OTHER_RSA),
        "signature",
    ),
    "jku": (compact(HEADER | {"jku": "https://evil.example.com/keys"}, claims(), OTHER_RSA), "signature"),
    "x5u": (compact(HEADER | {"x5u": "https://evil.example.com/c.pem"}, claims(), OTHER_RSA), "signature"),
    "x5c": (compact(HEADER | {"x5c": ["MIIB"]}, claims(), OTHER_RSA), "signature"),
    "jku with an unknown kid": (
        compact(HEADER | {"kid": "x", "jku": "https://evil.example.com/keys"}, claims(), OTHER_RSA),
        "key is not known",
    ),
    "no sub": (token(sub=None), "no name"),
    "sub is a number": (token(sub=1), "no name"),
    "sub is a list": (token(sub=["alice"]), "no name"),
    "sub is empty": (token(sub=""), "empty"),
    "sub is white space": (token(sub=" \t"), "empty"),
    "sub is long": (token(sub="a" * 257), "256 characters"),
    "sub has a line feed": (token(sub="alice\nroot"), "control characters"),
    "sub has a NUL": (token(sub="alice\0"), "control characters"),
    "sub has a C1 control": (token(sub="alice\x9b"), "control characters"),
    "sub has an override of direction": (token(sub="alice\u202etoor"), "control characters"),
    "sub has half a pair": (token(sub="alice\ud800"), "no Unicode"),
    "groups are a number": (token(groups=1), "groups"),
    "groups are an object": (token(groups={"admins": True}), "groups"),
    "groups have a number": (token(groups=["admins", 1]), "groups"),
    "a group has a line feed": (token(groups=["a\nb"]), "group"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_denied(authenticator, name):
    attack, reason = ATTACKS[name]
    with pytest.raises(AccessDenied, match=reason) as caught:
        result(authenticator.authenticate(bearer(attack)))
    error = caught.value
    assert error.status_code == 401
    assert error.fields == ((b"WWW-Authenticate", b'Bearer error="invalid_token"'),)
    for secret in (*attack.decode().split("."), "alice", "evil", "root", "rsa"):
        assert not secret or len(secret) < 3 or secret not in str(error)
    assert error.__cause__ is None and error.__suppress_context__


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


@pytest.mark.parametrize("value", [b"a=b", b"SSO=" + token(), b"sso", b"sso=", b"xsso=" + token()])
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


FIELDS = {
    "a bearer field": lambda run: bearer(run),
    "a token": lambda run: bearer(b"e30." + run + b".e30"),
    "a token's header": lambda run: bearer(b64(run) + b".e30.e30"),
    "a cookie": lambda run: request((b"Cookie", b"sso=" + run)),
    "cookies": lambda run: request((b"Cookie", b"sso=a; " * len(run))),
}


@pytest.mark.parametrize("name", FIELDS)
def test_the_work_grows_with_the_size_of_a_field(tmp_path, name):
    both = make(tmp_path, places=(BEARER, b"sso"))

    def call(asked):
        with suppress(AccessDenied):
            result(both.authenticate(asked))

    for unit in (b"a", b".", b"=", b";", b" ", b"[", b'{"a":', b"-_"):
        assert not grows(call, lambda size, unit=unit: FIELDS[name](unit * (size // len(unit))), 1000), unit


def test_a_provider_of_openid_connect_is_understood(tmp_path):
    provider = pytest.importorskip("oidc_provider_mock").app().test_client()
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
    path.write_bytes(jwks(jwk(RSA, "rsa"), jwk(EC, "new")))
    scene.watched[path]()
    assert result(live.reauthenticate(remembered)) is principal
    path.write_bytes(jwks(jwk(OTHER_RSA, "rsa"), jwk(EC, "new")))
    scene.watched[path]()
    assert result(live.reauthenticate(remembered)) is None
    path.write_bytes(KEYS)
    scene.watched[path]()
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
        path.unlink() if content is None else path.write_bytes(content)
        scene.watched[path]()
        assert "old one stays" in scene.lines[-1] and reason in scene.lines[-1]
        assert result(live.authenticate(bearer(token()))).name == "alice"
    path.write_bytes(jwks(jwk(EC, "ec"), {"kty": "future"}))
    scene.watched[path]()
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


def test_what_does_not_fit_together_is_named(tmp_path):
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
