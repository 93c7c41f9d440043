"""Attempts at a listener: static routes, logins, origins and restrictions."""

from __future__ import annotations

from dataclasses import replace

from tests.attacks.attempt import Attempt
from tests.support import links as made

_LAB = b"a.lab.example.com"
_STATIC = {
    "another path": (b"/ticket/x", _LAB),
    "a longer segment": (b"/labx/", _LAB),
    "the prefix in the other case": (b"/LAB/", _LAB),
    "an encoded prefix": (b"/%6cab/", _LAB),
    "dot segments out of the prefix": (b"/lab/../admin", _LAB),
    "dot segments into the prefix": (b"/x/../lab/", _LAB),
    "encoded dot segments": (b"/lab/%2e%2e/admin", _LAB),
    "doubly encoded dot segments": (b"/lab/%252e%252e/admin", _LAB),
    "an encoded slash": (b"/lab%2f..%2fadmin", _LAB),
    "a backslash": (b"/lab\\..\\admin", _LAB),
    "a parameter": (b"/lab/..;/admin", _LAB),
    "an empty segment": (b"//lab/", _LAB),
    "an empty segment within": (b"/lab//admin", _LAB),
    "an overlong dot": (b"/lab/%c0%ae%c0%ae/admin", _LAB),
    "a fullwidth slash": (b"/lab/..%ef%bc%8fadmin", _LAB),
    "another host": (b"/lab/x", b"proxy.example"),
    "a host with two labels for one": (b"/lab/x", b"a.b.lab.example.com"),
    "a host without the label": (b"/lab/x", b"lab.example.com"),
    "a host with another domain behind it": (b"/lab/x", b"a.lab.example.com.evil.example"),
    "a host that ends like it": (b"/lab/x", b"a.evillab.example.com"),
    "a host with two trailing dots": (b"/lab/x", b"a.lab.example.com.."),
    "the name of an upstream": (b"/lab", b"lab"),
    "the address of an upstream": (b"/lab/x", b"10.0.0.7"),
    "an upstream's address as the target": (b"/10.0.0.7:443/", _LAB),
}


def login(**changed):
    """Return what makes a token for a login."""

    def make(scene):
        options = {name[1:]: changed[name] for name in changed if name.startswith("_")}
        now = scene.memory.time_of_day()
        claims = {
            "iss": made.ISSUER,
            "aud": made.AUDIENCE,
            "sub": "alice",
            "iat": now,
            "exp": now + 300,
            **{name: value for name, value in changed.items() if not name.startswith("_")},
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        if "forged" in options:
            return options["forged"](claims)
        return made.token(claims, **{"typ": "JWT", **options})

    return make


def _none(claims):
    return made.forged({"alg": "none", "typ": "JWT", "kid": "ed"}, claims)


def _hmac(claims):
    return made.hmac_of(made.pair("eddsa")[1], {"alg": "HS256", "typ": "JWT", "kid": "ed"}, claims)


_LOGINS = {
    "an expired token": login(exp=1),
    "a token without expiry": login(exp=None),
    "a token that is not valid yet": login(nbf=9e9),
    "a token of another issuer": login(iss="https://evil.example"),
    "a token for another audience": login(aud="other"),
    "a token without a name": login(sub=None),
    "a token without a signature": login(_forged=_none),
    "a token with the public key as a secret": login(_forged=_hmac),
    "an unknown key": login(_kid="gone"),
    "a key of another algorithm": login(_kid="ec"),
    "a key that is a path": login(_kid="../../../../dev/null"),
    "a key within the token": login(_kid="own", _key=made.pair("other")[0], _jwk={"kty": "OKP"}),
    "a signature of another key": login(_key=made.pair("other")[0]),
    "a link": lambda scene: made.token(made.claims(scene.memory.time_of_day(), sub="alice")),
    "a logout token": login(_typ="logout+jwt"),
    "the name of clients without a login": login(sub="anonymous"),
}
_FOREIGN = {
    "another site": b"https://evil.example",
    "no origin": b"null",
    "an empty origin": b"",
    "another scheme": b"https://proxy.example:81",
    "another port": b"http://proxy.example:82",
    "no port": b"http://proxy.example",
    "a host behind it": b"http://proxy.example:81.evil.example",
    "userinfo": b"http://proxy.example:81@evil.example",
    "the host as userinfo": b"http://evil.example@proxy.example:81",
    "a host that ends like it": b"http://evilproxy.example:81",
    "a subdomain": b"http://a.proxy.example:81",
    "a trailing dot": b"http://proxy.example.:81",
    "a path": b"http://proxy.example:81/",
    "a list": b"http://proxy.example:81, https://evil.example",
}


def _alice(scene):
    return login()(scene)


_ORIGINS = tuple(
    Attempt(
        f"a page of {what}",
        "login-cookie",
        b"/ticket/x",
        "OriginRefused",
        403,
        (b"Cookie: login={link}", b"Origin: " + origin),
        plain="",
        link=_alice,
    )
    for what, origin in _FOREIGN.items()
)
_BY_COOKIE = (
    (
        "links-cookie",
        b"Cookie: console={link}",
        lambda scene: made.token(made.claims(scene.memory.time_of_day())),
    ),
    ("inventory-cookie", b"Cookie: esx=esx1", None),
    ("resolver-cookie", b"Cookie: console=S3cretToken", None),
)
LISTENER = (
    *(
        Attempt(what, "static", target, "RouteNotFound", 404, host=host)
        for what, (target, host) in _STATIC.items()
    ),
    *(
        Attempt(
            what, "login", b"/ticket/x", "AccessDenied", 401, (b"Authorization: Bearer {link}",), link=link
        )
        for what, link in _LOGINS.items()
    ),
    Attempt("no login", "login", b"/ticket/x", "AccessDenied", 401),
    Attempt(
        "a token in the query", "login", b"/ticket/x?access_token={link}", "AccessDenied", 401, link=_alice
    ),
    Attempt(
        "a bearer where a cookie is due",
        "login-cookie",
        b"/",
        "AccessDenied",
        401,
        (b"Authorization: Bearer {link}",),
        link=_alice,
    ),
    Attempt(
        "two cookies",
        "login-cookie",
        b"/",
        "AccessDenied",
        401,
        (b"Cookie: login={link}; login=a.b.c",),
        link=_alice,
    ),
    Attempt(
        "two tokens",
        "login",
        b"/",
        "AccessDenied",
        401,
        (b"Authorization: Bearer {link}", b"Authorization: Bearer a.b.c"),
        link=_alice,
    ),
    Attempt(
        "identity fields in place of a login",
        "login",
        b"/",
        "AccessDenied",
        401,
        (b"Remote-User: alice", b"X-Forwarded-User: alice"),
    ),
    *_ORIGINS,
    replace(
        _ORIGINS[0],
        what="two origins",
        error="MalformedRequest",
        status=400,
        fields=(b"Cookie: login={link}", b"Origin: http://proxy.example:81", b"Origin: https://evil.example"),
    ),
    replace(
        _ORIGINS[0],
        what="an origin that a client claims to be its host",
        fields=(
            b"Cookie: login={link}",
            b"Origin: https://evil.example",
            b"X-Forwarded-Host: evil.example",
            b"X-Forwarded-Proto: https",
        ),
    ),
    *(
        Attempt(
            "a page of another site",
            listener,
            b"/ticket/x",
            "OriginRefused",
            403,
            (cookie, b"Origin: https://evil.example"),
            plain="",
            link=link,
            secrets=("S3cretToken",),
        )
        for listener, cookie, link in _BY_COOKIE
    ),
    *(
        Attempt(
            f"a console with the restriction {flag}", "restricted", b"/?" + flag.encode(), "AccessDenied", 403
        )
        for flag in ("view", "record", "clipboard", "power", "resize")
    ),
)
