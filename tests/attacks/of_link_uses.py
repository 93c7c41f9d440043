"""Attempts with links that were used or revoked, that belong to another user, or are at another place."""

from __future__ import annotations

from typing import Any

from tests.attacks.attempt import TICKET, Attempt
from tests.attacks.of_links import BEHIND, Make, link


def _opening(target: bytes) -> bytes:
    return (
        b"GET " + target + b" HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )


def once(**changed: Any) -> Make:
    """Return a function that makes one link for each scene."""

    def make(scene: Any) -> bytes:
        if not hasattr(scene, "link"):
            to = {"host": "10.0.0.1", "port": 443, "path": f"/ticket/{TICKET}"}
            scene.link = link(**{"to": to, **changed})(scene)
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
    """Return another link with the id of a used one."""
    return link(exp=scene.memory.time_of_day() + 200, sub="alice")(scene)


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
            ("the path of another host", lambda scene: scene.opaque() + BEHIND),
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

LINK_USES = (*REPLAYED, *OTHER_PLACES, *WHO)
