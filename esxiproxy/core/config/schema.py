"""Every key of the configuration: the one table that the check, the reference and ``conf/`` come from."""

from __future__ import annotations

from dataclasses import fields

from esxiproxy.core.config import quantities, values
from esxiproxy.core.config.access_log import AccessLogFormat, SessionLogFilter, access_log
from esxiproxy.core.config.key import (
    CERTIFICATES,
    COUNT,
    COUNT_HALF_OR_OFF,
    COUNT_OR_OFF,
    DURATION,
    DURATION_OR_OFF,
    EVERYWHERE,
    LISTENER,
    NAME,
    NAMES,
    PRIVATE_KEY,
    PROXY,
    RATE_OR_OFF,
    SIZE_OR_OFF,
    UPSTREAM,
    Key,
    SectionKind,
    Type,
    choice,
    path,
    plain,
)
from esxiproxy.core.config.listen_address import listen_address, manhole_address
from esxiproxy.core.config.model import Http, TLSVersion
from esxiproxy.core.config.url import upstream_url
from esxiproxy.core.keepalive import Profile
from esxiproxy.core.routing import Subprotocol, TLSProfile, Verify
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session_limits import SessionLimits

KEYS = (
    Key(
        "workers",
        PROXY,
        plain("number or `auto`", quantities.workers),
        "1",
        "processes that share the listeners; `auto` is one for each CPU that the process may use, a "
        "container's quota among that",
    ),
    Key(
        "worker_shutdown_timeout",
        PROXY,
        DURATION_OR_OFF,
        "off",
        "with several workers: how long consoles of the old ones go on after a reload",
        old_name="upgrade_timeout",
    ),
    Key(
        "state",
        PROXY,
        Type("`memory:` or `sqlite:PATH`", values.state),
        "memory:",
        "where slots and sessions are kept: `memory:` for one process, a database file for several of one "
        "machine; several workers have one by themselves",
    ),
    Key(
        "services",
        PROXY,
        NAMES,
        None,
        "plugins that run beside the proxy, separated by commas",
        old_name="beside",
    ),
    Key(
        "manhole",
        PROXY,
        Type("address", manhole_address),
        None,
        "where operators may look inside by SSH: `2222`, which is on 127.0.0.1, or as in `listen`",
    ),
    Key("manhole_keys", PROXY, path("file"), None, "their keys, an `authorized_keys` file; for `manhole`"),
    Key("manhole_host_key", PROXY, path("file"), None, "its own; made there at the first start"),
    Key(
        "access_log",
        PROXY,
        Type("file, `stdout`, `syslog`, `journald` or `off`", access_log),
        "off",
        "a line for each console and HTTP request; a file is reopened on SIGUSR1",
    ),
    Key(
        "access_log_format",
        PROXY,
        choice(AccessLogFormat),
        "json",
        "JSON objects, or what Apache and nginx call combined",
    ),
    Key(
        "session_log",
        PROXY,
        choice(SessionLogFilter),
        "all",
        "which sessions have a line in twistd's own log when they end: `all`, or those with an error",
    ),
    Key("head_timeout", PROXY + LISTENER, DURATION, "10s", "the time for a whole request head to arrive"),
    Key("tls_handshake_timeout", PROXY + LISTENER, DURATION, "10s", "the time for a client's TLS handshake"),
    Key(
        "decision_timeout",
        PROXY + LISTENER,
        DURATION,
        "10s",
        "the time for the authenticator to answer, and for the router",
    ),
    Key(
        "keepalive_timeout",
        PROXY + LISTENER,
        DURATION,
        "60s",
        "the longest pause between two plain HTTP requests",
    ),
    Key("connect_timeout", EVERYWHERE, DURATION, "5s", "the time for the TCP connection to the upstream"),
    Key(
        "upstream_handshake_timeout",
        EVERYWHERE,
        DURATION,
        "10s",
        "the time for the whole way to the upstream's 101: name, TCP, TLS and opening handshake",
    ),
    Key(
        "keepalive",
        EVERYWHERE,
        choice(Profile),
        "console",
        "`console`: pings and TCP keepalive; `lan`: TCP keepalive alone; `off`: neither; "
        "of the next four keys, those that are set go first",
    ),
    Key("ping_interval", EVERYWHERE, DURATION_OR_OFF, "25s", "how often a client is pinged"),
    Key("ping_timeout", EVERYWHERE, DURATION, "20s", "the time for a pinged peer to send anything"),
    Key(
        "upstream_ping_interval",
        EVERYWHERE,
        DURATION_OR_OFF,
        "off",
        "how often the upstream is pinged; ESXi's console seems not to answer",
    ),
    Key(
        "tcp_keepalive",
        EVERYWHERE,
        DURATION_OR_OFF,
        "60s",
        "the time for TCP to find out that a peer is gone",
    ),
    Key("idle_timeout", EVERYWHERE, DURATION_OR_OFF, "off", "the silence that ends a session"),
    Key("max_lifetime", EVERYWHERE, DURATION_OR_OFF, "off", "the age at which a session ends in any case"),
    Key("stall_timeout", EVERYWHERE, DURATION, "60s", "how long a side may take nothing of its bytes"),
    Key("close_timeout", EVERYWHERE, DURATION, "5s", "the time for both sides to close"),
    Key("drain_timeout", PROXY, DURATION, "30s", "how long sessions may go on when the proxy is shut down"),
    Key("max_frame", EVERYWHERE, SIZE_OR_OFF, "off", "the largest frame that is let through"),
    Key("response_timeout", EVERYWHERE, DURATION, "60s", "HTTP: how long an answer may be silent"),
    Key("max_body", PROXY + LISTENER, SIZE_OR_OFF, "off", "HTTP: the largest body of a request"),
    Key(
        "min_body_rate",
        PROXY + LISTENER,
        SIZE_OR_OFF,
        "500",
        "HTTP: bytes a second, at least, of a request's body",
    ),
    Key("max_sessions", PROXY + LISTENER, COUNT_OR_OFF, "off", "consoles at one listener"),
    Key(
        "max_sessions_per_client",
        PROXY + LISTENER,
        COUNT_OR_OFF,
        "off",
        "consoles from one client: an IPv4 address or an IPv6 /64",
    ),
    Key(
        "max_sessions_per_principal",
        EVERYWHERE,
        COUNT_OR_OFF,
        "off",
        "consoles of one principal; `anonymous` has no such limit",
    ),
    Key(
        "max_sessions_per_console",
        EVERYWHERE,
        COUNT_OR_OFF,
        "20",
        "sessions to one console, where the router names it",
    ),
    Key(
        "max_connections",
        EVERYWHERE,
        COUNT_OR_OFF,
        "64",
        "connections to one upstream host, HTTP among them; ESXi itself takes 128",
    ),
    Key(
        "max_http_connections",
        EVERYWHERE,
        COUNT_HALF_OR_OFF,
        "half",
        "HTTP: how many of these plain HTTP may have, idle ones among them; `half` is half of "
        "`max_connections`, which also switches it off",
    ),
    Key(
        "max_http_connections_per_client",
        PROXY + LISTENER,
        COUNT_OR_OFF,
        "32",
        "HTTP: upstream connections for the requests of one client; off with `max_connections = off`",
    ),
    Key(
        "max_handshakes",
        PROXY + LISTENER,
        COUNT_OR_OFF,
        "1000",
        "clients in the opening handshake at one listener; each of several workers has its part of them",
    ),
    Key(
        "session_rate",
        PROXY + LISTENER,
        RATE_OR_OFF,
        "off",
        "new consoles a second from one client at one listener",
    ),
    Key("session_burst", PROXY + LISTENER, COUNT, "20", "how many of these at once"),
    Key(
        "queue_timeout",
        EVERYWHERE,
        DURATION_OR_OFF,
        "off",
        "how long a client waits for a slot before the 503",
        old_name="queue",
    ),
    Key(
        "listen",
        LISTENER,
        Type("address", listen_address),
        None,
        "where to listen: `0.0.0.0:82`, `:82` (every IPv4 address), `[::]:82` (every IPv6 address, and IPv4 "
        "too), `127.0.0.1:0` (any free port), `unix:/run/esxiproxy.sock` or a Twisted endpoint string",
        required=True,
    ),
    Key(
        "certificate",
        LISTENER,
        CERTIFICATES,
        None,
        "the listener's certificate, then its chain; it speaks TLS",
    ),
    Key("private_key", LISTENER, PRIVATE_KEY, None, "the certificate's key, without a passphrase"),
    Key("tls_minimum", LISTENER, choice(TLSVersion), "1.2", "the oldest TLS version that clients may speak"),
    Key(
        "client_ca",
        LISTENER,
        CERTIFICATES,
        None,
        "authorities of client certificates; every client needs one",
    ),
    Key(
        "upstream", LISTENER, NAME, None, "where everything goes: the NAME of an upstream; `static` needs it"
    ),
    Key("router", LISTENER, NAME, "static", "the plugin that says where a session goes"),
    Key("authenticator", LISTENER, NAME, "anonymous", "the plugin that says who a client is"),
    Key(
        "http",
        LISTENER,
        choice(Http),
        "refuse",
        "requests that are no WebSocket: `refuse` answers 426, `forward` passes them to the upstream",
    ),
    Key(
        "paths",
        LISTENER,
        plain("path prefixes", values.paths),
        None,
        "what is served, WebSocket and HTTP alike, separated by commas, as in `/ticket/, /ui/`; without it "
        "everything is, with it all else is a 404",
    ),
    Key(
        "health",
        LISTENER,
        plain("path", values.health),
        None,
        "the path of a load balancer's readiness check, as in `/readyz`: 200 while new consoles are taken, "
        "503 in a drain, for everybody, before `paths` and `http`, in no log; not for a liveness probe",
    ),
    Key(
        "trusted_proxies",
        LISTENER,
        plain("networks", values.trust),
        None,
        "whose X-Forwarded-* or Forwarded fields are believed, separated by commas, as in "
        "`10.0.0.0/8, 2001:db8::1, unix`; with `proxy_protocol`, who may connect",
    ),
    Key(
        "proxy_protocol",
        LISTENER,
        plain("`yes` or `no`", values.yes_or_no),
        "no",
        "whether every connection begins with a PROXY header, version 1 or 2, that names the client; "
        "`esxiproxy check` warns when `trusted_proxies` does not say whose is believed",
    ),
    Key(
        "url",
        UPSTREAM,
        plain("URL", upstream_url),
        None,
        "`ws://HOST[:PORT]` or `wss://HOST[:PORT]`; the path is the client's",
        required=True,
    ),
    Key(
        "verify",
        UPSTREAM,
        choice(Verify),
        "system",
        "how a wss upstream shows who it is: by a chain to the machine's authorities, by one to those of "
        "`ca`, by its certificate's thumbprint, or not at all",
    ),
    Key(
        "pin",
        UPSTREAM,
        plain("thumbprints", values.pins),
        None,
        "`sha256:HEX` or `sha1:HEX`, several separated by commas; for `verify = pin`",
    ),
    Key("ca", UPSTREAM, CERTIFICATES, None, "the authorities that may sign the upstream; for `verify = ca`"),
    Key(
        "tls_profile",
        UPSTREAM,
        choice(TLSProfile),
        "intermediate",
        "the TLS that a wss upstream may speak: `intermediate` is 1.2 and 1.3 with ECDHE; `old` adds 1.0 and "
        "1.1, key exchange by RSA and DHE, and hosts without secure renegotiation; `verify` stays as strict",
    ),
    Key(
        "host",
        UPSTREAM,
        plain("`upstream`, `client` or a name", values.host_field),
        "upstream",
        "the Host field that is sent: the upstream's own name, the client's, or this one",
    ),
    Key(
        "origin",
        UPSTREAM,
        plain("`upstream`, `client`, `none` or a value", values.origin_field),
        "upstream",
        "the Origin field that is sent, if the client sends one: `upstream` turns our own origin into the "
        "upstream's and passes a foreign one as it is, `client` passes all, `none` drops all; a value "
        "replaces our own, and in an opening handshake every origin, foreign ones too",
    ),
    Key(
        "subprotocol",
        UPSTREAM,
        choice(Subprotocol),
        "bridge",
        "for a client that offers none: `bridge` offers `binary` in its place, `pass` offers none",
    ),
    Key(
        "send_proxy_protocol",
        UPSTREAM,
        plain("`off`, `v1` or `v2`", values.proxy_version_or_off),
        "off",
        "the PROXY header that a connection begins with, before TLS; ESXi itself does not understand it",
    ),
)

LIMITS = frozenset(field.name for field in fields(SessionLimits))
QUOTAS = frozenset(field.name for field in fields(ConnectionLimits))
"""The keys that are limits of one session, and limits on their number."""

RENAMED = {key.old_name: key.name for key in KEYS if key.old_name}
"""The new name of each key by its old one, which works for one version."""


def keys_of(kind: SectionKind) -> dict[str, Key]:
    """The keys of a section, by name."""
    return {key.name: key for key in KEYS if kind in key.sections}
