"""Signed links: accepted ones, and a table of refused ones, each after one check of one signature."""

import json

import jwt
import pytest

from esxiproxy.core.errors import LinkExpired, LinkInvalid
from esxiproxy.core.link import (
    LEEWAY,
    LONGEST,
    MAX_TOKEN,
    make_token,
)
from esxiproxy.core.link_keys import read_keys
from tests.core.link_scene import GOOD, NOW, read, verified
from tests.support.certificates import self_signed
from tests.support.links import (
    AUDIENCE,
    ISSUER,
    PIN,
    SECRET,
    b64,
    claims,
    forged,
    key_folder,
    pair,
    token,
)


@pytest.fixture
def keys(tmp_path):
    return read_keys(key_folder(tmp_path))


@pytest.mark.parametrize("kid", ["ed", "ec", "hs"])
def test_a_link_is_verified_with_its_key(keys, kid):
    link = verified(make_token(claims(NOW), keys[kid]).encode(), keys)
    assert (link.id, link.issued, link.expires) == ("link-1", NOW, NOW + 300)
    assert (link.host, link.port, link.path) == ("esxi1.example.com", 443, b"/ticket/SECRET-TICKET")
    assert (link.once, link.reuse, link.subject, link.pins, link.lifetime) == (True, 0.0, None, (), None)


def test_a_public_key_does_not_sign(keys):
    with pytest.raises(ValueError, match="public"):
        make_token(claims(NOW), keys["pub"])


def test_a_link_that_no_proxy_accepts_is_not_made(keys):
    with pytest.raises(ValueError, match="may have 4096"):
        make_token(claims(NOW, sub="x" * 5000), keys["ed"])


def test_all_claims_are_read(tmp_path):
    certificate = self_signed(tmp_path, "host")
    link = read(sub="alice", pin=[PIN.upper().replace("SHA", "sha")], ttl=60, reuse=30.5, net="192.0.2.0/24")
    assert (link.subject, [str(pin) for pin in link.pins]) == ("alice", ["sha256:" + ":".join(["AB"] * 32)])
    assert (link.lifetime, link.once, link.reuse) == (60.0, True, 30.5)
    assert read(crt=certificate.path.read_text()).certificate == certificate.der
    many = read(reuse="many", view=False, rec=False)
    assert (many.once, many.reuse) == (False, 0.0)
    assert read(reuse=0).once
    assert "SECRET" not in repr(link)


HEADER = {"alg": "EdDSA", "kid": "ed", "typ": "esxiproxy+jwt"}
NESTED = b"[" * 2500


def altered(**changed):
    """Return a token whose payload was changed after it was signed."""
    head, _, signature = token(GOOD).split(b".")
    return b".".join((head, b64(json.dumps({**GOOD, **changed}).encode()), signature))


def cut(text, end):
    return text[:end]


TOKENS = {
    "empty": b"",
    "garbage": b"\xff\x00\n",
    "one part": b"abc",
    "two parts": b"abc.def",
    "four parts": token(GOOD) + b".x",
    "five parts, as JWE": b"a.b.c.d.e",
    "no base64": b"a+b.c/d.e=f",
    "padded": token(GOOD) + b"=",
    "5 KiB": token({**GOOD, "sub": "x" * 4500}),
    "5 KiB of nothing": b"a." + b"b" * 5000 + b".c",
    "a signature cut": cut(token(GOOD), -1),
    "a signature of another length": forged(HEADER, GOOD, b"x"),
    "a signature of zeros": forged(HEADER, GOOD, b"\0" * 64),
    "altered path": altered(to={"host": "other", "port": 443, "path": "/"}),
    "altered expiry": altered(exp=NOW + 1e6),
    "alg none": forged({**HEADER, "alg": "none"}, GOOD),
    "alg none, with a signature": forged({**HEADER, "alg": "none"}, GOOD, b"\1" * 64),
    "alg None": forged({**HEADER, "alg": "None"}, GOOD, b"\1" * 64),
    "no alg": forged({"kid": "ed", "typ": "esxiproxy+jwt"}, GOOD, b"\1" * 64),
    "alg a list": forged({**HEADER, "alg": ["EdDSA"]}, GOOD, b"\1" * 64),
    "confusion: hs256 with an ed25519 key": token(GOOD, "ed", SECRET, "HS256"),
    "confusion: es256 under the id of ed25519": token(GOOD, "ed", alg="ES256"),
    "confusion: ed25519 under the id of es256": token(GOOD, "ec"),
    "confusion: ed25519 under the id of hs256": token(GOOD, "hs"),
    "another key": token(GOOD, "ec", pair("es256")[0], "ES256", typ="JWT"),
    "another secret": token(GOOD, "hs", SECRET[::-1], "HS256"),
    "hs512 with the secret": token(GOOD, "hs", SECRET * 2, "HS512"),
    "kid of a path": token(GOOD, "../../../../dev/null"),
    "kid of a file": token(GOOD, "ed.eddsa.pem"),
    "kid of another": token(GOOD, "nobody"),
    "kid in capitals": token(GOOD, "ED"),
    "kid sql": token(GOOD, "x' UNION SELECT 'key"),
    "kid empty": token(GOOD, ""),
    "no kid": token(GOOD, None),
    "kid a number": forged({**HEADER, "kid": 1}, GOOD, b"\1" * 64),
    "kid a list": forged({**HEADER, "kid": ["ed"]}, GOOD, b"\1" * 64),
    "kid an object": forged({**HEADER, "kid": {}}, GOOD, b"\1" * 64),
    "no typ": forged({"alg": "EdDSA", "kid": "ed"}, GOOD, b"\1" * 64),
    "typ JWT": token(GOOD, typ="JWT"),
    "typ of an ID token": token(GOOD, typ="at+jwt"),
    "typ a list": forged({**HEADER, "typ": ["esxiproxy+jwt"]}, GOOD, b"\1" * 64),
    "crit": forged({**HEADER, "crit": ["exp"]}, GOOD, b"\1" * 64),
    "b64 false": forged({**HEADER, "b64": False, "crit": ["b64"]}, b"", b"\1" * 64),
    "header no object": forged([], GOOD, b"\1" * 64),
    "header no json": forged(b"{", GOOD, b"\1" * 64),
    "header nested": forged(NESTED, b"{}", b"\1" * 64),
    "header no utf-8": forged(b"\xff", GOOD, b"\1" * 64),
    "payload no object": token(b"[]"),
    "payload no json": token(b"{"),
    "payload nested": token(NESTED),
    "payload a huge number": token(b'{"exp": %b}' % (b"9" * 2500)),
    "payload NaN": token(json.dumps({**GOOD, "exp": float("nan")}).encode()),
    "payload Infinity": token(json.dumps({**GOOD, "exp": float("inf")}).encode()),
    "payload 1e999": token(json.dumps(GOOD).replace(str(NOW + 300), "1e999").encode()),
    "payload no utf-8": token(b"\xff"),
    "another issuer": token({**GOOD, "iss": "https://evil.example.com"}),
    "a list of issuers": token({**GOOD, "iss": [ISSUER]}),
    "another audience": token({**GOOD, "aud": "others"}),
    "a list of audiences": token({**GOOD, "aud": [AUDIENCE, "others"]}),
    "an object as audience": token({**GOOD, "aud": {AUDIENCE: 1}}),
    **{
        f"no {name}": token({key: value for key, value in GOOD.items() if key != name})
        for name in ("iss", "aud", "exp", "nbf", "iat", "jti", "to")
    },
    "exp null": token({**GOOD, "exp": None}),
    "jti a number": token({**GOOD, "jti": 1}),
    "sub a number": token({**GOOD, "sub": 1}),
    "jwk in the header": token(GOOD, "x", jwk={"kty": "oct", "k": "AAAA"}),
    "jku in the header": token(GOOD, "x", jku="https://evil.example.com/keys"),
}


@pytest.mark.parametrize("case", TOKENS)
def test_a_token_is_refused_after_one_signature(keys, case, monkeypatch):
    looked = []
    for name in ("EdDSA", "ES256", "HS256"):
        algorithm = jwt.api_jws._jws_global_obj.get_algorithm_by_name(name)
        monkeypatch.setattr(
            algorithm,
            "verify",
            lambda *args, verify=algorithm.verify: looked.append(1) or verify(*args),
        )
    with pytest.raises(LinkInvalid) as caught:
        verified(TOKENS[case], keys)
    assert looked == [1]
    assert caught.value.public_name == "RouteNotFound" and caught.value.status_code == 404
    assert caught.value.public_message == "No upstream belongs to this request."
    assert "SECRET" not in str(caught.value) and "eyJ" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_token_may_have_this_length(keys):
    longest = max(
        (
            token(claims(NOW, jti="x" * 100, to={**GOOD["to"], "path": "/" + "x" * n}))
            for n in range(2550, 2750)
        ),
        key=lambda text: len(text) if len(text) <= MAX_TOKEN else 0,
    )
    assert MAX_TOKEN - 2 <= len(longest) <= MAX_TOKEN
    assert verified(longest, keys)


TIMES = {
    "expired": ({"exp": NOW - LEEWAY}, LinkExpired),
    "expired by a moment": ({"exp": NOW - LEEWAY - 0.001}, LinkExpired),
    "long ago": ({"exp": 0}, LinkExpired),
    "not yet": ({"nbf": NOW + LEEWAY + 0.1}, LinkExpired),
    "made in the future": ({"iat": NOW + LEEWAY + 0.1}, LinkExpired),
    "valid for too long": ({"exp": NOW + LONGEST + 1}, LinkInvalid),
    "exp a text": ({"exp": str(NOW + 300)}, LinkInvalid),
    "exp true": ({"exp": True}, LinkInvalid),
    "exp a list": ({"exp": [NOW]}, LinkInvalid),
    "iat true": ({"iat": True}, LinkInvalid),
    "nbf a text": ({"nbf": "0"}, LinkInvalid),
    "exp beyond a float": ({"exp": 10**400}, LinkInvalid),
    "exp infinite": ({"exp": float("inf")}, LinkInvalid),
    "iat minus infinity": ({"iat": float("-inf")}, LinkInvalid),
    "nbf nan": ({"nbf": float("nan")}, LinkInvalid),
}


@pytest.mark.parametrize("case", TIMES)
def test_a_time_is_refused(case):
    changed, error = TIMES[case]
    with pytest.raises(error) as caught:
        read(**changed)
    assert type(caught.value) is error and caught.value.public_name == "RouteNotFound"


@pytest.mark.parametrize(
    "changed", [{"exp": NOW - LEEWAY + 0.01}, {"nbf": NOW + LEEWAY}, {"iat": NOW - 0.25}]
)
def test_clocks_may_differ_a_little(changed):
    assert read(**changed)
