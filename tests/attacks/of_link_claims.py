"""Attempts with links whose signature is right and whose claims are not."""

from __future__ import annotations

from typing import Any

from tests.attacks.attempt import TICKET, Attempt
from tests.attacks.of_links import link
from tests.support.links import PIN

_TO = {"host": "10.0.0.1", "port": 443, "path": f"/ticket/{TICKET}"}
_LATER, _BEFORE = 9e9, 1.0


def _to(**changed: Any) -> dict[str, Any]:
    return {"to": {**_TO, **changed}}


_INVALID: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://evil.example"},
    "another audience": {"aud": "other"},
    "a list of audiences": {"aud": ["consoles", "other"]},
    "no issuer": {"iss": None},
    "no audience": {"aud": None},
    "no expiry": {"exp": None},
    "no beginning": {"nbf": None},
    "no time": {"iat": None},
    "no id": {"jti": None},
    "no destination": {"to": None},
    "an expiry that is a text": {"exp": "9999999999"},
    "an expiry that is no number": {"exp": float("nan")},
    "an endless expiry": {"exp": float("inf")},
    "an expiry that is too far": {"exp": _LATER},
    "an expiry that is a truth value": {"exp": True},
    "an unknown claim": {"clipboard": False},
    "a view-only console": {"view": True},
    "a recorded console": {"rec": True},
    "a restriction that is a text": {"view": "yes"},
    "an id with a space": {"jti": "link 1"},
    "an id that is a number": {"jti": 1},
    "a pin and a certificate": {"pin": [PIN], "crt": "x"},
    "no valid pin": {"pin": ["md5:00"]},
    "an empty list of pins": {"pin": []},
    "no valid certificate": {"crt": "-----BEGIN CERTIFICATE-----"},
    "no lifetime": {"ttl": 0},
    "an endless lifetime": {"ttl": float("inf")},
    "a negative reuse": {"reuse": -1},
    "an odd reuse": {"reuse": "always"},
    "a reuse that is a truth value": {"reuse": True},
    "a name with a line break": {"sub": "alice\nbob"},
    "an empty name": {"sub": ""},
    "a network with host bits": {"net": "198.51.100.7/24"},
    "a destination that is a text": {"to": "10.0.0.1:443"},
    "a destination with more": _to(upstream="lab"),
    "a decimal address": _to(host="2130706433"),
    "an octal address": _to(host="0177.0.0.1"),
    "a hex address": _to(host="0x7f000001"),
    "a hex address with dots": _to(host="0x7f.0.0.1"),
    "a short address": _to(host="127.1"),
    "a mapped address": _to(host="::ffff:10.0.0.1"),
    "an address in brackets": _to(host="[10.0.0.1]"),
    "an address with a zone": _to(host="fe80::1%eth0"),
    "an address with a trailing dot": _to(host="10.0.0.1."),
    "an address that is not canonical": _to(host="2001:DB8:0::1"),
    "a name with a trailing dot": _to(host="esx1.lab."),
    "a name that ends in a number": _to(host="esx1.0x1"),
    "userinfo": _to(host="esx1.lab@evil.example"),
    "a port in the host": _to(host="10.0.0.1:22"),
    "a path in the host": _to(host="10.0.0.1/x"),
    "an encoded host": _to(host="10%2e0.0.1"),
    "fullwidth digits": _to(host="１0.0.0.1"),
    "a NUL in the host": _to(host="esx1.lab\0.evil.example"),
    "a host that is a number": _to(host=2130706433),
    "an empty host": _to(host=""),
    "port 0": _to(port=0),
    "port 65536": _to(port=65536),
    "a port that is a text": _to(port="443"),
    "a port that is a truth value": _to(port=True),
    "a path without a slash": _to(path=f"@evil.example/{TICKET}"),
    "a URL as the path": _to(path=f"https://evil.example/{TICKET}"),
    "a line break in the path": _to(path=f"/x HTTP/1.1\r\nHost: evil\r\n\r\nGET /{TICKET}"),
    "a fragment in the path": _to(path=f"/x#{TICKET}"),
    "a space in the path": _to(path=f"/x {TICKET}"),
}
_EXPIRED: dict[str, dict[str, Any]] = {
    "an expired link": {"exp": _BEFORE, "iat": 0, "nbf": 0},
    "an expired link for many": {"exp": _BEFORE, "iat": 0, "nbf": 0, "reuse": "many"},
    "an expired link that never began": {"exp": -1, "iat": -2, "nbf": -2},
    "a link that is not valid yet": {"nbf": _LATER},
    "a link of the future": {"iat": _LATER, "exp": _LATER + 300},
}
_DENIED: dict[str, tuple[str, tuple[str, ...]]] = {
    "an address outside allow": ("192.0.2.1", ()),
    "loopback": ("127.0.0.1", ()),
    "loopback in IPv6": ("::1", ()),
    "the unspecified address": ("0.0.0.0", ()),
    "NAT64 of loopback": ("64:ff9b::7f00:1", ()),
    "6to4 of loopback": ("2002:7f00:1::", ()),
    "the metadata service": ("169.254.169.254", ()),
    "the client itself": ("198.51.100.7", ()),
    "a denied address": ("10.66.0.1", ()),
    "a name of loopback": ("x.lab", ("127.0.0.1",)),
    "a name of a denied address": ("x.lab", ("10.0.0.5", "10.66.0.1")),
    "a name of loopback beside a good address": ("x.lab", ("10.0.0.5", "::1")),
    "a name of a mapped loopback": ("x.lab", ("::ffff:127.0.0.1",)),
    "a name of NAT64 of loopback": ("x.lab", ("64:ff9b::127.0.0.1",)),
    "localhost": ("localhost", ("127.0.0.1",)),
}


def _claims(what: str, changed: dict[str, Any], error: str, status: int = 404, **more: Any) -> Attempt:
    return Attempt(what, "links", b"/c/{link}", error, status, link=link(**changed), **more)


def _old(scene: Any) -> bytes:
    then = scene.memory.since - 100
    return link(iat=then, nbf=then)(scene)


CLAIMS = (
    *(_claims(f"a link with {what}", changed, "LinkInvalid") for what, changed in _INVALID.items()),
    *(_claims(what, changed, "LinkExpired") for what, changed in _EXPIRED.items()),
    *(
        _claims(
            f"a link to {what}",
            _to(host=host),
            "UpstreamDenied",
            403,
            keys={"deny": "10.66.0.0/16"},
            names={host: (found,)} if found else {},
        )
        for what, (host, found) in _DENIED.items()
    ),
    _claims("a link to a name without an address", _to(host="gone.lab"), "UpstreamUnresolved", 502),
    Attempt("a link that is older than the state", "links", b"/c/{link}", "LinkInvalid", 404, link=_old),
    Attempt(
        "a link with a pin for a host without TLS",
        "links-plain",
        b"/c/{link}",
        "LinkInvalid",
        404,
        link=link(pin=[PIN]),
    ),
)
