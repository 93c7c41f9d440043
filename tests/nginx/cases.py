"""The translation of directives: nginx's text, the resulting sections, and the complaints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

Sections = dict[str, dict[str, str]]

UPGRADE = "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;"
PASS = f"proxy_pass http://192.0.2.10; {UPGRADE}"
TLS_PASS = f"proxy_pass https://esxi.example.com; {UPGRADE}"
VERIFIED = f"{TLS_PASS} proxy_ssl_verify on; proxy_ssl_trusted_certificate ca.pem;"
ROOT = f"location / {{ {PASS} }}"
CERTIFICATE = "ssl_certificate a.crt; ssl_certificate_key a.key;"


@dataclass(frozen=True)
class Case:
    """One translation. ``text`` is the content of ``nginx.conf``, whose name ``complaints`` leave out."""

    text: str
    sections: Sections
    complaints: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    keep_insecure: bool = False


def listener(name: str = "port-80", **keys: str | None) -> Sections:
    """Return the listener of `server { listen 80; ... }` with other keys; None takes one out."""
    default = {"listen": "0.0.0.0:80", "http": "forward", "upstream": "192.0.2.10-80"}
    return {f"listener {name}": {key: value for key, value in (default | keys).items() if value is not None}}


def upstream(name: str = "192.0.2.10-80", **keys: str | None) -> Sections:
    """Return the upstream of `proxy_pass http://192.0.2.10` with other keys."""
    default = {"url": "ws://192.0.2.10:80", "origin": "client"}
    return {f"upstream {name}": {key: value for key, value in (default | keys).items() if value is not None}}


def both(**keys: str | None) -> Sections:
    """Return an ordinary listener, and an upstream with these keys."""
    return listener() | upstream(**keys)


def secure(**keys: str | None) -> Sections:
    """Return an ordinary listener, and the upstream of `VERIFIED` with other keys."""
    default = {"url": "wss://esxi.example.com:443", "verify": "ca", "ca": "FOLDER/ca.pem"}
    return listener(upstream="esxi.example.com") | upstream("esxi.example.com", **(default | keys))


def server(listen: str = "listen 80;", rest: str = ROOT) -> str:
    """Return a server block on one line."""
    return f"server {{ {listen} {rest} }}"


def location(*lines: str, path: str = "/") -> str:
    """Return a server block with one location."""
    return server(rest=f"location {path} {{ {' '.join(lines)} }}")


def listening(text: str, /, *complaints: str, name: str = "port-80", rest: str = ROOT, **keys: str) -> Case:
    """Return a case about ``listen``."""
    return Case(server(text, rest), listener(name, **keys) | upstream(), complaints)


def left_out(text: str, *complaints: str) -> Case:
    """Return a case of which nothing is carried over."""
    return Case(text, {}, complaints)


_TLS = {"certificate": "FOLDER/a.crt", "private_key": "FOLDER/a.key"}
_ONE_PATH = "lies under / and would be forwarded to the same upstream: the server is omitted"

LISTENS = {
    "port": listening("listen 80;"),
    "nothing": listening(""),
    "any": listening("listen *:8080;", name="port-8080", listen="0.0.0.0:8080"),
    "address": listening("listen 192.0.2.1:80;", name="192.0.2.1-80", listen="192.0.2.1:80"),
    "address_alone": listening("listen 192.0.2.1;", name="192.0.2.1-80", listen="192.0.2.1:80"),
    "ipv6_address": listening("listen [2001:db8::1]:81;", name="2001-db8-1-81", listen="[2001:db8::1]:81"),
    "ipv6_and_ipv4": listening("listen 80; listen [::]:80;", listen="[::]:80"),
    "ipv6_and_ipv4_in_one": listening("listen [::]:80 ipv6only=off;", listen="[::]:80"),
    "ipv6_alone": listening(
        "listen [::]:80;",
        "1: listen: esxiproxy accepts IPv4 on [::] as well, and nginx does not (ipv6only=on)",
        listen="[::]:80",
    ),
    "unix": listening("listen unix:/run/console.sock;", name="unix-console", listen="unix:/run/console.sock"),
    "default_server": listening("listen 80 default_server;"),
    "backlog": listening("listen 80 backlog=511;", listen="tcp:port=80:interface=0.0.0.0:backlog=511"),
    "ipv6_backlog": listening(
        "listen [::1]:80 backlog=511;", name="1-80", listen=r"tcp6:port=80:interface=\:\:1:backlog=511"
    ),
    "proxy_protocol": listening("listen 80 proxy_protocol;", proxy_protocol="yes"),
    "http2": listening(
        "listen 80 http2;", "1: listen: http2: esxiproxy speaks only HTTP/1.1, which all clients support"
    ),
    "reuseport": listening(
        "listen 80 reuseport;", "1: listen: reuseport: esxiproxy opens one socket for a listener"
    ),
    "deferred": listening("listen 80 deferred;", "1: listen: deferred: a listener has no equivalent"),
    "ports": left_out(server("listen 8000-8010;"), "1: listen: 8000-8010 is not a single address"),
    "name": left_out(
        server("listen localhost:80;"),
        "1: listen: 'localhost:80' is no address: write 0.0.0.0:82, :82, [::]:82, unix:/PATH or a Twisted "
        "endpoint",
    ),
    "two": Case(
        server("listen 80; listen 8080;"),
        listener() | listener("port-8080", listen="0.0.0.0:8080") | upstream(),
    ),
    "server_name": listening(
        "listen 80; server_name console.example.com *.example.org;", name="console.example.com-80"
    ),
    "server_name_any": listening("listen 80; server_name _;"),
    "server_name_pattern": listening(r"listen 80; server_name ~^c\d+\.example\.com$;"),
    "two_names_one_address": Case(
        server("listen 80; server_name a.example;")
        + server("listen 80; server_name b.example;", "location / { proxy_pass http://192.0.2.11; }"),
        listener("a.example-80") | upstream() | upstream("192.0.2.11-80", url="ws://192.0.2.11:80"),
        (
            "1: listen: 0.0.0.0:80 is also the address of the server in nginx.conf:1: nginx selects by "
            "server_name, and here only that listener can have the address",
        ),
    ),
    "default_server_has_the_address": Case(
        server("listen 80; server_name a.example;", "location / { proxy_pass http://192.0.2.11; }")
        + server("listen 80 default_server; server_name b.example;"),
        listener("b.example-80") | upstream() | upstream("192.0.2.11-80", url="ws://192.0.2.11:80"),
        (
            "1: listen: 0.0.0.0:80 is also the address of the server in nginx.conf:1: nginx selects by "
            "server_name, and here only that listener can have the address",
        ),
    ),
    "two_names_that_mean_the_same": Case(
        server("listen 80; server_name a.example;") + server("listen 80; server_name b.example;"),
        listener("a.example-80") | upstream(),
    ),
    "any_covers_one": listening("listen 127.0.0.1:80; listen 80;"),
}

TLS = {
    "ssl": listening(
        "listen 443 ssl;", name="port-443", listen="0.0.0.0:443", rest=CERTIFICATE + ROOT, **_TLS
    ),
    "ssl_on": listening(
        "listen 443; ssl on;", name="port-443", listen="0.0.0.0:443", rest=CERTIFICATE + ROOT, **_TLS
    ),
    "plain_and_ssl": Case(
        server("listen 80; listen 443 ssl;", CERTIFICATE + ROOT),
        listener() | listener("port-443", listen="0.0.0.0:443", **_TLS) | upstream(),
    ),
    "inherited": Case(f"http {{ {CERTIFICATE} {server('listen 80 ssl;')} }}", listener(**_TLS) | upstream()),
    "absolute": listening(
        "listen 80 ssl;",
        rest="ssl_certificate /etc/a.crt; ssl_certificate_key /etc/a.key;" + ROOT,
        certificate="/etc/a.crt",
        private_key="/etc/a.key",
    ),
    "two_certificates": listening(
        "listen 80 ssl;",
        "1: ssl_certificate: a listener has one certificate, which is a.crt",
        "1: ssl_certificate_key: a listener has one certificate, which is a.key",
        rest=CERTIFICATE + "ssl_certificate b.crt; ssl_certificate_key b.key;" + ROOT,
        **_TLS,
    ),
    "no_certificate": left_out(
        server("listen 80 ssl;"), "1: listen: ssl without ssl_certificate: the listener is omitted"
    ),
    "certificate_by_name": left_out(
        server("listen 80 ssl;", "ssl_certificate $ssl_server_name.crt; ssl_certificate_key a.key;" + ROOT),
        "1: ssl_certificate: $ssl_server_name.crt is not a file: the listener is omitted",
    ),
    "client_certificates": listening(
        "listen 80 ssl;",
        rest=CERTIFICATE + "ssl_client_certificate ca.pem; ssl_verify_client on;" + ROOT,
        client_ca="FOLDER/ca.pem",
        **_TLS,
    ),
    "client_certificates_with_a_depth": listening(
        "listen 80 ssl;",
        "1: ssl_verify_depth: client certificates with a chain longer than 2 are accepted: esxiproxy "
        "does not limit its length",
        rest=CERTIFICATE + "ssl_client_certificate ca.pem; ssl_verify_client on; ssl_verify_depth 2;" + ROOT,
        client_ca="FOLDER/ca.pem",
        **_TLS,
    ),
    "depth_without_client_certificates": listening(
        "listen 80 ssl;",
        "1: ssl_verify_depth: esxiproxy has no equivalent",
        rest=CERTIFICATE + "ssl_verify_depth 2;" + ROOT,
        **_TLS,
    ),
    "harmless": Case(
        f"ssl_engine pkcs11; http {{ lua_use_default_type off; {server()} }}",
        both(),
    ),
    "client_certificates_not_asked_for": listening(
        "listen 80 ssl;", rest=CERTIFICATE + "ssl_client_certificate ca.pem;" + ROOT, **_TLS
    ),
    "client_certificates_optional": listening(
        "listen 80 ssl;",
        rest=CERTIFICATE + "ssl_client_certificate ca.pem; ssl_verify_client optional;" + ROOT,
        client_ca="FOLDER/ca.pem",
        client_certificates="optional",
        **_TLS,
    ),
    "client_certificates_of_any_issuer": listening(
        "listen 80 ssl;",
        "1: ssl_verify_client: optional_no_ca: esxiproxy has no equivalent; no certificate is requested",
        rest=CERTIFICATE + "ssl_client_certificate ca.pem; ssl_verify_client optional_no_ca;" + ROOT,
        **_TLS,
    ),
    "client_certificates_of_nobody": left_out(
        server("listen 80 ssl;", CERTIFICATE + "ssl_verify_client on;" + ROOT),
        "1: ssl_verify_client: on without ssl_client_certificate: the listener is omitted",
    ),
    "client_certificates_revoked": left_out(
        server("listen 80 ssl;", CERTIFICATE + "ssl_crl a.crl;" + ROOT),
        "1: ssl_crl: clients with a revoked certificate would be accepted: the server in line 1 is omitted",
    ),
    "protocols": listening(
        "listen 80 ssl;", rest=CERTIFICATE + "ssl_protocols TLSv1.2 TLSv1.3;" + ROOT, **_TLS
    ),
    "protocols_new": listening(
        "listen 80 ssl;", rest=CERTIFICATE + "ssl_protocols TLSv1.3;" + ROOT, tls_minimum="1.3", **_TLS
    ),
    "protocols_old": listening(
        "listen 80 ssl;",
        "1: ssl_protocols: clients that support only TLSv1, TLSv1.1 are refused",
        "1: ssl_protocols: esxiproxy always supports TLS 1.3",
        rest=CERTIFICATE + "ssl_protocols TLSv1 TLSv1.1 TLSv1.2;" + ROOT,
        **_TLS,
    ),
    "ciphers": listening(
        "listen 80 ssl;",
        "1: ssl_ciphers: esxiproxy uses Mozilla's intermediate profile, and its ciphers cannot be chosen",
        rest=CERTIFICATE + "ssl_ciphers HIGH;" + ROOT,
        **_TLS,
    ),
}

UPSTREAMS = {
    "http": Case(location(PASS), both()),
    "http_port": Case(
        location("proxy_pass http://esxi:8080;", UPGRADE),
        listener(upstream="esxi-8080") | upstream("esxi-8080", url="ws://esxi:8080"),
    ),
    "ipv6": Case(
        location("proxy_pass http://[2001:db8::10]:80;", UPGRADE),
        listener(upstream="2001-db8-10-80") | upstream("2001-db8-10-80", url="ws://[2001:db8::10]:80"),
    ),
    "unverified": Case(
        location(TLS_PASS),
        secure(verify="pin", ca=None, pin="FILL-IN-AS-SAID-ABOVE"),
        (
            "1: proxy_pass: nginx does not verify esxi.example.com:443 (proxy_ssl_verify): fill in its "
            "thumbprint, or use --keep-insecure",
        ),
    ),
    "unverified_off": Case(
        location(TLS_PASS, "proxy_ssl_verify off;"),
        secure(verify="pin", ca=None, pin="FILL-IN-AS-SAID-ABOVE"),
        (
            "1: proxy_pass: nginx does not verify esxi.example.com:443 (proxy_ssl_verify): fill in its "
            "thumbprint, or use --keep-insecure",
        ),
    ),
    "unverified_kept": Case(location(TLS_PASS), secure(verify="none", ca=None), keep_insecure=True),
    "verified": Case(location(VERIFIED), secure()),
    "verified_by_inheritance": Case(
        "http { proxy_ssl_verify on; proxy_ssl_trusted_certificate ca.pem; " + location(TLS_PASS) + " }",
        secure(),
    ),
    "verified_by_nobody": left_out(
        location(TLS_PASS, "proxy_ssl_verify on;"),
        "1: proxy_ssl_verify: on without proxy_ssl_trusted_certificate: nginx does not start with this",
    ),
    "verified_by_another_name": Case(
        location(VERIFIED, "proxy_ssl_name esxi.internal;"),
        secure(),
        (
            "1: proxy_ssl_name: nginx requires a certificate for esxi.internal, and esxiproxy one for "
            "esxi.example.com",
        ),
    ),
    "client_certificate_for_the_upstream": Case(
        location(VERIFIED, "proxy_ssl_certificate a.crt;"),
        secure(),
        ("1: proxy_ssl_certificate: esxiproxy has no equivalent",),
    ),
    "block": Case(
        "upstream esxi { server 192.0.2.10:8080 max_fails=3 fail_timeout=5s; keepalive 8; }"
        + location("proxy_pass http://esxi;", UPGRADE),
        listener(upstream="esxi") | upstream("esxi", url="ws://192.0.2.10:8080", host="esxi"),
    ),
    "block_without_a_port": Case(
        "upstream esxi { server 192.0.2.10; }" + location("proxy_pass http://esxi;", UPGRADE),
        listener(upstream="esxi") | upstream("esxi", host="esxi"),
    ),
    "block_without_a_port_for_https": Case(
        "upstream esxi { server 192.0.2.10; }" + location("proxy_pass https://esxi;", UPGRADE),
        listener(upstream="esxi") | upstream("esxi", url="wss://192.0.2.10:80", host="esxi", verify="none"),
        keep_insecure=True,
    ),
    "block_with_several_servers": Case(
        "upstream esxi { server 192.0.2.10; server 192.0.2.11 weight=2; server 192.0.2.12 backup; }"
        + location("proxy_pass http://esxi;", UPGRADE),
        listener(upstream="esxi") | upstream("esxi", host="esxi"),
        (
            "1: upstream: esxi has 3 servers, and an upstream is one host: 192.0.2.10 is used, without "
            "192.0.2.11, 192.0.2.12",
        ),
    ),
    "block_with_a_limit": Case(
        "upstream esxi { server 192.0.2.10 max_conns=40; }" + location("proxy_pass http://esxi;", UPGRADE),
        listener(upstream="esxi") | upstream("esxi", host="esxi"),
        ("1: server: max_conns=40: an upstream has no equivalent",),
    ),
    "block_that_is_down": left_out(
        "upstream esxi { server 192.0.2.10 down; }" + location("proxy_pass http://esxi;"),
        "1: upstream: esxi has no server that is up",
    ),
    "block_that_code_balances": left_out(
        "upstream esxi { server 0.0.0.1; balancer_by_lua_file balance.lua; }"
        + location("proxy_pass http://esxi;"),
        "1: balancer_by_lua_file: the target of esxi is chosen at run time: write a router",
    ),
    "block_of_a_socket": left_out(
        "upstream esxi { server unix:/run/esxi.sock; }" + location("proxy_pass http://esxi;"),
        "1: server: esxiproxy connects to upstreams by TCP, not by unix sockets",
    ),
    "socket": left_out(
        location("proxy_pass http://unix:/run/esxi.sock;"),
        "1: proxy_pass: esxiproxy connects to upstreams by TCP, not by unix sockets",
    ),
    "variable": Case(location("set $esxi 192.0.2.10; proxy_pass http://$esxi;", UPGRADE), both()),
    "variable_of_the_server": Case(
        server(
            rest="set $net 192.0.2; location / { set $esxi ${net}.10; proxy_pass http://$esxi:80; "
            + UPGRADE
            + "}"
        ),
        both(),
    ),
    "variable_that_names_a_block": Case(
        "upstream esxi { server 192.0.2.10:80; }" + location("set $to esxi; proxy_pass http://$to;", UPGRADE),
        listener(upstream="esxi") | upstream("esxi", host="esxi"),
    ),
    "variable_of_the_request": left_out(
        location("proxy_pass http://$arg_host:$arg_port;"),
        "1: proxy_pass: the target http://$arg_host:$arg_port depends on $arg_host, $arg_port at run "
        "time: write a router",
    ),
    "variable_of_a_map": left_out(
        "map $host $esxi { default 192.0.2.10; }" + location("proxy_pass http://$esxi;"),
        "1: proxy_pass: the map of $esxi has no host with a domain that can be converted: write a router",
    ),
    "request_uri": Case(location("proxy_pass http://192.0.2.10$request_uri;", UPGRADE), both()),
    "root_for_root": Case(location("proxy_pass http://192.0.2.10/;", UPGRADE), both()),
    "uri": left_out(
        location("proxy_pass http://192.0.2.10/ui/;"),
        "1: proxy_pass: / is replaced by /ui/: esxiproxy forwards the client's path byte for byte",
    ),
    "name_that_is_none": left_out(
        location("proxy_pass http://es_xi..example;"), "1: proxy_pass: 'es_xi..example' is no host name"
    ),
}

FIELDS = {
    "host_client": Case(location(PASS, "proxy_set_header Host $http_host;"), both(host="client")),
    "host_host": Case(location(PASS, "proxy_set_header Host $host;"), both(host="client")),
    "host_proxy_host": Case(location(PASS, "proxy_set_header Host $proxy_host;"), both()),
    "host_value": Case(
        location(PASS, "proxy_set_header Host vcenter.example.com;"), both(host="vcenter.example.com")
    ),
    "host_server_name": Case(
        server(
            "listen 80; server_name a.example;",
            f"location / {{ {PASS} proxy_set_header Host $server_name; }}",
        ),
        listener("a.example-80") | upstream(host="a.example"),
    ),
    "host_variable": Case(
        location(PASS, "proxy_set_header Host $arg_x;"),
        both(),
        ("1: proxy_set_header: Host: the value of $arg_x is known only at run time and cannot be converted",),
    ),
    "host_empty": Case(
        location(PASS, 'proxy_set_header Host "";'),
        both(),
        ("1: proxy_set_header: Host: esxiproxy sends no request without a Host field",),
    ),
    "origin_value": Case(
        location(PASS, "proxy_set_header Origin https://vc.example.com;"),
        both(origin="https://vc.example.com"),
    ),
    "origin_none": Case(location(PASS, 'proxy_set_header Origin "";'), both(origin="none")),
    "origin_own": Case(location(PASS, "proxy_set_header Origin http://192.0.2.10;"), both(origin=None)),
    "origin_proxy_host": Case(
        location(PASS, "proxy_set_header Origin http://$proxy_host;"), both(origin=None)
    ),
    "origin_client": Case(location(PASS, "proxy_set_header Origin $http_origin;"), both()),
    "forwarded": Case(
        location(
            PASS,
            "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
            "proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $host;",
        ),
        both(),
    ),
    "forwarded_otherwise": Case(
        location(PASS, "proxy_set_header X-Forwarded-For 192.0.2.99;"),
        both(),
        (
            "1: proxy_set_header: X-Forwarded-For always describes the client's connection, and no other "
            "value can be sent",
        ),
    ),
    "real_ip": Case(
        location(PASS, "proxy_set_header X-Real-IP $remote_addr;"),
        both(),
        (
            "1: proxy_set_header: X-Real-IP is not sent: only X-Forwarded-For, -Proto and -Host are added, "
            "and they always are",
        ),
    ),
    "passed_as_it_is": Case(location(PASS, "proxy_set_header X-Trace $http_x_trace;"), both()),
    "taken_out": Case(
        location(PASS, 'proxy_set_header Accept-Encoding "";'),
        both(),
        ("1: proxy_set_header: Accept-Encoding is not removed from the client's request",),
    ),
    "inherited_by_a_location_without_any": Case(
        server(rest=f"proxy_set_header Host $host; {UPGRADE} location / {{ proxy_pass http://192.0.2.10; }}"),
        both(host="client"),
    ),
    "not_inherited_by_a_location_with_one": Case(
        server(rest=f"proxy_set_header Host $host; location / {{ {PASS} }}"), both()
    ),
}

TIMES = {
    "read": Case(location(PASS, "proxy_read_timeout 3600s;"), both(idle_timeout="1h", response_timeout="1h")),
    "read_default_is_not_carried_over": Case(location(PASS), both()),
    "read_like_the_default": Case(location(PASS, "proxy_read_timeout 60s;"), both(idle_timeout="60s")),
    "read_compound": Case(
        location(PASS, 'proxy_read_timeout "1h 30m";'), both(idle_timeout="90m", response_timeout="90m")
    ),
    "read_for_ever": Case(
        location(PASS, "proxy_read_timeout 10y;"), both(idle_timeout="off", response_timeout="365d")
    ),
    "read_nothing": Case(
        location(PASS, "proxy_read_timeout 0;"),
        both(),
        ("1: proxy_read_timeout: the value must be above 0",),
    ),
    "read_nonsense": Case(
        location(PASS, "proxy_read_timeout soon;"),
        both(),
        ("1: proxy_read_timeout: 'soon' is not a duration",),
    ),
    "connect": Case(location(PASS, "proxy_connect_timeout 500ms;"), both(connect_timeout="500ms")),
    "connect_long": Case(
        location(PASS, "proxy_connect_timeout 75;"),
        both(connect_timeout="75s", upstream_handshake_timeout="80s"),
    ),
    "send": Case(
        location(PASS, "proxy_send_timeout 1h;"),
        both(),
        (
            "1: proxy_send_timeout: set stall_timeout, which limits a transfer without progress "
            "(60s by default)",
        ),
    ),
    "send_like_the_default": Case(location(PASS, "proxy_send_timeout 60s;"), both()),
    "of_the_listener": listening(
        "listen 80;",
        rest="client_header_timeout 20s; keepalive_timeout 65; client_max_body_size 100m;" + ROOT,
        head_timeout="20s",
        keepalive_timeout="65s",
        max_body="100MiB",
    ),
    "no_largest_body": listening("listen 80; client_max_body_size 0;", max_body="off"),
    "no_keepalive": listening(
        "listen 80; keepalive_timeout 0;", "1: keepalive_timeout: 0 cannot be converted"
    ),
}

LOCATIONS = {
    "prefix": Case(location(PASS, path="/ticket/"), listener(paths="/ticket/") | upstream()),
    "prefix_first": Case(location(PASS, path="^~ /ticket/"), listener(paths="/ticket/") | upstream()),
    "prefixes": Case(
        server(rest=f"location /ticket/ {{ {PASS} }} location /ui/ {{ {PASS} }}"),
        listener(paths="/ticket/, /ui/") | upstream(),
    ),
    "prefix_and_everything": Case(
        server(rest=f"location /ticket/ {{ {PASS} }} location / {{ {PASS} }}"), both()
    ),
    "nested": Case(
        server(rest=f"location /a/ {{ {PASS} location /a/b/ {{ {PASS} }} }}"),
        listener(paths="/a/, /a/b/") | upstream(),
    ),
    "prefix_within_a_segment": Case(
        location(PASS, path="/ui"),
        listener(paths="/ui") | upstream(),
        ("1: location: esxiproxy forwards /ui and the paths below it, not /ui...",),
    ),
    "prefix_that_is_ambiguous": left_out(
        location(PASS, path="/a//b/"),
        "1: location: '/a//b/' can be read in two ways: no //, no dot segments, no %2F and the like",
    ),
    "exact": left_out(
        location(PASS, path="= /ticket/1"),
        "1: location: an exact path cannot be converted: paths accepts only prefixes",
    ),
    "regular_expression": left_out(
        location(PASS, path="~ ^/ticket/"),
        "1: location: a regular expression cannot be converted: paths accepts only prefixes",
    ),
    "files_beside": Case(
        server(rest=f"location /ticket/ {{ {PASS} }} location /static/ {{ root /srv; }}"),
        listener(paths="/ticket/") | upstream(),
        ("1: location: /static/ is not forwarded: requests get a 404",),
    ),
    "everything_else_is_a_404": Case(
        server(rest=f"location / {{ return 404; }} location /ticket/ {{ {PASS} }}"),
        listener(paths="/ticket/") | upstream(),
    ),
    "files_above": Case(
        server(rest=f"location / {{ root /srv; }} location /ticket/ {{ {PASS} }}"),
        listener(paths="/ticket/") | upstream(),
        ("1: location: / is not forwarded: requests get a 404",),
    ),
    "denied_above_another_place": left_out(
        server(
            rest=f"location /a/ {{ location /a/b/ {{ {PASS} }} }} location /a/b {{ deny all; root /srv; }}"
        ),
        "1: location: /a/ lies under /a/b/ and would be forwarded to the same upstream: the server is "
        "omitted",
        "1: location: /a/b lies under /a/b/ and would be forwarded to the same upstream: the server is "
        "omitted",
    ),
    "files_within": left_out(
        server(rest=f"{ROOT} location /static/ {{ root /srv; }}"), f"1: location: /static/ {_ONE_PATH}"
    ),
    "files_by_regular_expression": left_out(
        server(rest=rf"location /ui/ {{ {PASS} }} location ~ \.png$ {{ root /srv; }}"),
        r"1: location: \.png$ lies under /ui/ and would be forwarded to the same upstream: the server is "
        r"omitted",
    ),
    "error_page": Case(
        server(rest=f"{ROOT} error_page 502 /50x.html; location = /50x.html {{ root /srv; }}"),
        both(),
        ("1: error_page: esxiproxy sends its own error pages",),
    ),
    "denied_within": left_out(
        server(rest=f"{ROOT} location /admin/ {{ deny all; }}"), f"1: location: /admin/ {_ONE_PATH}"
    ),
    "denied": left_out(
        server(rest=f"allow 10.0.0.0/8; deny all; {ROOT}"),
        "1: deny: esxiproxy does not restrict clients by address: the server in line 1 is omitted",
    ),
    "denied_everywhere": left_out(
        f"http {{ deny 192.0.2.66; {server()} }}",
        "1: deny: esxiproxy does not restrict clients by address: the server in line 1 is omitted",
    ),
    "denied_above": left_out(
        server(rest=f"location /a/ {{ deny all; location /a/b/ {{ {PASS} }} }}"),
        "1: deny: esxiproxy does not restrict clients by address: location /a/b/ is omitted",
    ),
    "password": left_out(
        location(PASS, "auth_basic console; auth_basic_user_file users;"),
        "1: auth_basic: esxiproxy does not check passwords: location / is omitted",
    ),
    "no_password": Case(location(PASS, "auth_basic off;"), both()),
    "condition": left_out(
        location(PASS, "if ($arg_x) { return 403; }"),
        "1: if: conditions cannot be converted: location / is omitted",
    ),
    "redirection": left_out(
        server(rest="return 301 https://$host$request_uri;"),
        "1: return: nginx answers these requests itself, and esxiproxy only forwards: the server in line "
        "1 is omitted",
    ),
    "rewriting": left_out(
        location("rewrite ^/console/(.*) /$1 break;", PASS),
        "1: rewrite: esxiproxy forwards the client's path byte for byte: location / is omitted",
    ),
    "files_alone": left_out(
        server(rest="root /srv;"), "1: server: no location forwards with proxy_pass: the server is omitted"
    ),
    "two_upstreams_apart": Case(
        server(rest=f"location /a/ {{ {PASS} }} location /b/ {{ proxy_pass http://192.0.2.11; {UPGRADE} }}"),
        listener(paths="/a/") | upstream(),
        (
            "1: location: /b/ is not forwarded to the upstream of line 1 with the same settings, and a "
            "listener has one upstream",
        ),
    ),
    "two_upstreams_one_in_the_other": left_out(
        server(rest=f"{ROOT} location /b/ {{ proxy_pass http://192.0.2.11; {UPGRADE} }}"),
        "1: location: /b/ is not forwarded to the upstream of line 1 with the same settings, and a "
        "listener has one upstream",
        f"1: location: /b/ {_ONE_PATH}",
    ),
}

WHOLE = {
    "included": Case(
        "http { include sites/*.conf; }", both(), files={"sites/a.conf": server(), "sites/b.txt": "nonsense"}
    ),
    "included_complains_with_its_own_name": Case(
        "http { include sites/a.conf; }",
        both(),
        ("sites/a.conf:2: gzip: esxiproxy forwards answers with the upstream's compression",),
        files={"sites/a.conf": "\ngzip on;\n" + server()},
    ),
    "complains_behind_an_include_with_the_right_name": Case(
        "http { include sites/a.conf;\ngzip on; }",
        both(),
        ("2: gzip: esxiproxy forwards answers with the upstream's compression",),
        files={"sites/a.conf": server()},
    ),
    "include_that_is_not_there": Case(
        f"http {{ include mime.types; {server()} }}",
        both(),
        ("1: include: No such file or directory: 'mime.types': its directives are not converted",),
    ),
    "process": Case(
        "user www-data; worker_processes auto; pid /run/nginx.pid; error_log /var/log/nginx/error.log;"
        "events { worker_connections 768; } "
        f"http {{ sendfile on; types {{ text/html html; }} {server()} }}",
        both(),
    ),
    "access_log": Case(
        f"http {{ access_log /var/log/nginx/access.log; {server()} }}",
        both(),
        (
            "1: access_log: esxiproxy has its own access log: set access_log = FILE in [proxy] "
            "(docs/access-log.md)",
        ),
    ),
    "off_needs_no_carrying": Case(f"http {{ access_log off; gzip off; {server()} }}", both()),
    "redirects_off": Case(
        location(PASS, "proxy_redirect off;"),
        both(),
        ("1: proxy_redirect: esxiproxy rewrites a Location only if it names the upstream",),
    ),
    "lost": Case(
        location(PASS, "proxy_cookie_path / /;"),
        both(),
        ("1: proxy_cookie_path: esxiproxy has no equivalent",),
    ),
    "unknown_to_the_process": Case(
        f"brand_new 1; http {{ {server()} }}", both(), ("1: brand_new: esxiproxy has no equivalent",)
    ),
    "stock_file_that_is_not_there": Case(
        server(rest="include fastcgi_params; " + ROOT),
        both(),
        ("1: include: No such file or directory: 'fastcgi_params': its directives are not converted",),
    ),
    "field_added": Case(
        location(PASS, "add_header X-A b;"),
        both(),
        ("1: add_header: esxiproxy adds no fields to the upstream's answers",),
    ),
    "stream": Case(
        "stream { server { listen 9; proxy_pass 192.0.2.1:9; } }" + f"http {{ {server()} }}",
        both(),
        ("1: stream: esxiproxy forwards only WebSocket and HTTP",),
    ),
    "nothing": left_out(""),
}

_UNKNOWN = "esxiproxy does not know this directive, which may restrict access"
_DECIDES = "the directive restricts access, which esxiproxy cannot"
_SERVER_OUT = "the server in line 1 is omitted"
_RETURNS = f"1: return: nginx answers these requests itself, and esxiproxy only forwards: {_SERVER_OUT}"


def takes_all(refusing: str, *complaints: str, by: str = "listen") -> Case:
    """Return a case with a server that is left out, and one with a name on its address."""
    return Case(
        f"server {{ {refusing} }}\nserver {{ listen 80; server_name a.example; {ROOT} }}",
        listener("a.example-80") | upstream(),
        (
            *complaints,
            f"1: {by}: 0.0.0.0:80 is also the address of the server in nginx.conf:2, whose listener "
            "accepts every name: requests that this server refuses or restricts are forwarded to "
            "ws://192.0.2.10:80",
        ),
    )


def guarded(directive: str, why: str) -> dict[str, Case]:
    """Return cases of an access rule: in a location, in a server, and inherited."""
    name = directive.split()[0].rstrip(";")
    label = "_".join(re.findall(r"\w+", directive))
    return {
        label: left_out(location(directive, PASS), f"1: {name}: {why}: location / is omitted"),
        f"{label}_of_a_server": left_out(server(rest=directive + ROOT), f"1: {name}: {why}: {_SERVER_OUT}"),
        f"{label}_inherited": left_out(
            f"http {{ {directive} {server()} }}", f"1: {name}: {why}: {_SERVER_OUT}"
        ),
    }


GUARDS = {
    **guarded("brand_new 1;", _UNKNOWN),
    **guarded("brand_new off;", _UNKNOWN),
    **guarded("brand_new { anything 1; }", _UNKNOWN),
    **guarded('auth_pam "console";', _DECIDES),
    **guarded('auth_ldap "console";', _DECIDES),
    **guarded("auth_gss on;", _DECIDES),
    **guarded('auth_digest "console";', _DECIDES),
    **guarded("auth_oidc main;", _DECIDES),
    **guarded("auth_jwt console;", "esxiproxy does not check such tokens"),
    **guarded("auth_jwt_key_file keys;", _DECIDES),
    **guarded("js_access main.check;", _DECIDES),
    **guarded("js_content main.answer;", _DECIDES),
    **guarded("perl access::handler;", _DECIDES),
    **guarded("access_by_lua_file access.lua;", _DECIDES),
    **guarded("openidc_scope x;", _DECIDES),
    **guarded("SecRulesEnabled;", _UNKNOWN),
    **guarded("app_protect_enable on;", _UNKNOWN),
    **guarded("more_clear_input_headers X-Remote-User;", _UNKNOWN),
    **guarded("proxy_allow_upstream $ok;", _UNKNOWN),
    **guarded("proxy_method GET;", "esxiproxy forwards the client's method"),
    **guarded("proxy_pass_request_headers off;", "esxiproxy always forwards the client's fields"),
    **guarded("proxy_ssl_crl a.crl;", "a host with a revoked certificate would be accepted"),
    **guarded("proxy_ssl_conf_command VerifyCAFile x;", _UNKNOWN),
    **guarded("ssl_conf_command ClientCAFile x;", _UNKNOWN),
    **guarded("ssl_ocsp on;", "clients with a revoked certificate would be accepted"),
    "ocsp_beside_client_certificates": left_out(
        server(
            "listen 80 ssl;",
            CERTIFICATE + "ssl_client_certificate ca.pem; ssl_verify_client on; ssl_ocsp leaf;" + ROOT,
        ),
        f"1: ssl_ocsp: clients with a revoked certificate would be accepted: {_SERVER_OUT}",
    ),
    "ocsp_off": Case(server(rest="ssl_ocsp off;" + ROOT), both()),
    "auth_off": Case(location("auth_pam off; auth_ldap off;", PASS), both()),
    "headers_passed": Case(location("proxy_pass_request_headers on;", PASS), both()),
    "ciphersuites": Case(
        server(rest="ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;" + ROOT),
        both(),
        ("1: ssl_conf_command: esxiproxy has no equivalent",),
    ),
    "files_first": left_out(
        location("try_files $uri =404;", PASS),
        "1: try_files: try_files selects the requests that nginx forwards: location / is omitted",
    ),
    "one_location_of_two": Case(
        server(rest=f"location /a/ {{ {PASS} }} location /b/ {{ {PASS} auth_pam x; }}"),
        listener(paths="/a/") | upstream(),
        (f"1: auth_pam: {_DECIDES}: location /b/ is omitted",),
    ),
    "include_that_is_not_there": left_out(
        server(rest="include snippets/auth.conf; " + ROOT),
        "1: include: No such file or directory: 'snippets/auth.conf': its directives are not converted",
        f"1: include: the included file is missing and may restrict access: {_SERVER_OUT}",
    ),
    "include_that_matches_nothing": Case(server(rest="include snippets/*.conf; " + ROOT), both()),
    "catch_all_444": takes_all(
        "listen 80 default_server; return 444;",
        _RETURNS,
    ),
    "catch_all_403": takes_all(
        "listen 80 default_server; location / { return 403; }",
        "1: server: no location forwards with proxy_pass: the server is omitted",
    ),
    "catch_all_denied": takes_all(
        f"listen 80 default_server; deny all; {ROOT}",
        f"1: deny: esxiproxy does not restrict clients by address: {_SERVER_OUT}",
    ),
    "catch_all_without_a_handshake": takes_all(
        "listen 80 default_server; ssl_reject_handshake on;",
        "1: ssl_reject_handshake: esxiproxy accepts every TLS handshake: the server in line 1 is omitted",
    ),
    "catch_all_by_its_place": takes_all("return 444;", _RETURNS, by="server"),
    "guarded_name_on_the_same_address": takes_all(
        f"listen 80; server_name b.example; auth_pam x; {ROOT}", f"1: auth_pam: {_DECIDES}: {_SERVER_OUT}"
    ),
    "catch_all_of_another_address": Case(
        "server { listen 81 default_server; return 444; }" + server(),
        both(),
        (_RETURNS,),
    ),
}

CASES = {
    f"{group}-{name}": case
    for group, cases in {
        "listen": LISTENS,
        "tls": TLS,
        "upstream": UPSTREAMS,
        "field": FIELDS,
        "time": TIMES,
        "location": LOCATIONS,
        "guard": GUARDS,
        "whole": WHOLE,
    }.items()
    for name, case in cases.items()
}
