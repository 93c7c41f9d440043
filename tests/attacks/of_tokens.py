"""Attempts at token files, and at a service that resolves tokens."""

from __future__ import annotations

import json
from typing import Any

from esxiproxy.interfaces import Answer
from tests.attacks.attempt import TICKET, Attempt

_QUERIES = {
    "an unknown token": b"token=gone",
    "a token in the other case": b"token=s3crettoken",
    "an unknown token before a known one": b"token=gone&token=S3cretToken",
    "a doubly encoded token": b"token=S3cret%2554oken",
    "a NUL behind the token": b"token=S3cretToken%00",
    "a path": b"token=../tokens",
    "an encoded path": b"token=..%2f..%2fetc%2fpasswd",
    "a target as the token": b"token=10.0.0.9:443",
    "a whole line": b"token=S3cretToken:%20evil.example:443",
    "the parameter in the other case": b"Token=S3cretToken",
    "no token": b"token=",
    "a semicolon": b"a=b;token=S3cretToken",
    "a fragment of a token": b"token=S3cret",
    "a space in front": b"token=%20S3cretToken",
    "no UTF-8": b"token=S3cretToken%ff",
}
_TARGETS = {
    "a unix socket": "unix_socket:/run/docker.sock",
    "a file": "file:///etc/passwd",
    "raw TCP": "tcp://10.0.0.9:5900",
    "plain HTTP": "http://10.0.0.9:80",
    "a decimal address": "2130706433:443",
    "an octal address": "0177.0.0.1:443",
    "a hex address": "0x7f000001:443",
    "a hex address with dots": "0x7f.0.0.1:443",
    "a short address": "127.1:443",
    "a mapped address": "[::ffff:10.0.0.1]:443",
    "an address with a zone": "[fe80::1%25eth0]:443",
    "fullwidth digits": "１0.0.0.1:443",
    "an address with a trailing dot": "10.0.0.1.:443",
    "a name with two trailing dots": "esx1.lab..:443",
    "userinfo": "wss://esx1.lab@evil.example:443",
    "userinfo with a password": "wss://user:S3cretPassword@10.0.0.1",
    "userinfo without a scheme": "user@10.0.0.1:443",
    "a fragment": "wss://esx1.lab#@evil.example/",
    "port 0": "10.0.0.1:0",
    "port 65536": "10.0.0.1:65536",
    "a negative port": "10.0.0.1:-1",
    "a port in fullwidth digits": "10.0.0.1:４４３",
    "no port": "10.0.0.1",
    "a backslash": "wss://10.0.0.1\\@evil.example/",
    "another spelling of the scheme": "wss:/10.0.0.1",
}
_DENIED = {
    "an address outside allow": ("192.0.2.1:443", ()),
    "loopback": ("127.0.0.1:443", ()),
    "loopback in IPv6": ("[::1]:443", ()),
    "NAT64 of loopback": ("[64:ff9b::7f00:1]:443", ()),
    "6to4 of loopback": ("[2002:7f00:1::]:443", ()),
    "the metadata service": ("wss://169.254.169.254/latest", ()),
    "a name of loopback": ("x.lab:443", ("127.0.0.1",)),
    "localhost": ("localhost:443", ("127.0.0.1", "::1")),
    "a name with an address outside allow": ("x.lab:443", ("10.0.0.5", "192.0.2.1")),
    "a name with a mapped loopback": ("x.lab:443", ("::ffff:127.0.0.1",)),
    "a name with an IPv6 address outside allow": ("x.lab:443", ("10.0.0.5", "2001:db8::1")),
    "a name with a trailing dot": ("x.lab.:443", ("127.0.0.1",)),
}


def _token(what: str, target: str, error: str, status: int, **more: Any) -> Attempt:
    files = {"tokens": f"S3cretToken: {target}\n"}
    secrets = ("S3cretToken", "S3cretPassword")
    return Attempt(
        what, "tokens", b"/x?token=S3cretToken", error, status, files=files, secrets=secrets, **more
    )


def _names(addresses: tuple[str, ...]) -> dict[str, tuple[tuple[str, ...], ...]]:
    return dict.fromkeys(("x.lab", "localhost"), (addresses,)) if addresses else {}


TOKENS = (
    *(
        Attempt(what, "tokens", b"/x?" + query, "RouteNotFound", 404, secrets=("S3cretToken",))
        for what, query in _QUERIES.items()
    ),
    Attempt(
        "a token in the path", "tokens", b"/x/token=S3cretToken", "RouteNotFound", 404, secrets=("S3cret",)
    ),
    Attempt(
        "a token in a cookie",
        "tokens",
        b"/x",
        "RouteNotFound",
        404,
        (b"Cookie: token=S3cretToken",),
        secrets=("S3cret",),
    ),
    *(_token(f"the target is {what}", target, "RouteNotFound", 404) for what, target in _TARGETS.items()),
    *(
        _token(f"the target is {what}", target, "UpstreamDenied", 403, names=_names(found))
        for what, (target, found) in _DENIED.items()
    ),
    _token("the target has no address", "x.lab:443", "UpstreamUnresolved", 502),
    _token("the target is denied", "10.0.0.1:443", "UpstreamDenied", 403, keys={"deny": "10.0.0.1"}),
)


def answer(status: int = 200, **more: Any) -> Answer:
    body = {"host": "esx1.lab", "port": 443, "path": f"/ticket/{TICKET}", **more}
    return Answer(status, (), json.dumps(body).encode())


_RAW = {
    "no JSON": b"SECRET-TICKET",
    "a list": b'["SECRET-TICKET"]',
    "a name twice": b'{"host": "10.0.0.1", "host": "10.0.0.2", "port": 443}',
    "no host": b'{"port": 443, "path": "/SECRET-TICKET"}',
    "too much": b" " * 70000,
}
_ANSWERS = {
    "a decimal address": {"host": "2130706433"},
    "an octal address": {"host": "0177.0.0.1"},
    "a hex address": {"host": "0x7f.1"},
    "a short address": {"host": "127.1"},
    "a mapped address": {"host": "::ffff:127.0.0.1"},
    "an address in brackets": {"host": "[10.0.0.1]"},
    "a zone": {"host": "fe80::1%eth0"},
    "userinfo": {"host": "user@10.0.0.1"},
    "a port in the host": {"host": "10.0.0.1:22"},
    "a path in the host": {"host": "10.0.0.1/x"},
    "an empty host": {"host": ""},
    "a number as the host": {"host": 2130706433},
    "Unicode": {"host": "１0.0.0.1"},
    "port 0": {"port": 0},
    "a port as a text": {"port": "443"},
    "a port as a truth value": {"port": True},
    "a path with a line break": {"path": "/x HTTP/1.1\r\nHost: evil.example\r\n\r\nGET /SECRET-TICKET"},
    "a path without a slash": {"path": "@evil.example/SECRET-TICKET"},
    "a URL as the path": {"path": "https://evil.example/SECRET-TICKET"},
    "a fragment in the path": {"path": "/x#SECRET-TICKET"},
    "a name of its own": {"verify": "none"},
    "no valid pin": {"pins": ["md5:00"]},
}
_OTHERS = (
    ("the service refuses", Answer(403, (), b"SECRET-TICKET"), "ServiceUnavailable", 502, {}),
    ("the service fails", Answer(500, (), b"SECRET-TICKET"), "ServiceUnavailable", 502, {}),
    (
        "the service redirects",
        Answer(302, ((b"Location", b"http://169.254.169.254/SECRET-TICKET"),), b""),
        "ServiceUnavailable",
        502,
        {},
    ),
    ("the token is unknown", Answer(404, (), b"SECRET-TICKET"), "RouteNotFound", 404, {}),
    ("the token is gone", Answer(410, (), b"SECRET-TICKET"), "RouteNotFound", 404, {}),
    ("the token has expired", answer(expires=1), "RouteNotFound", 404, {}),
    ("the host is outside allow", answer(host="192.0.2.1"), "UpstreamDenied", 403, {}),
    ("the host is loopback", answer(host="127.0.0.1"), "UpstreamDenied", 403, {}),
    ("the host is NAT64 of loopback", answer(host="64:ff9b::7f00:1"), "UpstreamDenied", 403, {}),
    ("the name is loopback", answer(), "UpstreamDenied", 403, {"esx1.lab": (("127.0.0.1",),)}),
    (
        "the name has two faces",
        answer(),
        "UpstreamDenied",
        403,
        {"esx1.lab": (("10.0.0.5", "127.0.0.1"),)},
    ),
    ("the name has no address", answer(), "UpstreamUnresolved", 502, {}),
)
_SECRETS = ("S3cretToken", "S3cretKey", "S3cret%54oken")
_ODD = {
    "a dot segment": b"..",
    "an encoded dot segment": b"%2e%2e",
    "a line break": b"S3cretToken%0d%0aHost:%20evil",
    "a NUL": b"S3cretToken%00",
    "a token that is too long": b"S3cretToken" * 500,
    "no UTF-8": b"S3cretToken%ff",
    "a broken escape": b"S3cretToken%",
}


def _rebound(scene: Any) -> None:
    """Open a console whose answer is cached, before the name changes."""
    scene.open(
        b"GET /x?token=S3cretToken HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    scene.finish()


RESOLVER = (
    *(
        Attempt(
            f"the answer is {what}",
            "resolver",
            b"/x?token=S3cretToken",
            "ServiceUnavailable",
            502,
            answers=(Answer(200, (), body),),
            secrets=_SECRETS,
        )
        for what, body in _RAW.items()
    ),
    *(
        Attempt(
            f"the answer has {what}",
            "resolver",
            b"/x?token=S3cretToken",
            "ServiceUnavailable",
            502,
            answers=(answer(**more),),
            secrets=_SECRETS,
        )
        for what, more in _ANSWERS.items()
    ),
    *(
        Attempt(
            what,
            "resolver",
            b"/x?token=S3cretToken",
            error,
            status,
            answers=(answer,),
            names=names,
            secrets=_SECRETS,
        )
        for what, answer, error, status, names in _OTHERS
    ),
    *(
        Attempt(
            f"the token is {what}", "resolver", b"/x?token=" + token, "RouteNotFound", 404, secrets=_SECRETS
        )
        for what, token in _ODD.items()
    ),
    Attempt(
        "the answer is cached and its name changes",
        "resolver",
        b"/x?token=S3cretToken",
        "UpstreamDenied",
        403,
        answers=(answer(expires=9e9),),
        names={"esx1.lab": (("10.0.0.5",), ("127.0.0.1",))},
        before=_rebound,
        secrets=_SECRETS,
    ),
    *(
        Attempt(f"the path has {what}", "resolver-path", target, "RouteNotFound", 404, secrets=_SECRETS)
        for what, target in {
            "dot segments": b"/r/S3cretToken/../x/",
            "an encoded slash": b"/r/S3cretToken%2fx/",
            "the token twice encoded": b"/r/S3cret%2554oken/",
            "an encoded prefix": b"/%72/S3cretToken/",
            "a doubly encoded prefix": b"/%2572/S3cretToken/",
            "a prefix in the other case": b"/R/S3cretToken/",
            "an empty segment in front": b"//r/S3cretToken/",
            "the prefix behind the token": b"/r/S3cretToken//r/",
            "no slash behind the token": b"/r/S3cretToken",
            "a parameter": b"/r/..;S3cretToken/",
        }.items()
    ),
    Attempt(
        "the cookie has another case",
        "resolver-cookie",
        b"/x",
        "RouteNotFound",
        404,
        (b"Cookie: Console=S3cretToken",),
        secrets=_SECRETS,
    ),
)
