"""The three listeners that esxiproxy starts as, from nginx or from esxiproxy itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.certificates import Certificate
from tests.support.programs import Nginx, Proxy, free_ports
from tests.support.websocket_peers import Client

KINDS = {"one": "ws to ws", "two": "ws to wss", "three": "wss to wss"}

LOCATION = """
        location / {{
            proxy_pass {scheme}://127.0.0.1:{port};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_ssl_verify off;
        }}
    }}
"""
NGINX = (
    "    server {{ listen 127.0.0.1:{one};"
    + LOCATION.replace("{scheme}", "http").replace("{port}", "{plain}"),
    "    server {{ listen 127.0.0.1:{two};"
    + LOCATION.replace("{scheme}", "https").replace("{port}", "{secure}"),
    "    server {{ listen 127.0.0.1:{three} ssl;\n"
    "        ssl_certificate {certificate}; ssl_certificate_key {key};"
    + LOCATION.replace("{scheme}", "https").replace("{port}", "{secure}"),
    "    server {{ listen 127.0.0.1:{dead};"
    + LOCATION.replace("{scheme}", "http").replace("{port}", "{nobody}"),
)
PROXY = """
[proxy]
close_timeout = 1s

[listener one]
listen = 127.0.0.1:0
upstream = plain

[listener two]
listen = 127.0.0.1:0
upstream = secure

[listener three]
listen = 127.0.0.1:0
certificate = {certificate}
private_key = {key}
upstream = secure

[listener dead]
listen = 127.0.0.1:0
upstream = nobody

[upstream plain]
url = ws://127.0.0.1:{plain}

[upstream secure]
url = wss://127.0.0.1:{secure}
verify = pin
pin = sha256:{pin}

[upstream nobody]
url = ws://127.0.0.1:{nobody}
"""


@dataclass(frozen=True)
class Upstreams:
    """Where the listeners lead: a plain port, a TLS port with its certificate, and a port of nobody's."""

    plain: int
    secure: int
    certificate: Certificate
    nobody: int


@dataclass(frozen=True)
class Listeners:
    """The listeners' ports by name."""

    program: Nginx | Proxy
    ports: dict[str, int]

    def client(self, name: str, timeout: float = 10.0) -> Client:
        """A client that is connected to this listener."""
        return Client(self.ports[name], tls=name == "three", timeout=timeout)


@contextlib.contextmanager
def nginx(upstreams: Upstreams, own: Certificate) -> Iterator[Listeners]:
    """nginx with a `server` block for each listener: what esxiproxy replaces."""
    ports = dict(zip(("one", "two", "three", "dead"), free_ports(4), strict=True))
    with Nginx("".join(NGINX).format_map(_values(upstreams, own) | ports)) as program:
        yield Listeners(program, ports)


@contextlib.contextmanager
def esxiproxy(upstreams: Upstreams, own: Certificate) -> Iterator[Listeners]:
    """esxiproxy with the same listeners."""
    with Proxy(PROXY.format_map(_values(upstreams, own))) as program:
        yield Listeners(program, program.ports)


PROXIES = {"nginx": nginx, "esxiproxy": esxiproxy}


def _values(upstreams: Upstreams, own: Certificate) -> dict[str, object]:
    return {
        "plain": upstreams.plain,
        "secure": upstreams.secure,
        "nobody": upstreams.nobody,
        "pin": upstreams.certificate.sha256,
        "certificate": own.path,
        "key": own.key_path,
    }
