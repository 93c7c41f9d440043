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
    """The claims of a link that is valid now."""
    return made.claims(scene.memory.time_of_day(), **changed)


def link(**changed: Any) -> Make:
    """A link with these claims; names with an underscore in front are options of the token."""
    options = {name[1:]: value for name, value in changed.items() if name.startswith("_")}
    given = {name: value for name, value in changed.items() if not name.startswith("_")}
    return lambda scene: token(claims(scene, **given), **options)


def altered(change: Callable[[list[bytes]], list[bytes]]) -> Make:
    """A valid link whose parts were changed after it was signed."""
    return lambda scene: b".".join(change(link()(scene).split(b".")))


def other_host(parts: list[bytes]) -> list[bytes]:
    """The parts of a link with a payload for another host."""
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


def _opening(target: bytes) -> bytes:
    return (
        b"GET " + target + b" HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )


def once(**changed: Any) -> Make:
    """A link that is the same in each call for a scene."""

    def make(scene: Any) -> bytes:
        if not hasattr(scene, "link"):
            scene.link = link(
                to={"host": "10.0.0.1", "port": 443, "path": "/ticket/SECRET-TICKET"}, **changed
            )(scene)
        found: bytes = scene.link
        return found

    return make


def _used(**changed: Any) -> dict[str, Any]:
    make = once(**changed)

    def before(scene: Any) -> None:
        scene.open(_opening(b"/c/" + make(scene)))
        scene.finish()

    return {"link": make, "before": before}


def _copied(scene: Any) -> bytes:
    """Another link with the id of one that was used."""
    return link(exp=scene.memory.time_of_day() + 200, sub="alice")(scene)


_B = b"/ticket/of-another-host"
_MISPLACED: dict[str, tuple[bytes, str]] = {
    "the path of another host behind it": (b"/c/{link}" + _B, "LinkInvalid"),
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


def _held(scene: Any) -> None:
    """Open a console with the link, which stays open at another client."""
    make = once()
    scene.open(_opening(b"/c/" + make(scene)))
    client, host, finish = scene.client, scene.host, scene.finish

    def finish_both() -> None:
        for wire in (client, host):
            wire.close()
            wire.pump()
        finish()

    scene.finish = finish_both


def _revoked(scene: Any) -> None:
    scene.revoke()


_OTHER = b"10.0.0.1, 192.0.2.9"
REPLAYED = (
    Attempt("a link that was used", "links", b"/c/{link}", "LinkUsed", 404, **_used()),
    Attempt("a link that is in use", "links", b"/c/{link}", "LinkUsed", 404, link=once(), before=_held),
    Attempt(
        "a link with the id of a used one",
        "links",
        b"/c/{link}",
        "LinkUsed",
        404,
        **{**_used(), "link": _copied},
    ),
    Attempt(
        "a link that is revoked", "links", b"/c/{link}", "LinkRevoked", 404, link=link(), before=_revoked
    ),
    Attempt(
        "a link for many that is revoked",
        "links",
        b"/c/{link}",
        "LinkRevoked",
        404,
        link=link(reuse="many"),
        before=_revoked,
    ),
    *(
        Attempt(
            f"a link from another network {what}",
            "links",
            b"/c/{link}",
            "LinkInvalid",
            404,
            fields,
            link=link(net="192.0.2.0/24"),
        )
        for what, fields in {
            "": (),
            "with X-Forwarded-For": (b"X-Forwarded-For: 192.0.2.9",),
            "with a chain": (b"X-Forwarded-For: " + _OTHER,),
            "with Forwarded": (b"Forwarded: for=192.0.2.9",),
            "with X-Real-IP": (b"X-Real-IP: 192.0.2.9",),
        }.items()
    ),
    Attempt("a link of another family", "links", b"/c/{link}", "LinkInvalid", 404, link=link(net="::/0")),
)

OTHER_PLACES = (
    *(
        Attempt(
            f"a link {what} before a valid one",
            "links-query",
            b"/x?link=" + first + b"&link={link}",
            "LinkInvalid",
            404,
            link=link(),
        )
        for what, first in {"that is no link": b"x.y.z", "that is opaque": b"A" * 22}.items()
    ),
    Attempt(
        "an empty link before a valid one",
        "links-query",
        b"/x?link=&link={link}",
        "RouteNotFound",
        404,
        link=link(),
    ),
    Attempt("an encoded name", "links-query", b"/x?%6cink={link}", "RouteNotFound", 404, link=link()),
    Attempt("a doubly encoded name", "links-query", b"/x?%256cink={link}", "RouteNotFound", 404, link=link()),
    Attempt("a name in the other case", "links-query", b"/x?LINK={link}", "RouteNotFound", 404, link=link()),
    Attempt("a semicolon", "links-query", b"/x?a=b;link={link}", "RouteNotFound", 404, link=link()),
    Attempt(
        "more behind the link", "links-query", b"/x?link={link};host=esx2", "LinkInvalid", 404, link=link()
    ),
    Attempt("the path", "links-query", b"/link={link}", "RouteNotFound", 404, link=link()),
    *(
        Attempt(what, "links-cookie", b"/x", error, 404, (field,), link=make)
        for what, field, error, make in (
            ("an expired link", b"Cookie: console={link}", "LinkExpired", link(exp=1, iat=0, nbf=0)),
            ("a quoted link", b'Cookie: console="{link}"', "LinkInvalid", link()),
            ("no link before a valid one", b"Cookie: console=x; console={link}", "LinkInvalid", link()),
            ("a cookie in the other case", b"Cookie: Console={link}", "RouteNotFound", link()),
            ("a cookie within a cookie", b"Cookie: a=b,console={link}", "RouteNotFound", link()),
        )
    ),
    *(
        Attempt(what, "links-subprotocol", b"/x", error, status, protocol=protocol, link=make)
        for what, protocol, error, status, make in (
            ("nothing else", b"esxiproxy.link.{link}", "AccessDenied", 400, link()),
            ("no link beside a real one", b"esxiproxy.link.x, binary", "LinkInvalid", 404, None),
            ("a prefix alone", b"esxiproxy.link., binary", "LinkInvalid", 404, None),
            (
                "an expired link",
                b"binary, esxiproxy.link.{link}",
                "LinkExpired",
                404,
                link(exp=1, iat=0, nbf=0),
            ),
            (
                "no link before a valid one",
                b"esxiproxy.link.x, esxiproxy.link.{link}, binary",
                "LinkInvalid",
                404,
                link(),
            ),
            ("a link without the prefix", b"binary, {link}", "RouteNotFound", 404, link()),
        )
    ),
    Attempt(
        "the same link twice",
        "links-subprotocol",
        b"/x",
        "MalformedRequest",
        400,
        protocol=b"esxiproxy.link.{link}, esxiproxy.link.{link}, binary",
        plain="",
        link=link(),
    ),
    Attempt("the path", "links-subprotocol", b"/c/{link}", "RouteNotFound", 404, link=link()),
    *(
        Attempt(what, "links-opaque", b"/c/{link}", "LinkInvalid", 404, link=make)
        for what, make in (
            ("a guess", lambda scene: b"AbCdEfGhIjKlMnOpQrStUv"),
            ("a signed link", link()),
            ("a link of another router", lambda scene: scene.opaque("router other")),
            ("an altered link", lambda scene: scene.opaque()[:-1] + b"_"),
            ("a cut link", lambda scene: scene.opaque()[:-1]),
            ("more behind the link", lambda scene: scene.opaque() + b"A"),
            ("the path of another host", lambda scene: scene.opaque() + _B),
            ("the prefix behind it", lambda scene: scene.opaque() + b"/c/"),
            ("another audience", lambda scene: scene.opaque(aud="other")),
            ("another network", lambda scene: scene.opaque(net="192.0.2.0/24")),
            ("a restriction", lambda scene: scene.opaque(view=True)),
        )
    ),
    Attempt(
        "an expired link",
        "links-opaque",
        b"/c/{link}",
        "LinkExpired",
        404,
        link=lambda scene: scene.opaque(exp=1, iat=0, nbf=0),
    ),
    Attempt(
        "a revoked link",
        "links-opaque",
        b"/c/{link}",
        "LinkRevoked",
        404,
        before=_revoked,
        link=lambda scene: scene.opaque(),
    ),
    Attempt("an opaque link", "links", b"/c/{link}", "LinkInvalid", 404, link=lambda scene: scene.opaque()),
    Attempt(
        "an encoded prefix",
        "links-opaque",
        b"/%63/{link}",
        "RouteNotFound",
        404,
        link=lambda scene: scene.opaque(),
    ),
    Attempt(
        "a doubly encoded prefix",
        "links-opaque",
        b"/%2563/{link}",
        "RouteNotFound",
        404,
        link=lambda scene: scene.opaque(),
    ),
    Attempt(
        "a prefix in the other case",
        "links-opaque",
        b"/C/{link}",
        "RouteNotFound",
        404,
        link=lambda scene: scene.opaque(),
    ),
)

WHO = (
    *(
        Attempt(f"the link of {what}", "links-alice", b"/c/{link}", "AccessDenied", 403, link=link(sub=name))
        for what, name in {
            "another user": "bob",
            "the user in the other case": "Alice",
            "the user with a space": "alice ",
            "the user with another domain": "alice@example.com",
            "a Cyrillic user": "\u0430lice",
            "clients without a login": "anonymous",
        }.items()
    ),
    Attempt(
        "a link of another user with identity fields",
        "links-alice",
        b"/c/{link}",
        "AccessDenied",
        403,
        (b"Remote-User: bob", b"X-Auth-Request-User: bob"),
        link=link(sub="bob"),
    ),
    Attempt("a link without a login", "links-nobody", b"/c/{link}", "AccessDenied", 403, link=link()),
    Attempt("no link", "links-nobody", b"/ticket/x", "AccessDenied", 403),
    Attempt("a used link before another router", "all", b"/c/{link}", "LinkUsed", 404, **_used()),
    Attempt(
        "a bad link beside a good cookie",
        "all",
        b"/c/x.y.z",
        "LinkInvalid",
        404,
        (b"Cookie: console={link}", b"Origin: http://proxy.example:81"),
        link=link(),
    ),
    Attempt(
        "a bad link beside a listed host",
        "all",
        b"/c/x.y.z/h/esx1/",
        "LinkInvalid",
        404,
        (b"Cookie: esx=esx1",),
    ),
    Attempt(
        "a bad cookie beside a token",
        "all",
        b"/h/esx1/?token=S3cretToken",
        "LinkInvalid",
        404,
        (b"Cookie: console=x.y.z",),
        secrets=("S3cretToken",),
    ),
    Attempt(
        "a bad token beside a listed host",
        "all",
        b"/h/esx1/?token=S3cretGone",
        "RouteNotFound",
        404,
        (b"Cookie: esx=esx1",),
        secrets=("S3cretGone",),
    ),
)

LINKS = (*ALTERED, *MISPLACED, *REPLAYED, *OTHER_PLACES, *WHO)
