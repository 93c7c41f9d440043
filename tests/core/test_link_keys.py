"""The keys of links: folders and JWK Sets, one algorithm a key, and mistakes that no key passes."""

import json

import pytest
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from esxiproxy.core.link_keys import EDDSA, ES256, HS256, InvalidKeys, read_keys
from tests.support.links import SECRET, b64, key_folder, pair


def jwk(kind, kid, private=True, **changed):
    pem = pair(kind)[0 if private else 1]
    reader = {"eddsa": OKPAlgorithm(), "es256": ECAlgorithm(None), "es384": ECAlgorithm(None)}[kind]
    return {**reader.to_jwk(reader.prepare_key(pem), as_dict=True), "kid": kid, **changed}


def octets(kid="hs", secret=SECRET, **changed):
    return {"kty": "oct", "kid": kid, "k": b64(secret).decode(), **changed}


def jwks(tmp_path, *keys):
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": keys}))
    return file


def test_a_folder_has_a_key_in_each_file(tmp_path):
    folder = key_folder(tmp_path)
    (folder / "README").write_text("not a key")
    (folder / ".new.eddsa.pem").write_text("not yet a key")
    keys = read_keys(folder)
    found = {kid: (key.algorithm, key.private is not None) for kid, key in keys.items()}
    assert found == {"ed": (EDDSA, True), "pub": (EDDSA, False), "ec": (ES256, True), "hs": (HS256, True)}
    assert keys["hs"].public == SECRET


def test_a_set_has_keys_of_three_algorithms(tmp_path):
    others = [jwk("eddsa", "ed"), jwk("es256", "ec", private=False, alg="ES256"), octets(alg="HS256")]
    keys = read_keys(jwks(tmp_path, *others, {"use": "enc", "kty": "RSA"}))
    assert {kid: (key.algorithm, key.private is not None) for kid, key in keys.items()} == {
        "ed": (EDDSA, True),
        "ec": (ES256, False),
        "hs": (HS256, True),
    }


def test_no_key_is_shown(tmp_path):
    shown = repr(read_keys(key_folder(tmp_path)))
    assert "0123456789" not in shown and "PRIVATE" not in shown


BAD_FILES = {
    "another algorithm": ("a.rs256.pem", b"x", "no key of links"),
    "no algorithm": ("a.pem", b"x", "no key of links"),
    "no kid": (".eddsa.key", b"x", "has no key"),
    "an odd kid": ("a b.eddsa.pem", b"x", "no key of links"),
    "no pem": ("a.eddsa.pem", b"x", "no PUBLIC KEY"),
    "another curve": ("a.es256.pem", pair("es384")[0], "not a key on the curve P-256"),
    "ed25519 as es256": ("a.es256.pem", pair("eddsa")[0], "not a key on the curve P-256"),
    "es256 as ed25519": ("a.eddsa.pem", pair("es256")[1], "not an Ed25519 key"),
    "a short secret": ("a.hs256.key", b"short\n", "has 5 bytes"),
    "a public key as a secret": ("a.hs256.key", pair("eddsa")[1], "the key of another algorithm"),
    "two algorithms": ("ed.es256.pem", pair("es256")[0], "two keys with the id 'ed'"),
    "too large": ("a.hs256.key", b"x" * ((1 << 20) + 1), "more than 1048576 bytes"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_is_no_key_refuses_the_folder(tmp_path, case):
    name, content, text = BAD_FILES[case]
    folder = tmp_path / "keys"
    folder.mkdir()
    if "two" in case:
        (folder / "ed.eddsa.pem").write_bytes(pair("eddsa")[0])
    (folder / name).write_bytes(content)
    with pytest.raises(InvalidKeys, match=text) as caught:
        read_keys(folder)
    assert "BEGIN" not in str(caught.value)


BAD_KEYS = {
    "no object": ["x"],
    "no kid": [octets(kid=None)],
    "an odd kid": [octets(kid=["a"])],
    "an empty kid": [octets(kid="")],
    "a kid with a line": [octets(kid="a\nb")],
    "twice": [octets(), octets(secret=SECRET * 2)],
    "another alg": [jwk("eddsa", "a", alg="ES256")],
    "alg none": [octets(alg="none")],
    "confused": [jwk("es256", "a", alg="HS256")],
    "hs512": [octets(alg="HS512")],
    "rsa": [{"kty": "RSA", "kid": "a", "n": "AQAB", "e": "AQAB"}],
    "another curve": [jwk("es384", "a")],
    "an odd kty": [{"kty": ["oct"], "kid": "a"}],
    "an odd crv": [{"kty": "EC", "crv": {}, "kid": "a"}],
    "no point": [jwk("es256", "a", private=False, x="AAAA")],
    "not on the curve": [jwk("es256", "a", private=False, x=b64(b"\1" * 32).decode())],
    "no value": [{"kty": "OKP", "crv": "Ed25519", "kid": "a"}],
    "a number": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": 7}],
    "a secret that is a number": [{"kty": "oct", "kid": "a", "k": 7}],
    "no secret": [{"kty": "oct", "kid": "a"}],
    "a short secret": [octets(secret=b"short")],
    "nothing": [],
}


@pytest.mark.parametrize("case", BAD_KEYS)
def test_a_bad_key_refuses_the_set(tmp_path, case):
    with pytest.raises(InvalidKeys):
        read_keys(jwks(tmp_path, *BAD_KEYS[case]))


@pytest.mark.parametrize("text", ["", "[]", "7", '{"keys": {}}', "{}", "[" * 100_000, "\udcff", '{"keys": ['])
def test_a_file_that_is_no_set_is_refused(tmp_path, text):
    file = tmp_path / "keys.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidKeys):
        read_keys(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidKeys, match=r"gone cannot be read: No such file"):
        read_keys(tmp_path / "gone")


def test_an_empty_folder_names_the_expected_files(tmp_path):
    with pytest.raises(InvalidKeys, match=r"KID\.eddsa\.pem"):
        read_keys(tmp_path)


def test_so_many_keys_are_refused(tmp_path):
    with pytest.raises(InvalidKeys, match="more than 1000"):
        read_keys(jwks(tmp_path, *(octets(kid=f"k{number}") for number in range(1001))))
