"""Attacks on the authenticator `jwt`: each token is denied for its own reason, which shows nothing of it."""

import json

import pytest

jwt = pytest.importorskip("jwt")


from esxiproxy.core.errors import AccessDenied  # noqa: E402
from esxiproxy.core.login_token import MAX_TOKEN  # noqa: E402
from tests.authenticators.token_scene import (  # noqa: E402
    AUDIENCE,
    EC,
    ED,
    HEADER,
    ISSUER,
    NOW,
    OTHER_RSA,
    PUBLIC_PEM,
    RSA,
    b64,
    bearer,
    claims,
    compact,
    header,
    hs256,
    jwk,
    token,
)
from tests.support.outcome import result  # noqa: E402


def unsigned(alg, signature=b""):
    parts = [b64(json.dumps(each).encode()) for each in ({"alg": alg, "kid": "rsa"}, claims())]
    return b".".join([*parts, signature])


def altered(part, place=5):
    """Return a valid token with one character changed in one part."""
    parts = token().split(b".")
    old = parts[part]
    parts[part] = old[:place] + (b"A" if old[place : place + 1] != b"A" else b"B") + old[place + 1 :]
    return b".".join(parts)


def payload(text):
    return compact(HEADER, text if isinstance(text, bytes) else text.encode())


def changed_payload(**changes):
    first, _payload, last = token().split(b".")
    return b".".join([first, b64(json.dumps(claims(**changes)).encode()), last])


def respelt():
    """Return a token whose signature has the same bytes in another spelling."""
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
