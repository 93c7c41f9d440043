"""The translation of a ``proxy_pass`` with a variable host: nginx's text, the router, the complaints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.nginx.cases import PASS, UPGRADE

MAP = 'map $arg_host $esx { default ""; esx01 10.0.0.1:443; esx02 esx02.internal:8443; }'
LIST = ("esx01,10.0.0.1:443", "esx02,esx02.internal:8443")
PATH = "~ ^/h/(?<h>[a-z0-9-]+)(?<rest>/.*)$"
REST = "$rest$is_args$args"
VERIFIED = "proxy_ssl_verify on; proxy_ssl_trusted_certificate ca.pem;"
UNKNOWN = "esxiproxy does not know this directive, which may restrict access"
NO_VERIFY = (
    "(proxy_ssl_verify), and verify = none does not either: write verify = pin and a column pins with the "
    "thumbprints, or use --keep-insecure"
)
EXAMPLE = "a router reads a host from ^/h/(?<h>[a-z0-9-]+)(?<rest>/.*)$ and the like"


@dataclass(frozen=True)
class Inventory:
    """`text` in a file `nginx.conf` becomes a router with this `locate`, or nothing if that is empty.

    `hosts` are the lines of its list, without the header. `template` and `listener` are keys beside those
    that every one has. `complaints` are without the file's name, except those about `hosts.map`.
    """

    text: str
    locate: str = ""
    hosts: tuple[str, ...] = ()
    complaints: tuple[str, ...] = ()
    template: Mapping[str, str] = field(default_factory=lambda: {"verify": "none"})
    listener: Mapping[str, str] = field(default_factory=dict)
    name: str = "esx"
    listener_name: str = "port-80"
    files: Mapping[str, str] = field(default_factory=dict)


def server(*lines: str, path: str = "/", target: str = "https://$esx", before: str = "listen 80;") -> str:
    """Return a server block with one location that forwards to this target."""
    location = f"location {path} {{ proxy_pass {target}; {UPGRADE} {' '.join(lines)} }}"
    return f"server {{ {before} {location} }}"


def mapped(
    entries: str, *hosts: str, complaints: tuple[str, ...] = (), source: str = "$arg_host"
) -> Inventory:
    """Return a case about a map's entries."""
    return Inventory(f"map {source} $esx {{ {entries} }}" + server(), "query:host", hosts, complaints)


def by_host(entries: str, *hosts: str, source: str = "$host", complaints: tuple[str, ...] = ()) -> Inventory:
    """Return a case about a map by the Host field."""
    text = f"map {source} $esx {{ {entries} }}" + server()
    return Inventory(text, "host:{host}.console.example", hosts, complaints)


def to_be_written(rule: str, example: str, file: str = "hosts.csv") -> str:
    """Return the complaint about a list that nginx does not have."""
    names = f"every name that matches {rule}" if rule else "every name"
    return (
        f"1: proxy_pass: nginx accepts {names}, and a router only the hosts of its list: write the list "
        f"FOLDER/{file}, which begins with the line name,address and has a line like NAME,{example} for each "
        "host"
    )


def by_path(path: str, target: str, *complaints: str, **keys: object) -> Inventory:
    """Return a case about a location whose path names the host, with a list that has to be written."""
    defaults = {"locate": "path:/h/{host}/", "listener": {"paths": "/h/"}, "name": "hosts"}
    return Inventory(server(path=path, target=target), complaints=complaints, **(defaults | keys))  # type: ignore[arg-type]


def by_server_name(name: str, *complaints: str, **keys: object) -> Inventory:
    """Return a case about a server_name that names the host, with a list that has to be written."""
    text = server(before=f"listen 80; server_name {name};", target="https://$h.internal")
    defaults = {"locate": "host:{host}.console.example", "name": "hosts"}
    return Inventory(text, complaints=complaints, **(defaults | keys))  # type: ignore[arg-type]


def left_out(text: str, *complaints: str) -> Inventory:
    """Return a case of which nothing is converted."""
    return Inventory(text, complaints=complaints)


def no_path(path: str, target: str, complaint: str) -> Inventory:
    """Return a case of a location with an expression that no router can follow."""
    return left_out(server(path=path, target=target), f"1: location: {complaint}")


_NOT_LISTED = "regular expressions are not converted: write its hosts into the list"
_REPLACED = "esxiproxy forwards the client's path byte for byte"
_IF_OUT = "1: if: conditions cannot be converted: the server in line 1 is omitted"
_IF_OUT_HERE = "1: if: conditions cannot be converted: location / is omitted"

PLACES = {
    "query": Inventory(MAP + server(), "query:host", LIST),
    "query_in_quotes": Inventory(MAP.replace("$arg_host", '"${arg_host}"') + server(), "query:host", LIST),
    "cookie": Inventory(MAP.replace("$arg_host", "$cookie_esx") + server(), "cookie:esx", LIST),
    "host": by_host(
        "esx01.console.example 10.0.0.1; ESX02.console.example. 10.0.0.2;",
        "esx01,10.0.0.1:443",
        "esx02,10.0.0.2:443",
    ),
    "host_with_port": by_host(
        "esx01.console.example:8443 10.0.0.1; esx01.console.example 10.0.0.1;",
        "esx01,10.0.0.1:443",
        source="$http_host",
    ),
    "host_of_another_domain": by_host(
        "esx01.console.example 10.0.0.1; esx02.console.example 10.0.0.2; a.example 10.0.0.3; b 10.0.0.4;",
        "esx01,10.0.0.1:443",
        "esx02,10.0.0.2:443",
        complaints=(
            "1: a.example: is not under console.example: write a router",
            "1: b: is not under console.example: write a router",
        ),
    ),
    "host_without_domain": left_out(
        "map $host $esx { esx01 10.0.0.1; }" + server(),
        "1: proxy_pass: the map of $esx has no host with a domain that can be converted: write a router",
    ),
    "path": Inventory(
        MAP.replace("$arg_host", "$h") + server(path=PATH, target=f"https://$esx{REST}"),
        "path:/h/{host}/",
        LIST,
        listener={"paths": "/h/"},
    ),
    "path_with_a_rule": Inventory(
        "map $h $esx { esx01 10.0.0.1; vc01 10.0.0.2; }"
        + server(path=r"~ ^/h/(?<h>esx\d+)(?<rest>/.*)$", target=f"https://$esx{REST}"),
        "path:/h/{host}/",
        ("esx01,10.0.0.1:443",),
        (r"1: vc01: nginx never looks it up, since esx\d+ does not match it",),
        listener={"paths": "/h/"},
    ),
    "server_name": Inventory(
        MAP.replace("$arg_host", "$h")
        + server(before=r"listen 80; server_name ~^(?<h>[^.]+)\.console\.example$;"),
        "host:{host}.console.example",
        LIST,
    ),
    "header": left_out(
        MAP.replace("$arg_host", "$http_x_esx") + server(),
        "1: proxy_pass: the target depends on $http_x_esx through the map of $esx, and a router finds hosts "
        "by "
        "the query, a cookie, the Host field or the path: write a router",
    ),
    "two_variables": left_out(
        MAP.replace("$arg_host", "$arg_dc-$arg_host") + server(),
        "1: proxy_pass: the target depends on $arg_dc-$arg_host through the map of $esx, and a router finds "
        "hosts by the query, a cookie, the Host field or the path: write a router",
    ),
    "map_of_a_map": left_out(
        "map $arg_host $name { a b; } " + MAP.replace("$arg_host", "$name") + server(),
        "1: proxy_pass: the target depends on $name through the map of $esx, and a router finds hosts by the "
        "query, a cookie, the Host field or the path: write a router",
    ),
    "any_query": Inventory(
        server(target="https://$arg_host.internal:8443$request_uri"),
        "query:host",
        complaints=(to_be_written("", "NAME.internal:8443"),),
        name="hosts",
    ),
    "any_host": left_out(
        server(target="https://$host"),
        "1: proxy_pass: the target https://$host depends on $host at run time: write a router",
    ),
    "host_and_port": left_out(
        server(target="https://$arg_host:$arg_port"),
        "1: proxy_pass: the target https://$arg_host:$arg_port depends on $arg_host, $arg_port at run time: "
        "write a router",
    ),
}

ENTRIES = {
    "no_default": mapped("esx01 10.0.0.1;", "esx01,10.0.0.1:443"),
    "flags": mapped("hostnames; volatile; esx01 10.0.0.1;", "esx01,10.0.0.1:443"),
    "default": mapped(
        "default 10.0.0.9; esx01 10.0.0.1;",
        "esx01,10.0.0.1:443",
        complaints=("1: default: a router has no default: names that are not in its list get a 404",),
    ),
    "expression": mapped(
        'esx01 10.0.0.1; "~^esx(?<n>[0-9]+)$" 10.0.1.$n; ~*^vc 10.0.0.2;',
        "esx01,10.0.0.1:443",
        complaints=(f"1: ~^esx(?<n>[0-9]+)$: {_NOT_LISTED}", f"1: ~*^vc: {_NOT_LISTED}"),
    ),
    "expressions_alone": mapped(
        "~^esx $arg_host.internal;",
        complaints=(f"1: ~^esx: {_NOT_LISTED}", to_be_written("", "ADDRESS", "esx.csv")),
    ),
    "mask": mapped(
        "hostnames; esx01 10.0.0.1; *.dc1 10.0.0.2; .dc2 10.0.0.3; esx.* 10.0.0.4;",
        "esx01,10.0.0.1:443",
        complaints=tuple(
            f"1: {name}: masks are not converted: write its hosts into the list"
            for name in ("*.dc1", ".dc2", "esx.*")
        ),
    ),
    "escaped": mapped(
        r"\default 10.0.0.1; \hostnames 10.0.0.2;", "default,10.0.0.1:443", "hostnames,10.0.0.2:443"
    ),
    "words_of_nginx": mapped(
        "listen 10.0.0.1; server 10.0.0.2; if 10.0.0.3;",
        *("listen,10.0.0.1:443", "server,10.0.0.2:443", "if,10.0.0.3:443"),
    ),
    "nothing": mapped('esx01 ""; esx02 10.0.0.2;', "esx02,10.0.0.2:443"),
    "twice": mapped(
        "esx01 10.0.0.1; ESX01. 10.0.0.2;",
        "esx01,10.0.0.1:443",
        complaints=("1: ESX01.: the name esx01 has the address 10.0.0.1:443 already",),
    ),
    "no_name": mapped(
        'esx01 10.0.0.1; "esx 02" 10.0.0.2; esx..3 10.0.0.3; "a,b" 10.0.0.4; =1+1 10.0.0.5;',
        "esx01,10.0.0.1:443",
        complaints=tuple(
            f"1: {name}: is no name of a host in a list: letters, digits, '-', '_' and dots"
            for name in ("esx 02", "esx..3", "a,b", "=1+1")
        ),
    ),
    "no_value": mapped(
        "esx01 10.0.0.1; esx02;",
        "esx01,10.0.0.1:443",
        complaints=("1: esx02: is no entry of a map: a text and one value",),
    ),
    "no_address": mapped(
        "esx01 10.0.0.1; a $arg_host; b u:p@10.0.0.2; c 10.0.0.3/ui; d unix:/run/d; e 10.0.0; f "
        "10.0.0.4:99999;",
        "esx01,10.0.0.1:443",
        complaints=(
            "1: a: the address depends on $arg_host at run time: the host is not in the list",
            "1: b: the address has a user or a password, and a host takes none: the host is not in the list",
            "1: c: https://10.0.0.3/ui has a path, and esxiproxy forwards the client's: the host is not in "
            "the "
            "list",
            "1: d: esxiproxy connects to upstreams by TCP, not by unix sockets: the host is not in the list",
            "1: e: '10.0.0' is no IPv4 address",
            "1: f: '99999' is no port: a number from 1 to 65535",
        ),
    ),
    "ipv6": mapped(
        "esx01 [2001:DB8::1]; esx02 [2001:db8::2]:8443;",
        "esx01,[2001:db8::1]:443",
        "esx02,[2001:db8::2]:8443",
    ),
    "loopback": mapped(
        "esx01 127.0.0.1:8443;",
        "esx01,127.0.0.1:8443",
        complaints=(
            "1: esx01: 127.0.0.1 is dialled only if the router has allow, with the networks of all hosts",
        ),
    ),
    "included": Inventory(
        'map $arg_host $esx { default ""; include hosts.map; esx02 10.0.0.2; }' + server(),
        "query:host",
        ("esx01,10.0.0.1:443", "esx02,10.0.0.2:443"),
        (f"hosts.map:3: ~^vc: {_NOT_LISTED}",),
        files={"hosts.map": "# the hosts\nesx01 10.0.0.1:443;\n~^vc 10.0.0.3;\n"},
    ),
    "included_and_missing": Inventory(
        "map $arg_host $esx { esx01 10.0.0.1; include gone.map; }" + server(),
        "query:host",
        ("esx01,10.0.0.1:443",),
        ("1: include: No such file or directory: 'gone.map': its directives are not converted",),
    ),
    "upstream_blocks": Inventory(
        "upstream pool1 { server 10.0.0.1:443; } upstream pool2 { server 10.0.0.2:443; server 10.0.0.3:443; }"
        "map $arg_host $esx { esx01 pool1; esx02 pool2; esx03 pool2; }"
        + server("proxy_set_header Host $host;"),
        "query:host",
        ("esx01,10.0.0.1:443", "esx02,10.0.0.2:443", "esx03,10.0.0.2:443"),
        (
            "1: upstream: pool2 has 2 servers, and an upstream is one host: 10.0.0.2:443 is used, without "
            "10.0.0.3:443",
        ),
        template={"verify": "none", "host": "client"},
    ),
    "upstream_blocks_by_name": Inventory(
        "upstream pool1 { server 10.0.0.1:443; } map $arg_host $esx { esx01 pool1; }" + server(VERIFIED),
        "query:host",
        ("esx01,10.0.0.1:443",),
        (
            "1: proxy_pass: nginx uses the name of an upstream block, such as pool1, in the Host field and "
            "the "
            "certificate, and esxiproxy the host's own",
        ),
        template={"verify": "ca", "ca": "FOLDER/ca.pem"},
    ),
    "upstream_block_that_is_down": Inventory(
        "upstream pool1 { server 10.0.0.1 down; } map $arg_host $esx { esx01 pool1; esx02 10.0.0.2; }"
        + server("proxy_set_header Host $host;"),
        "query:host",
        ("esx02,10.0.0.2:443",),
        ("1: upstream: pool1 has no server that is up",),
        template={"verify": "none", "host": "client"},
    ),
}

TARGETS = {
    "plain": Inventory(
        MAP + server(target="http://$esx"),
        "query:host",
        ("esx01,ws://10.0.0.1:443", "esx02,ws://esx02.internal:8443"),
        template={},
    ),
    "port": Inventory(
        "map $arg_host $esx { esx01 10.0.0.1; }" + server(target="https://${esx}:8443"),
        "query:host",
        ("esx01,10.0.0.1:8443",),
    ),
    "domain": Inventory(
        "map $arg_host $esx { a esx01; }" + server(target="https://$esx.internal"),
        "query:host",
        ("a,esx01.internal:443",),
    ),
    "scheme_in_the_map": Inventory(
        "map $arg_host $esx { a https://10.0.0.1; b http://10.0.0.2; c 10.0.0.3; }"
        + server(target="$esx$request_uri"),
        "query:host",
        ("a,10.0.0.1:443", "b,ws://10.0.0.2:80"),
        ("1: c: 10.0.0.3 is not an http:// or https:// URL: the host is not in the list",),
    ),
    "by_set": Inventory(MAP + server("set $to https://$esx;", target="$to$request_uri"), "query:host", LIST),
    "request_uri": Inventory(MAP + server(target="https://$esx$request_uri"), "query:host", LIST),
    "uri": Inventory(MAP + server(target="https://$esx$uri$is_args$args"), "query:host", LIST),
    "uri_without_query": left_out(
        MAP + server(target="https://$esx$uri"),
        "1: proxy_pass: nginx sends no query to the host, and esxiproxy does: write $request_uri if that is "
        "meant",
    ),
    "root": left_out(MAP + server(target="https://$esx/"), f"1: proxy_pass: / is replaced by /: {_REPLACED}"),
    "other_path": left_out(
        MAP + server(target="https://$esx/ui$request_uri"),
        f"1: proxy_pass: / is replaced by /ui$request_uri: {_REPLACED}",
    ),
    "scheme_of_the_client": left_out(
        MAP + server(target="$scheme://$esx"),
        "1: proxy_pass: the target $scheme://$esx depends on $scheme, $esx at run time: write a router",
    ),
    "prefix": Inventory(MAP + server(path="/ticket/"), "query:host", LIST, listener={"paths": "/ticket/"}),
    "expression_without_host": left_out(
        MAP + server(path="~ ^/ticket/", target="https://$esx$request_uri"),
        "1: location: a regular expression cannot be converted: paths accepts only prefixes",
    ),
}

PATHS = {
    "rest": by_path(PATH, f"https://$h.esx.internal{REST}", to_be_written("[a-z0-9-]+", "NAME.esx.internal")),
    "numbered": by_path(
        "~ ^/h/([^/]+)/(.*)$", "https://$1.internal/$2$is_args$args", to_be_written("[^/]+", "NAME.internal")
    ),
    "all_behind": by_path(
        r"~ ^/h/(?P<h>[\w-]+)(.*)",
        "http://$h:81$2?$args",
        to_be_written(r"[\w-]+", "ws://NAME:81"),
        template={},
    ),
    "counted": by_path(
        '~ "^/h/(?<h>esx[0-9]{2,3})(?<rest>/.*)$"',
        f"https://$h.internal{REST}",
        to_be_written("esx[0-9]{2,3}", "NAME.internal"),
    ),
    "without_case": by_path(
        "~* ^/h/(?<h>[a-z]+)(?<rest>/.*)$",
        f"https://$h.internal{REST}",
        "1: location: paths that begin with /h/ in another case get a 404",
        to_be_written("[a-z]+", "NAME.internal"),
    ),
    "first_segment": by_path(
        "~ ^/([^/]+)/(.*)$",
        "https://$1.internal/$2$is_args$args",
        to_be_written("[^/]+", "NAME.internal"),
        locate="path:/{host}/",
        listener={},
    ),
    "listed": by_path(
        r"~ ^/h/(?<h>esx01|ESX-2|a\.b)(?<rest>/.*)$",
        f"https://$h.internal{REST}",
        hosts=("esx01,esx01.internal:443", "esx-2,esx-2.internal:443", "a.b,a.b.internal:443"),
    ),
    "part_of_the_paths": no_path(
        "~ ^/h/(?<h>[a-z0-9-]+)(?<rest>/ui/.*)$",
        f"https://$h.internal{REST}",
        "nginx forwards only paths that match /ui/.* behind the host, and a router every path: write "
        "(?<rest>/.*) in a copy of the file if that is meant",
    ),
    "no_rest": no_path(
        "~ ^/h/(?<h>[a-z0-9-]+)/",
        "https://$h.internal$request_uri",
        f"the regular expression cannot be converted: {EXAMPLE}",
    ),
    "no_end": no_path(
        "~ ^/h/(?<h>[a-z0-9-]+)$",
        "https://$h.internal$request_uri",
        f"no group has the path behind the host: {EXAMPLE}",
    ),
    "slash": no_path(
        "~ ^/h/(?<h>.+)(?<rest>/.*)$",
        f"https://$h.internal{REST}",
        "the expression for the host matches a slash: write [^/]+",
    ),
    "slash_in_a_class": no_path(
        "~ ^/h/(?<h>[^.]+)(?<rest>/.*)$",
        f"https://$h.internal{REST}",
        "the expression for the host matches a slash: write [^/]+",
    ),
    "part_of_a_segment": no_path(
        "~ ^/h-(?<h>[a-z]+)(?<rest>/.*)$",
        f"https://$h.internal{REST}",
        f"the name of the host is no whole segment of the path: {EXAMPLE}",
    ),
    "lookahead": no_path(
        "~ ^/h/(?<h>(?!vc)[a-z]+)(?<rest>/.*)$",
        f"https://$h.internal{REST}",
        f"the regular expression cannot be converted: {EXAMPLE}",
    ),
    "no_beginning": no_path(
        "~ /h/(?<h>[a-z]+)(?<rest>/.*)$",
        f"https://$h.internal{REST}",
        f"the regular expression cannot be converted: {EXAMPLE}",
    ),
    "many_quantifiers": no_path(
        "~ ^/h/(?<h>[a-z]*[a-z]*[a-z]*)(?<rest>/.*)$",
        f"https://$h.internal{REST}",
        f"[a-z]*[a-z]*[a-z]* cannot be converted: {EXAMPLE}",
    ),
    "with_its_prefix": left_out(
        server(path=PATH, target="https://$h.internal"),
        "1: proxy_pass: nginx sends the path with /h/NAME to the host, and a router removes this part",
    ),
    "without_its_query": left_out(
        server(path=PATH, target="https://$h.internal$rest"),
        "1: proxy_pass: nginx sends no query to the host, and esxiproxy does: add $is_args$args if that is "
        "meant",
    ),
    "other_path": left_out(
        server(path=PATH, target=f"https://$h.internal/ui{REST}"),
        f"1: proxy_pass: the path is replaced by /ui{REST}: esxiproxy forwards the part behind the host",
    ),
    "host_elsewhere": left_out(
        MAP + server(path=PATH, target=f"https://$esx{REST}"),
        "1: proxy_pass: a regular expression cannot be converted: paths accepts only prefixes",
    ),
}

SERVER_NAMES = {
    "named": by_server_name(r"~^(?<h>[^.]+)\.console\.example$", to_be_written("[^.]+", "NAME.internal")),
    "among_others": by_server_name(
        r"console.example ~^(?<h>esx\d+)\.console\.example$",
        to_be_written(r"esx\d+", "NAME.internal"),
        listener_name="console.example-80",
    ),
    "open_end": by_server_name(r"~(?<h>.+)\.console\.example", to_be_written(".+", "NAME.internal")),
    "listed": by_server_name(
        r"~^(?<h>esx01|esx02)\.console\.example$",
        hosts=("esx01,esx01.internal:443", "esx02,esx02.internal:443"),
    ),
    "two_groups": left_out(
        server(before=r"listen 80; server_name ~^(?<h>\w+)\.(\w+)\.example$;", target="https://$h"),
        "1: proxy_pass: the target https://$h depends on $h at run time: write a router",
    ),
    "no_domain": left_out(
        server(before=r"listen 80; server_name ~^(?<h>.+)$;", target="https://$h"),
        "1: proxy_pass: the target https://$h depends on $h at run time: write a router",
    ),
}

SETTINGS = {
    "verified": Inventory(
        MAP + server(VERIFIED), "query:host", LIST, template={"verify": "ca", "ca": "FOLDER/ca.pem"}
    ),
    "verified_by_the_own_name": Inventory(
        MAP + server(VERIFIED, "proxy_ssl_server_name on; proxy_ssl_name $esx;"),
        "query:host",
        LIST,
        template={"verify": "ca", "ca": "FOLDER/ca.pem"},
    ),
    "verified_by_another_name": Inventory(
        MAP + server(VERIFIED, "proxy_ssl_name $arg_host;"),
        "query:host",
        LIST,
        (
            "1: proxy_ssl_name: nginx requires a certificate for $arg_host, and esxiproxy one for the host "
            "in its "
            "address",
        ),
        template={"verify": "ca", "ca": "FOLDER/ca.pem"},
    ),
    "host_of_the_host": Inventory(
        server(
            f"proxy_set_header Host $h.internal; proxy_set_header Origin https://$proxy_host; {VERIFIED}",
            path=PATH,
            target=f"https://$h.internal:8443{REST}",
        ),
        "path:/h/{host}/",
        complaints=(to_be_written("[a-z0-9-]+", "NAME.internal:8443"),),
        template={"verify": "ca", "ca": "FOLDER/ca.pem", "origin": ""},
        listener={"paths": "/h/"},
        name="hosts",
    ),
    "host_of_the_client": Inventory(
        MAP
        + server("proxy_set_header Host $host; proxy_set_header Origin $http_origin; proxy_read_timeout 1h;"),
        "query:host",
        LIST,
        template={"verify": "none", "host": "client", "idle_timeout": "1h", "response_timeout": "1h"},
    ),
    "host_by_its_name": Inventory(
        MAP + server("proxy_set_header Host $arg_host;"),
        "query:host",
        LIST,
        (
            "1: proxy_set_header: Host: the value of $arg_host is known only at run time and cannot be "
            "converted",
        ),
    ),
}

CONDITIONS = {
    "empty": Inventory(MAP + server(before='listen 80; if ($esx = "") { return 404; }'), "query:host", LIST),
    "empty_in_the_location": Inventory(MAP + server("if ($esx ~ ^$) { return 403 no; }"), "query:host", LIST),
    "empty_source": Inventory(MAP + server("if ($arg_host = '') { return 400; }"), "query:host", LIST),
    "default": Inventory(
        "map $arg_host $esx { default none; esx01 10.0.0.1; esx02 none; }"
        + server("if ($esx = none) { return 444; }"),
        "query:host",
        ("esx01,10.0.0.1:443",),
    ),
    "redirect": left_out(MAP + server("if ($esx = '') { return 302 /list; }"), _IF_OUT_HERE),
    "more_than_a_refusal": left_out(MAP + server("if ($esx = '') { set $esx 10.0.0.1; }"), _IF_OUT_HERE),
    "other_value": left_out(MAP + server("if ($esx = 10.0.0.1:443) { return 404; }"), _IF_OUT_HERE),
    "other_variable": left_out(MAP + server("if ($args = '') { return 404; }"), _IF_OUT_HERE),
    "other_comparison": left_out(MAP + server("if ($esx != '') { return 404; }"), _IF_OUT_HERE),
    "other_variable_of_the_server": left_out(
        MAP + server(before='listen 80; if ($http_x = "") { return 404; }'), _IF_OUT
    ),
    "one_host": left_out(
        MAP + server(target="https://10.0.0.1", before='listen 80; if ($esx = "") { return 404; }'), _IF_OUT
    ),
    "restricted": left_out(MAP + server("brand_new 1;"), f"1: brand_new: {UNKNOWN}: location / is omitted"),
}

BESIDE = {
    "page": Inventory(
        "server { listen 80; location / { root /srv; } location = /h/ { return 404; }"
        + server(path=PATH, target=f"https://$h.internal{REST}").partition("listen 80;")[2],
        "path:/h/{host}/",
        complaints=(
            "1: location: / is not forwarded: requests get a 404",
            to_be_written("[a-z0-9-]+", "NAME.internal"),
        ),
        listener={"paths": "/h/"},
        name="hosts",
    ),
    "page_before_expressions": left_out(
        "server { listen 80; location ^~ / { root /srv; }"
        + server(path=PATH, target=f"https://$h.internal{REST}").partition("listen 80;")[2],
        "1: location: / lies under /h/ and would be forwarded to the same upstream: the server is omitted",
    ),
    "denied_within": left_out(
        "server { listen 80; location ^~ /h/esx01/ { deny all; }"
        + server(path=PATH, target=f"https://$h.internal{REST}").partition("listen 80;")[2],
        "1: location: /h/esx01/ lies under /h/ and would be forwarded to the same upstream: the server is "
        "omitted",
    ),
    "denied_by_expression": left_out(
        "server { listen 80; location ~ /admin { deny all; }"
        + server(path=PATH, target=f"https://$h.internal{REST}").partition("listen 80;")[2],
        "1: location: /admin lies under /h/ and would be forwarded to the same upstream: the server is "
        "omitted",
    ),
    "another_upstream": Inventory(
        MAP + server(path="/ticket/")[:-1] + f"location /ui/ {{ {PASS} }} }}",
        "query:host",
        LIST,
        (
            "1: location: /ui/ is not forwarded to the upstream of line 1 with the same settings, and a "
            "listener "
            "has one upstream",
        ),
        listener={"paths": "/ticket/"},
    ),
    "resolver": Inventory(
        MAP + server("resolver 192.0.2.53;"),
        "query:host",
        LIST,
        ("1: resolver: esxiproxy uses the system's resolver",),
    ),
}

CASES = {
    f"{group}-{name}": case
    for group, cases in {
        "place": PLACES,
        "entry": ENTRIES,
        "target": TARGETS,
        "path": PATHS,
        "server_name": SERVER_NAMES,
        "setting": SETTINGS,
        "condition": CONDITIONS,
        "beside": BESIDE,
    }.items()
    for name, case in cases.items()
}
