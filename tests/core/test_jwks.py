"""Documents of keys: the algorithm of each key, the keys that are skipped, and what is refused."""

import json

import pytest

pytest.importorskip("jwt")

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from esxiproxy.core.jwks import ALGORITHMS, MAX_DOCUMENT, BadKeys, parse_jwks, read_jwks
from esxiproxy.core.strict_json import strict_json
from tests.authenticators.token_scene import DECODERS, EC, ED, RSA, SECRET, jwk, jwks

GOOD = jwk(ED, "good")
ASYMMETRIC = tuple(each for each in ALGORITHMS if not each.startswith("HS"))
USED = {
    "RS256 by default": (jwk(RSA), "RS256"),
    "PS256 by name": (jwk(RSA, alg="PS256"), "PS256"),
    "P-256": (jwk(EC), "ES256"),
    "P-384": (jwk(ec.generate_private_key(ec.SECP384R1())), "ES384"),
    "P-521": (jwk(ec.generate_private_key(ec.SECP521R1())), "ES512"),
    "Ed25519": (jwk(ED), "EdDSA"),
    "use and key_ops": (jwk(ED, use="sig", key_ops=["sign", "verify"]), "EdDSA"),
    "unknown members": (jwk(ED, x5t="abc", future={"a": 1}), "EdDSA"),
    "a private key": (json.loads(DECODERS["RSA"].to_jwk(RSA)) | {"kid": "a"}, "RS256"),
}


@pytest.mark.parametrize("name", USED)
def test_a_key_has_one_algorithm(name):
    members, algorithm = USED[name]
    key = parse_jwks(jwks(members), ASYMMETRIC).keys["a"]
    assert (key.kid, key.algorithm, key.private_key) == ("a", algorithm, None)
    assert not hasattr(key.key, "sign")


def test_a_key_without_alg_has_the_first_allowed_one():
    assert parse_jwks(jwks(jwk(RSA)), ("PS384", "PS256")).keys["a"].algorithm == "PS256"


@pytest.mark.parametrize("name", ["HS256", "HS384", "HS512"])
def test_a_secret_is_as_long_as_its_hash(name):
    least = int(name[2:]) // 8
    assert parse_jwks(jwks(jwk(b"s" * least, alg=name)), [name]).keys["a"].key == b"s" * least
    with pytest.raises(BadKeys, match=f"key 'a': the secret has {least - 1} bytes, and {name} needs"):
        parse_jwks(jwks(GOOD, jwk(b"s" * (least - 1), alg=name)), [name, "EdDSA"])


SKIPPED = {
    "no object": ("abc", "key 2: is no object"),
    "no kty": ({"kid": "a"}, "key 'a': its kty or its crv is no text"),
    "an unknown type": ({"kty": "AKP", "kid": "a"}, "key 'a': the type 'AKP' is not supported"),
    "an unknown curve": (jwk(ED, crv="Ed448"), "the curve 'Ed448' is not supported"),
    "no curve": ({"kty": "EC", "kid": "a"}, "the type 'EC' is not supported"),
    "for encryption": (jwk(RSA, use="enc"), "its use is not sig"),
    "an encryption alg": (jwk(RSA, alg="RSA-OAEP"), "its alg is none of RS256,"),
    "alg none": (jwk(RSA, alg="none"), "its alg is none of"),
    "alg of another type": (jwk(RSA, alg="HS256"), "its alg is none of"),
    "alg of another curve": (jwk(EC, alg="ES384"), "its alg is none of ES256"),
    "alg is no text": (jwk(RSA, alg=["RS256"]), "its alg is none of"),
    "alg is not allowed": (jwk(RSA, alg="RS512"), "its algorithm RS512 is not allowed"),
    "a secret that is not allowed": (jwk(b"s"), "its algorithm HS256 is not allowed"),
    "key_ops without verify": (jwk(RSA, key_ops=["wrapKey"]), "its key_ops have no verify"),
    "key_ops is no list": (jwk(RSA, key_ops="verify"), "its key_ops have no verify"),
    "no kid": (jwk(RSA, None), "key 2: has no kid"),
    "an empty kid": (jwk(RSA, ""), "key 2: has no kid"),
    "kid is a number": (jwk(RSA, 1), "key 2: has no kid"),
    "kid with a line feed": (jwk(RSA, "a\nb"), "key 2: its kid has more than 256"),
    "a long kid": (jwk(RSA, "a" * 257), "its kid has more than 256"),
    "no modulus": (jwk(RSA, n=None), "lacks one of n, e"),
    "modulus is a number": (jwk(RSA, n=5), "lacks one of n, e"),
    "modulus is no base64": (jwk(RSA, n="A"), "its numbers are no valid key"),
    "a point that is not on the curve": (jwk(EC, x="A" * 43), "its numbers are no valid key"),
    "a short point": (jwk(EC, x="AAAA"), "its numbers are no valid key"),
    "a short Ed25519 key": (jwk(ED, x="AAAA"), "its numbers are no valid key"),
    "a small RSA key": (jwk(rsa.generate_private_key(65537, 1024)), "its modulus has 1024 bits"),
    "a large RSA key": (jwk(RSA, n="_" * 2732), "its modulus has 16392 bits"),
}


@pytest.mark.parametrize("name", SKIPPED)
def test_an_unusable_key_is_skipped_with_its_reason(name):
    members, reason = SKIPPED[name]
    allowed = ("RS256", "ES256", "EdDSA")
    found = parse_jwks(jwks(GOOD, members), allowed)
    assert list(found.keys) == ["good"]
    assert len(found.skipped) == 1 and reason in found.skipped[0]
    with pytest.raises(BadKeys, match=r"has no usable key: key (1|'a)"):
        parse_jwks(jwks(members), allowed)


def test_keys_with_one_id_are_skipped():
    found = parse_jwks(jwks(GOOD, jwk(RSA), jwk(EC)), ASYMMETRIC)
    assert (list(found.keys), found.skipped) == (["good"], ("key 'a': 2 keys have this kid",))
    same = parse_jwks(jwks(jwk(RSA), jwk(EC, use="enc")), ASYMMETRIC)
    assert same.keys["a"].algorithm == "RS256"


REFUSED = {
    "nothing": (b"", "no JSON"),
    "no JSON": (b"<html>", "no JSON"),
    "a list": (b"[]", 'write {"keys"'),
    "no list": (b'{"keys": {}}', 'write {"keys"'),
    "a single key": (json.dumps(jwk(RSA)).encode(), 'write {"keys"'),
    "no keys": (b'{"keys": []}', "the list is empty"),
    "many keys": (jwks(*[GOOD] * 101), "has 101 keys, and at most 100"),
    "a large document": (b" " * (MAX_DOCUMENT + 1), "larger than"),
    "a deep document": (b"[" * MAX_DOCUMENT, "nested too deep"),
    "a member twice": (b'{"keys": [], "keys": []}', "member twice"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_document_is_refused(name):
    content, reason = REFUSED[name]
    with pytest.raises(BadKeys, match=reason):
        parse_jwks(content, ASYMMETRIC)


def test_no_secret_is_shown():
    secret = jwk(SECRET, alg="HS256")
    private = json.loads(DECODERS["RSA"].to_jwk(RSA)) | {"kid": "b"}
    found = parse_jwks(jwks(secret, private), ALGORITHMS, private=True)
    assert secret["k"] not in repr(found) and "0123456789" not in repr(found)
    assert private["d"] not in repr(found) and found.keys["b"].private_key.key_size == 2048
    with pytest.raises(BadKeys) as caught:
        parse_jwks(jwks(private | {"n": "A", "kid": "c"}), ALGORITHMS, private=True)
    assert private["d"] not in str(caught.value) and caught.value.__cause__ is None


def test_a_file_is_read_with_its_limits(tmp_path):
    path = tmp_path / "keys.json"
    for content, reason in (
        (None, f"no such file: {path}"),
        (b"{", "keys.json: is no JWKS document: it is no JSON"),
        (b" " * (MAX_DOCUMENT + 1), f"keys.json: is larger than {MAX_DOCUMENT} bytes"),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(BadKeys) as caught:
            read_jwks(path, ALGORITHMS)
        assert str(caught.value) == reason
    with pytest.raises(BadKeys, match="is no file"):
        read_jwks(tmp_path, ALGORITHMS)
    path.write_bytes(jwks(GOOD))
    assert list(read_jwks(path, ALGORITHMS).keys) == ["good"]


AMBIGUOUS = {
    b'{"a": 1, "a": 1}': "member twice",
    b'{"a": 1, "\\u0061": 2}': "member twice",
    b'[{"b": {"c": 1, "c": 2}}]': "member twice",
    b"[NaN]": "NaN",
    b"[-Infinity]": "Infinity",
    b"1e400": "too large",
    b"-1e400": "too large",
    b"1" * 309: "too large",
    b'"\\ud800"': "Unicode",
    b'{"\\udfff": 1}': "Unicode",
    b'"\xff"': "Unicode",
    b"{'a': 1}": "no JSON",
    b"1 2": "no JSON",
    b"[" * 100_000: "too deep",
    b'{"a":' * 100_000: "too deep",
}


@pytest.mark.parametrize("text", AMBIGUOUS, ids=map(str, range(len(AMBIGUOUS))))
def test_json_that_can_be_read_in_two_ways_is_refused(text):
    with pytest.raises(ValueError, match=AMBIGUOUS[text]):
        strict_json(text)


def test_other_json_is_read():
    assert strict_json(b'{"a": [1, -2.5, null, true, "\\u00fc \\ud83d\\ude00"]}') == {
        "a": [1, -2.5, None, True, "ü 😀"]
    }


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_text_is_nested_64_deep_at_most(opening):
    """The limit is the same for every interpreter."""
    from esxiproxy.core.strict_json import MAX_DEPTH, strict_json

    closing = "]" if opening == "[" else "}"
    strict_json((opening * MAX_DEPTH + "1" + closing * MAX_DEPTH).encode())
    with pytest.raises(ValueError, match="nested too deep"):
        strict_json((opening * (MAX_DEPTH + 1) + "1" + closing * (MAX_DEPTH + 1)).encode())
    assert strict_json(b'["' + b"[{" * 999 + rb"\\\"[[" + b'"]') == ["[{" * 999 + '\\"[[']
    assert strict_json(b"[" + b"[]," * 999 + b"[]]") == [[]] * 1000
