"""The configuration of each proxy: identical listeners and upstreams, with as little logging as possible."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from bench.cores import descriptors
from bench.modes import LISTENERS, VARIANTS, WARM, Key, Mode, Upstreams

NGINX = """\
{user}daemon off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    ssl_protocols TLSv1.2 TLSv1.3;
    proxy_ssl_protocols TLSv1.2 TLSv1.3;
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection "upgrade";
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    client_max_body_size 0;
    keepalive_requests 1000000000;
    proxy_read_timeout 1h;
    proxy_send_timeout 1h;
{buffers}{servers}}}
"""
BUFFERS = """\
    client_body_buffer_size 64k;
    proxy_buffer_size 64k;
    proxy_buffers 8 64k;
    proxy_busy_buffers_size 128k;
"""

NGINX_HTTP = 'proxy_set_header Upgrade ""; proxy_set_header Connection ""; '
"""In a location for HTTP: connections to the upstream are kept."""

HAPROXY = """\
global
    nbthread 1
    maxconn {connections}
    ssl-server-verify none
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout tunnel 1h
"""


def esxiproxy(ports: Mapping[Key, int], upstreams: Upstreams, ping_interval: str | None) -> str:
    """Return esxiproxy's configuration: its defaults with a short ``close_timeout``.

    It logs errors only, like nginx and HAProxy here.  The ping timeout is shorter than the interval, because
    a ping is sent only after the timeout of the last one.
    """
    lines = ["[proxy]", "session_log = errors", "close_timeout = 1s"]
    lines += ["max_connections = off", "max_handshakes = off"]
    if ping_interval:
        lines += [f"ping_interval = {ping_interval}", "ping_timeout = 4s"]
    for mode, variant in LISTENERS:
        lines += [f"[listener {_name(mode, variant)}]", f"listen = 127.0.0.1:{ports[mode.name, variant]}"]
        lines += [f"upstream = {mode.upstream(variant)}", "http = forward"]
        if mode.tls_down:
            own = upstreams.of_listener(variant)
            lines += [f"certificate = {own.path}", f"private_key = {own.key_path}"]
    lines += ["[upstream ws]", f"url = ws://127.0.0.1:{upstreams.ports['ws']}"]
    for name in VARIANTS:
        lines += [f"[upstream {name}]", f"url = wss://127.0.0.1:{upstreams.ports[name]}", "verify = pin"]
        lines += [f"pin = sha256:{upstreams.of_upstream(name).sha256}"]
    return "\n".join(lines) + "\n"


def nginx(ports: Mapping[Key, int], upstreams: Upstreams, folder: Path, big: bool) -> str:
    """Return nginx's configuration without logs, with 64 KiB buffers on request."""
    servers = ""
    for mode, variant in LISTENERS:
        tls = ""
        if mode.tls_down:
            own = upstreams.of_listener(variant)
            tls = f"ssl_certificate {own.path}; ssl_certificate_key {own.key_path}; "
        scheme = "https" if mode.tls_up else "http"
        listen = f"127.0.0.1:{ports[mode.name, variant]}{' ssl' if mode.tls_down else ''}"
        address, kept = f"127.0.0.1:{upstreams.ports[mode.upstream(variant)]}", _name(mode, variant)
        servers += (
            f"    upstream {kept} {{ server {address}; keepalive 64; keepalive_requests 1000000000; }}\n"
        )
        servers += f"    server {{ listen {listen}; {tls}location / {{ proxy_pass {scheme}://{address}; }}\n"
        servers += f"        location /http/ {{ {NGINX_HTTP}proxy_pass {scheme}://{kept}; }} }}\n"
    user = "user root;\n" if os.getuid() == 0 else ""
    return NGINX.format(
        user=user,
        folder=folder,
        descriptors=descriptors(),
        connections=descriptors() - 500,
        buffers=BUFFERS if big else "",
        servers=servers,
    )


def haproxy(ports: Mapping[Key, int], upstreams: Upstreams, folder: Path) -> str:
    """Return HAProxy's configuration: its defaults with one thread."""
    text = HAPROXY.format(connections=descriptors() // 2 - 500)
    for mode, variant in LISTENERS:
        bind = f"127.0.0.1:{ports[mode.name, variant]}"
        if mode.tls_down:
            bind += f" ssl crt {folder}/{upstreams.of_listener(variant).path.stem}.pem"
        server = (
            f"127.0.0.1:{upstreams.ports[mode.upstream(variant)]}{' ssl verify none' if mode.tls_up else ''}"
        )
        text += f"listen {_name(mode, variant)}\n    bind {bind}\n    server upstream {server}\n"
    return text


def _name(mode: Mode, variant: str) -> str:
    return mode.name if variant == WARM else f"{mode.name}-{variant}"
