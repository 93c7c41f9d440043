"""The three listeners that esxiproxy starts as, from nginx or from esxiproxy itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support import config
from tests.support.certificates import Certificate
from tests.support.programs import Nginx, Proxy, dead_port, free_ports
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
SCHEMES = {"one": "http", "two": "http", "three": "https"}
"""What a browser's URL of each listener begins with."""


@dataclass(frozen=True)
class Upstreams:
    """The upstreams of the listeners: a plain port, a TLS port with its certificate, and a dead port."""

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
        """Return a client that is connected to this listener."""
        return Client(self.ports[name], tls=name == "three", timeout=timeout)


def three_listeners(
    upstreams: Upstreams, own: Certificate, *sections: str, http: str | None = None, **proxy: object
) -> str:
    """Return the configuration of the listeners; the keywords are keys of [proxy]."""
    return config.ini(
        config.listener("one", "plain", http=http),
        config.listener("two", "secure", http=http),
        config.listener("three", "secure", tls=own, http=http),
        config.listener("dead", "nobody", http=http),
        config.upstream(upstreams.plain, "plain"),
        config.upstream(upstreams.secure, "secure", pin=upstreams.certificate),
        config.upstream(upstreams.nobody, "nobody"),
        *sections,
        **{"close_timeout": "1s", **proxy},
    )


@contextlib.contextmanager
def nginx(upstreams: Upstreams, own: Certificate) -> Iterator[Listeners]:
    """Run nginx with a `server` block for each listener, which esxiproxy replaces."""
    ports = dict(zip(("one", "two", "three", "dead"), free_ports(4), strict=True))
    values = {
        "plain": upstreams.plain,
        "secure": upstreams.secure,
        "nobody": upstreams.nobody,
        "certificate": own.path,
        "key": own.key_path,
    }
    with Nginx("".join(NGINX).format_map(values | ports)) as program:
        yield Listeners(program, ports)


@contextlib.contextmanager
def esxiproxy(upstreams: Upstreams, own: Certificate, **keys: str) -> Iterator[Listeners]:
    """Run esxiproxy with the same listeners."""
    with Proxy(three_listeners(upstreams, own, **keys)) as program:
        yield Listeners(program, program.ports)


@contextlib.contextmanager
def forwarding(plain: int, secure: int, shown: Certificate, own: Certificate) -> Iterator[Listeners]:
    """Run esxiproxy with `http = forward`, as in `conf/proxy.ini`, in front of a plain and a TLS port."""
    with (
        dead_port() as nobody,
        esxiproxy(Upstreams(plain, secure, shown, nobody), own, http="forward") as listeners,
    ):
        yield listeners


PROXIES = {"nginx": nginx, "esxiproxy": esxiproxy}
