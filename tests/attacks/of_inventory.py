"""Attempts at an inventory: hosts that it does not have, and addresses that it may not have."""

from __future__ import annotations

from tests.attacks.attempt import Attempt

_NAMES = {
    "a host that is not listed": b"esx9",
    "the address of a listed host": b"10.0.0.1",
    "loopback": b"127.0.0.1",
    "loopback in decimal": b"2130706433",
    "loopback in octal": b"0177.0.0.1",
    "loopback in hex": b"0x7f000001",
    "loopback in hex with dots": b"0x7f.0.0.1",
    "loopback in short form": b"127.1",
    "loopback in IPv6": b"%5b::1%5d",
    "loopback in mapped form": b"%5b::ffff:127.0.0.1%5d",
    "a listed host in mapped form": b"::ffff:10.0.0.1",
    "the metadata service": b"169.254.169.254",
    "localhost": b"localhost",
    "a second trailing dot": b"esx1..",
    "a leading dot": b".esx1",
    "a port": b"esx1:22",
    "another host behind userinfo": b"esx1@evil.example",
    "another host behind encoded userinfo": b"esx1%40evil.example",
    "a listed host behind another": b"evil.example%23esx1",
    "a URL": b"https:%3a10.0.0.9",
    "a wildcard": b"*",
    "a space": b"esx1%20",
    "the Kelvin sign": b"%e2%84%aa",
    "fullwidth digits": b"%ef%bc%91%ef%bc%90.0.0.1",
    "another host in its label": b"esx1.evil.example",
    "a parameter": b"esx1;@evil.example",
    "an encoded name twice": b"esx1%2c10.0.0.9",
}
_PATHS = {
    "no name": b"/h//ticket/x",
    "no slash behind the name": b"/h/esx1",
    "no prefix": b"/ticket/x",
    "an encoded prefix": b"/%68/esx1/",
    "a prefix in the other case": b"/H/esx1/",
    "dot segments to another host": b"/h/esx1/../esx9/",
    "dot segments in front": b"/x/../h/esx1/",
    "encoded dot segments": b"/h/esx1/%2e%2e/esx2.lab/",
    "half encoded dot segments": b"/h/esx1/.%2E/esx2.lab/",
    "doubly encoded dot segments": b"/h/esx1/%252e%252e/esx2.lab/",
    "an encoded slash": b"/h/esx1%2f..%2fesx2.lab/",
    "a doubly encoded slash": b"/h/esx1%252f/",
    "a doubly encoded name": b"/h/esx%2531/",
    "a backslash": b"/h/esx1\\..\\esx2.lab/",
    "an encoded backslash": b"/h/esx1%5cesx2.lab/",
    "a segment with a parameter": b"/h/esx1/..;/esx2.lab/",
    "an encoded parameter": b"/h/esx1/..%3b/esx2.lab/",
    "an overlong dot": b"/h/esx1/%c0%ae%c0%ae/esx2.lab/",
    "an overlong slash": b"/h/esx1%c0%afesx2.lab/",
    "an IIS escape": b"/h/esx1/%u002e%u002e/",
    "a fullwidth dot": b"/h/esx1/%ef%bc%8e%ef%bc%8e/",
    "an encoded NUL": b"/h/esx1%00/",
    "an encoded line break": b"/h/esx1%0d%0aHost:%20evil.example/",
    "a broken escape": b"/h/esx1%/",
    "an authority in front": b"//evil.example/h/esx1/",
    "an authority in front, encoded": b"/%2f/evil.example/h/esx1/",
}
_QUERIES = {
    "a host that is not listed": b"/ticket/x?host=esx9",
    "a listed host behind another": b"/ticket/x?host=esx9&host=esx1",
    "an encoded parameter behind another": b"/ticket/x?host=esx9&%68ost=esx1",
    "an encoded ampersand": b"/ticket/x?host=esx1%26host=esx9",
    "a doubly encoded name": b"/ticket/x?host=esx%2531",
    "a parameter in the other case": b"/ticket/x?HOST=esx1",
    "an empty host": b"/ticket/x?host=",
    "a URL": b"/ticket/x?host=https://10.0.0.1/",
    "a semicolon": b"/ticket/x?a=b;host=esx1",
    "a question mark in the value": b"/ticket/x?host=esx1?host=esx2.lab",
    "an encoded question mark": b"/ticket/x%3fhost=esx1",
    "a value that is no UTF-8": b"/ticket/x?host=%ff",
    "a plus": b"/ticket/x?host=esx1+",
}
_HOSTS = {
    "the address of a listed host": (b"10.0.0.1", "RouteNotFound", 404),
    "a host that is not listed": (b"esx9.consoles.example.com", "RouteNotFound", 404),
    "another domain behind it": (b"esx1.consoles.example.com.evil.example", "RouteNotFound", 404),
    "another label in front": (b"evil.esx1.consoles.example.com", "RouteNotFound", 404),
    "two trailing dots": (b"esx1.consoles.example.com..", "RouteNotFound", 404),
    "an encoded dot": (b"esx1%2econsoles.example.com", "RouteNotFound", 404),
    "no label": (b".consoles.example.com", "RouteNotFound", 404),
    "the domain alone": (b"consoles.example.com", "RouteNotFound", 404),
    "another separator": (b"esx1-consoles.example.com", "RouteNotFound", 404),
    "userinfo": (b"esx1.consoles.example.com@evil.example", "MalformedRequest", 400),
    "a path": (b"esx1.consoles.example.com/evil", "MalformedRequest", 400),
    "two ports": (b"esx1.consoles.example.com:443:22", "MalformedRequest", 400),
    "no host": (b"", "MalformedRequest", 400),
}
_PROXY_FIELDS = {
    "X-Forwarded-Host": b"X-Forwarded-Host: esx1.consoles.example.com",
    "Forwarded": b"Forwarded: host=esx1.consoles.example.com",
    "X-Original-Host": b"X-Original-Host: esx1.consoles.example.com",
    "X-HTTP-Host-Override": b"X-HTTP-Host-Override: esx1.consoles.example.com",
}
_COOKIES = {
    "a host that is not listed": b"Cookie: esx=esx9",
    "a listed host behind another": b"Cookie: esx=esx9; esx=esx1",
    "a cookie in the other case": b"Cookie: Esx=esx1",
    "a name with a port": b'Cookie: esx="esx1:22"',
    "a doubly encoded name": b"Cookie: esx=esx%2531",
    "a cookie within a cookie": b"Cookie: a=b,esx=esx1",
    "another field": b"Cookie2: esx=esx1",
}
INVENTORY = (
    *(Attempt(what, "inventory", b"/h/%b/" % name, "RouteNotFound", 404) for what, name in _NAMES.items()),
    *(Attempt(what, "inventory", target, "RouteNotFound", 404) for what, target in _PATHS.items()),
    *(Attempt(what, "inventory-query", target, "RouteNotFound", 404) for what, target in _QUERIES.items()),
    *(
        Attempt(what, "inventory-host", b"/ticket/x", error, status, host=host)
        for what, (host, error, status) in _HOSTS.items()
    ),
    *(
        Attempt(f"the host in {what}", "inventory-host", b"/ticket/x", "RouteNotFound", 404, (field,))
        for what, field in _PROXY_FIELDS.items()
    ),
    Attempt(
        "two Host fields",
        "inventory-host",
        b"/ticket/x",
        "MalformedRequest",
        400,
        (b"Host: esx1.consoles.example.com",),
    ),
    *(
        Attempt(what, "inventory-cookie", b"/ticket/x", "RouteNotFound", 404, (field,))
        for what, field in _COOKIES.items()
    ),
    Attempt(
        "the absolute form",
        "inventory-host",
        b"http://esx1.consoles.example.com/ticket/x",
        "MalformedRequest",
        400,
        plain="",
    ),
    Attempt(
        "the absolute form of another proxy's host",
        "inventory",
        b"http://10.0.0.9/h/esx9/",
        "MalformedRequest",
        400,
    ),
    Attempt(
        "a CONNECT",
        "inventory",
        b"10.0.0.9:443",
        "MalformedRequest",
        400,
        method=b"CONNECT",
        host=b"10.0.0.9:443",
    ),
)
_DENIED = {
    "loopback": "127.0.0.1",
    "all of loopback": "127.8.9.10",
    "loopback in IPv6": "wss://[::1]",
    "the unspecified address": "0.0.0.0",
    "the unspecified address in IPv6": "wss://[::]",
    "the first network": "0.1.2.3",
    "link-local": "169.254.169.254",
    "link-local in IPv6": "wss://[fe80::1]",
    "multicast": "224.0.0.1",
    "multicast in IPv6": "wss://[ff02::1]",
    "broadcast": "255.255.255.255",
    "loopback by NAT64": "wss://[64:ff9b::7f00:1]",
    "loopback by local NAT64": "wss://[64:ff9b:1::7f00:1]",
    "loopback by 6to4": "wss://[2002:7f00:1::1]",
    "loopback in compatible form": "wss://[::7f00:1]",
    "a listener of the proxy": "192.0.2.80",
    "a listener of the proxy at the client's address": "127.0.0.1:8443",
    "a denied network": "10.66.0.1",
    "a denied network by NAT64": "wss://[64:ff9b::a42:1]",
    "a denied network by 6to4": "wss://[2002:a42:1::]",
}
_ANSWERS = {
    "loopback": ("127.0.0.1",),
    "loopback beside a good address": ("10.0.0.5", "127.0.0.1"),
    "loopback in IPv6 beside a good address": ("10.0.0.5", "::1"),
    "loopback in mapped form": ("::ffff:127.0.0.1",),
    "loopback in compatible form": ("::127.0.0.1",),
    "loopback by NAT64": ("64:ff9b::127.0.0.1",),
    "loopback by 6to4": ("2002:7f00:1::1",),
    "the metadata service": ("169.254.169.254",),
    "the metadata service in mapped form": ("::ffff:169.254.169.254",),
    "a link-local address with a zone": ("fe80::1%eth0",),
    "the unspecified address": ("::",),
    "a listener of the proxy": ("192.0.2.80",),
    "a listener of the proxy in mapped form": ("::ffff:192.0.2.80",),
    "a denied network": ("10.66.0.9",),
    "a denied network behind good addresses": ("10.0.0.5", "2001:db8::1", "10.66.0.9"),
}
ADDRESSES = (
    *(
        Attempt(
            f"a listed host is {what}",
            "inventory",
            b"/h/bad/ticket/x",
            "UpstreamDenied",
            403,
            files={"hosts.csv": f"name,address\nbad,{address}\n"},
            keys={"deny": "10.66.0.0/16"},
        )
        for what, address in _DENIED.items()
    ),
    *(
        Attempt(
            f"the name resolves to {what}",
            "inventory",
            b"/h/named/ticket/x",
            "UpstreamDenied",
            403,
            keys={"deny": "10.66.0.0/16"},
            names={"named.lab": (addresses,)},
        )
        for what, addresses in _ANSWERS.items()
    ),
    Attempt("the name has no address", "inventory", b"/h/named/ticket/x", "UpstreamUnresolved", 502),
    Attempt(
        "an address outside allow",
        "inventory",
        b"/h/esx1/ticket/x",
        "UpstreamDenied",
        403,
        keys={"allow": "10.1.0.0/16"},
    ),
)
