"""The configuration of each proxy: identical listeners and upstreams, with as little logging as possible."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from bench.cores import descriptors
from bench.modes import LISTENERS, Key, Mode, Upstreams

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
    proxy_read_timeout 1h;
    proxy_send_timeout 1h;
{buffers}{servers}}}
"""
BUFFERS = "    proxy_buffer_size 64k;\n    proxy_buffers 8 64k;\n    proxy_busy_buffers_size 128k;\n"

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
    for mode, cold in LISTENERS:
        lines += [f"[listener {_name(mode, cold)}]", f"listen = 127.0.0.1:{ports[mode.name, cold]}"]
        lines += [f"upstream = {mode.upstream(cold)}"]
        if mode.tls_down:
            own = upstreams.own
            lines += [f"certificate = {own.path}", f"private_key = {own.key_path}"]
    lines += ["[upstream ws]", f"url = ws://127.0.0.1:{upstreams.ports['ws']}"]
    for name in ("wss", "cold"):
        lines += [f"[upstream {name}]", f"url = wss://127.0.0.1:{upstreams.ports[name]}", "verify = pin"]
        lines += [f"pin = sha256:{upstreams.certificate.sha256}"]
    return "\n".join(lines) + "\n"


def nginx(ports: Mapping[Key, int], upstreams: Upstreams, folder: Path, big: bool) -> str:
    """Return nginx's configuration without logs, with 64 KiB buffers on request."""
    servers = ""
    for mode, cold in LISTENERS:
        tls = ""
        if mode.tls_down:
            own = upstreams.own
            tls = f"ssl_certificate {own.path}; ssl_certificate_key {own.key_path}; "
        scheme = "https" if mode.tls_up else "http"
        listen = f"127.0.0.1:{ports[mode.name, cold]}{' ssl' if mode.tls_down else ''}"
        target = f"{scheme}://127.0.0.1:{upstreams.ports[mode.upstream(cold)]}"
        servers += f"    server {{ listen {listen}; {tls}location / {{ proxy_pass {target}; }} }}\n"
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
    for mode, cold in LISTENERS:
        bind = f"127.0.0.1:{ports[mode.name, cold]}"
        if mode.tls_down:
            bind += f" ssl crt {folder}/own.pem"
        server = (
            f"127.0.0.1:{upstreams.ports[mode.upstream(cold)]}{' ssl verify none' if mode.tls_up else ''}"
        )
        text += f"listen {_name(mode, cold)}\n    bind {bind}\n    server upstream {server}\n"
    return text


def _name(mode: Mode, cold: bool) -> str:
    return f"{mode.name}-cold" if cold else mode.name
