"""The configurations of the measured proxies: each variant of TLS has its certificates and its upstream."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import configurations
from bench.modes import LISTENERS, RSA, VARIANTS, WARM, Upstreams

PORTS = {(mode.name, variant): 1000 + number for number, (mode, variant) in enumerate(LISTENERS)}
UPSTREAM_PORTS = {name: 2000 + number for number, name in enumerate(("ws", *VARIANTS))}


def certificate(name):
    return SimpleNamespace(path=Path(f"/{name}.pem"), key_path=Path(f"/{name}.key"), sha256=f"of-{name}")


@pytest.fixture
def upstreams():
    return Upstreams(UPSTREAM_PORTS, *map(certificate, ("host", "own", "rsa-host", "rsa-own")))


def expected():
    """Return each listener's port, its upstream's port, and the name of its certificate."""
    for mode, variant in LISTENERS:
        upstream = UPSTREAM_PORTS[variant if mode.tls_up else "ws"]
        own = {True: "rsa-own", False: "own"}[variant == RSA] if mode.tls_down else None
        yield mode, PORTS[mode.name, variant], upstream, own


def test_the_listeners_differ_in_their_upstream_or_certificate():
    assert len({(mode.tls_down, *rest) for mode, _port, *rest in expected()}) == len(LISTENERS)
    assert [variant for mode, variant in LISTENERS if mode.name == "ws-ws"] == [WARM]
    assert [mode.name for mode, variant in LISTENERS if variant == RSA] == ["wss-wss"]


def test_esxiproxy_forwards_http_and_pins_each_upstream(upstreams):
    parser = configparser.ConfigParser(interpolation=None, delimiters="=")
    parser.read_string(configurations.esxiproxy(PORTS, upstreams, None))
    by_port = {parser[name]["listen"]: parser[name] for name in parser if name.startswith("listener ")}
    assert len(by_port) == len(LISTENERS)
    for mode, port, upstream_port, own in expected():
        listener = by_port[f"127.0.0.1:{port}"]
        assert listener["http"] == "forward"
        assert listener.get("certificate") == (own and f"/{own}.pem")
        assert listener.get("private_key") == (own and f"/{own}.key")
        upstream = parser[f"upstream {listener['upstream']}"]
        assert upstream["url"] == f"{'wss' if mode.tls_up else 'ws'}://127.0.0.1:{upstream_port}"
        pin = "sha256:of-rsa-host" if listener["upstream"] == RSA else "sha256:of-host"
        assert upstream.get("pin") == (pin if mode.tls_up else None)


@pytest.mark.parametrize("big", [False, True])
def test_nginx_keeps_connections_for_http_only(upstreams, big):
    text = configurations.nginx(PORTS, upstreams, Path("/folder"), big)
    assert ("proxy_buffers 8 64k" in text) == ("client_body_buffer_size 64k" in text) == big
    servers = dict(re.findall(r"server \{ listen 127\.0\.0\.1:(\d+)(.*?\} \})\n", text, re.S))
    kept = dict(re.findall(r"upstream (\S+) \{ server 127\.0\.0\.1:(\d+); keepalive 64;", text))
    assert len(servers) == len(kept) == len(LISTENERS)
    for mode, port, upstream_port, own in expected():
        server, scheme = servers[str(port)], "https" if mode.tls_up else "http"
        assert f"location / {{ proxy_pass {scheme}://127.0.0.1:{upstream_port}; }}" in server
        http = re.search(r"location /http/ \{.*Connection \"\"; proxy_pass (\w+)://(\S+);", server)
        assert http is not None
        assert (http[1], kept[http[2]]) == (scheme, str(upstream_port))
        assert re.findall(r"ssl_certificate /(\S+)\.pem", server) == ([own] if own else [])


def test_haproxy_has_a_file_for_each_certificate(upstreams):
    text = configurations.haproxy(PORTS, upstreams, Path("/folder"))
    for mode, port, upstream_port, own in expected():
        bind = f"bind 127.0.0.1:{port}" + (f" ssl crt /folder/{own}.pem" if own else "")
        server = f"server upstream 127.0.0.1:{upstream_port}" + (" ssl verify none" if mode.tls_up else "")
        assert f"    {bind}\n    {server}\n" in text
