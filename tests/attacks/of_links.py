"""Attempts with links: forged, altered, misplaced and used ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from tests.attacks.attempt import Attempt
from tests.support import links as made
from tests.support.links import b64, forged, hmac_of, pair, token

HEADER = {"alg": "EdDSA", "kid": "ed", "typ": "esxiproxy+jwt"}
Make = Callable[[Any], bytes]


def claims(scene: Any, **changed: Any) -> dict[str, Any]:
    """Return the claims of a link that is valid now."""
    return made.claims(scene.memory.time_of_day(), **changed)


def link(**changed: Any) -> Make:
    """Return a link with these claims; names with an underscore in front are options of the token."""
    options = {name[1:]: value for name, value in changed.items() if name.startswith("_")}
    given = {name: value for name, value in changed.items() if not name.startswith("_")}
    return lambda scene: token(claims(scene, **given), **options)


def altered(change: Callable[[list[bytes]], list[bytes]]) -> Make:
    """Return a valid link whose parts were changed after it was signed."""
    return lambda scene: b".".join(change(link()(scene).split(b".")))


def other_host(parts: list[bytes]) -> list[bytes]:
    """Return the parts of a link with a payload for another host."""
    payload = made.claims(1e9, exp=9e9, to={"host": "10.0.0.9", "port": 443, "path": "/ticket/SECRET-TICKET"})
    return [parts[0], forged({}, payload).split(b".")[1], parts[2]]


def _public(form: Encoding) -> bytes:
    public = load_pem_public_key(pair("eddsa")[1])
    if form is Encoding.Raw:
        return public.public_bytes(form, PublicFormat.Raw)
    return public.public_bytes(form, PublicFormat.SubjectPublicKeyInfo)


def _confused(form: Encoding, **header: Any) -> Make:
    return lambda scene: hmac_of(_public(form), {**HEADER, "alg": "HS256", **header}, claims(scene))


def _unsigned(algorithm: Any, signature: bytes = b"") -> Make:
    return lambda scene: forged({**HEADER, "alg": algorithm}, claims(scene), signature)


_OWN = {"kty": "OKP", "crv": "Ed25519", "x": b64(b"\x01" * 32).decode()}
_FORGED: dict[str, Make] = {
    "no signature": _unsigned("none"),
    "no signature, in the other case": _unsigned("NoNe"),
    "no algorithm": _unsigned(None),
    "a list of algorithms": _unsigned(["none", "EdDSA"]),
    "none with a signature": _unsigned("none", b"\x01" * 64),
    "a signature of zeros": _unsigned("EdDSA", bytes(64)),
    "no signature with the right algorithm": _unsigned("EdDSA"),
    "the public key as a secret, in PEM": _confused(Encoding.PEM),
    "the public key as a secret, in DER": _confused(Encoding.DER),
    "the public key as a secret, raw": _confused(Encoding.Raw),
    "the public key as a secret, under the id of a secret": _confused(Encoding.PEM, kid="hs"),
    "an empty secret": lambda scene: hmac_of(b"", {**HEADER, "alg": "HS256", "kid": "hs"}, claims(scene)),
    "another algorithm's key": link(_alg="ES256", _kid="ed"),
    "a secret under the id of a key": link(_alg="HS256", _kid="ed"),
    "a signature of another key": link(_key=pair("other")[0]),
    "a signature of another key under a public one's id": link(_key=pair("other")[0], _kid="pub"),
    "no key id": link(_kid=None),
    "an unknown key id": link(_kid="gone"),
    "an empty key id": link(_kid=""),
    "a key id that is a path": link(_kid="../keys/ed.eddsa.pem"),
    "a key id that is a device": lambda scene: hmac_of(
        b"", {**HEADER, "alg": "HS256", "kid": "/dev/null"}, claims(scene)
    ),
    "a key id with SQL": link(_kid="x' UNION SELECT 'ed"),
    "a key id with a NUL": link(_kid="ed\0"),
    "a key id in the other case": link(_kid="ED"),
    "a key id that is a list": lambda scene: forged({**HEADER, "kid": ["ed"]}, claims(scene), b"\x01" * 64),
    "a key id that is an object": lambda scene: forged({**HEADER, "kid": {}}, claims(scene), b"\x01" * 64),
    "a key in the header": link(_key=pair("other")[0], _kid="own", _jwk=_OWN),
    "a URL of keys in the header": link(_key=pair("other")[0], _jku="https://evil.example/keys"),
    "a certificate's URL in the header": link(_key=pair("other")[0], _x5u="https://evil.example/x"),
    "no type": link(_typ=None),
    "the type of a login": link(_typ="JWT"),
    "the type in the other case": link(_typ="ESXIPROXY+JWT"),
    "a critical extension": link(_crit=["exp"]),
    "an unencoded payload": lambda scene: forged({**HEADER, "b64": False}, claims(scene), b"\x01" * 64),
    "an altered payload": altered(other_host),
    "an altered signature": altered(lambda parts: [*parts[:2], b64(b"\x02" * 64)]),
    "a cut signature": altered(lambda parts: [*parts[:2], parts[2][:-4]]),
    "a longer signature": altered(lambda parts: [*parts[:2], parts[2] + b"AAAA"]),
    "the other spelling of its signature": altered(
        lambda parts: [*parts[:2], parts[2][:-1] + bytes([parts[2][-1] + 1])]
    ),
    "another header": altered(
        lambda parts: [forged({**HEADER, "kid": "pub"}, {}).split(b".")[0], *parts[1:]]
    ),
    "a fourth part": altered(lambda parts: [*parts, b"AAAA"]),
    "two parts": altered(lambda parts: parts[:2]),
    "padding": altered(lambda parts: [*parts[:2], parts[2] + b"=="]),
    "the payload twice": lambda scene: token(b'{"jti": "a"}{"jti": "b"}'),
    "a payload that is a list": lambda scene: token([1]),
    "a deep payload": lambda scene: token(b"[" * 2500),
    "a header that is no JSON": lambda scene: forged(b"{", claims(scene), b"\x01" * 64),
    "a link that is too long": lambda scene: token(claims(scene, jti="x" * 4000)),
    "a text": lambda scene: b"S3cretText",
}

ALTERED = tuple(
    Attempt(what, "links", b"/c/{link}", "LinkInvalid", 404, link=make) for what, make in _FORGED.items()
)


BEHIND = b"/ticket/of-another-host"
_MISPLACED: dict[str, tuple[bytes, str]] = {
    "the path of another host behind it": (b"/c/{link}" + BEHIND, "LinkInvalid"),
    "a slash behind it": (b"/c/{link}/", "LinkInvalid"),
    "dot segments behind it": (b"/c/{link}/../../h/esx2", "LinkInvalid"),
    "encoded dot segments behind it": (b"/c/{link}%2f%2e%2e%2fx", "LinkInvalid"),
    "a parameter behind it": (b"/c/{link};host=esx2", "LinkInvalid"),
    "a trailing dot": (b"/c/{link}.", "LinkInvalid"),
    "the prefix behind it": (b"/c/{link}/c/", "LinkInvalid"),
    "the encoded prefix behind it": (b"/c/{link}%2fc%2f", "LinkInvalid"),
    "itself behind it": (b"/c/{link}/c/{link}", "LinkInvalid"),
    "the prefix twice": (b"/c/c/{link}", "LinkInvalid"),
    "an empty segment": (b"/c//{link}", "LinkInvalid"),
    "a dot segment in front": (b"/c/./{link}", "LinkInvalid"),
    "an encoded letter": (b"/c/%65{link}", "LinkInvalid"),
    "an encoded NUL": (b"/c/{link}%00", "LinkInvalid"),
    "dot segments to the prefix": (b"/x/../c/{link}", "RouteNotFound"),
    "an encoded prefix": (b"/%63/{link}", "RouteNotFound"),
    "a doubly encoded prefix": (b"/%2563/{link}", "RouteNotFound"),
    "a prefix in the other case": (b"/C/{link}", "RouteNotFound"),
    "an authority in front": (b"//evil.example/c/{link}", "RouteNotFound"),
    "no prefix": (b"/{link}", "RouteNotFound"),
    "a backslash": (b"\\c\\{link}", "MalformedRequest"),
    "an encoded slash": (b"/c%2f{link}", "RouteNotFound"),
    "the query": (b"/?link={link}", "RouteNotFound"),
    "the query behind the prefix": (b"/c/?{link}", "RouteNotFound"),
    "a path within the query": (b"/x?/c/{link}", "RouteNotFound"),
    "a query in the path": (b"/x%3flink={link}", "RouteNotFound"),
}
_FIELDS = {
    "in a cookie": b"Cookie: console={link}",
    "in Authorization": b"Authorization: Bearer {link}",
    "in X-Original-URL": b"X-Original-URL: /c/{link}",
    "in X-Rewrite-URL": b"X-Rewrite-URL: /c/{link}",
    "in Referer": b"Referer: http://proxy.example:81/c/{link}",
}

MISPLACED = (
    *(
        Attempt(
            f"a valid link with {what}",
            "links",
            target,
            error,
            400 if error == "MalformedRequest" else 404,
            link=link(),
        )
        for what, (target, error) in _MISPLACED.items()
    ),
    *(
        Attempt(f"a valid link {what}", "links", b"/x", "RouteNotFound", 404, (field,), link=link())
        for what, field in _FIELDS.items()
    ),
    Attempt(
        "a valid link in a subprotocol",
        "links",
        b"/x",
        "RouteNotFound",
        404,
        link=link(),
        protocol=b"binary, esxiproxy.link.{link}",
    ),
)


LINKS = (*ALTERED, *MISPLACED)
