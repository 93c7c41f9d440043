"""The table of every configuration key: sections, type, default and meaning."""

from __future__ import annotations

from dataclasses import fields

from esxiproxy.core.config import quantities, state_url, values
from esxiproxy.core.config.access import ACCESS_KEYS
from esxiproxy.core.config.access_log import AccessLogFormat, SessionLogFilter, access_log
from esxiproxy.core.config.admin import ADMIN_KEYS
from esxiproxy.core.config.key import (
    ADMIN,
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
    VSPHERE,
    Key,
    SectionKind,
    Type,
    choice,
    path,
    plain,
)
from esxiproxy.core.config.listen_address import listen_address, manhole_address
from esxiproxy.core.config.model import ClientCertificates, Http, TLSVersion
from esxiproxy.core.config.state_url import StateDown
from esxiproxy.core.config.tickets import TICKET_KEYS
from esxiproxy.core.config.url import public_url, upstream_urls
from esxiproxy.core.config.vsphere import VSPHERE_KEYS
from esxiproxy.core.keepalive import Profile
from esxiproxy.core.routing import Balance, Subprotocol, TLSProfile, Verify
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session_limits import SessionLimits

KEYS = (
    Key(
        "workers",
        PROXY,
        plain("number or `auto`", quantities.workers),
        "1",
        "Number of processes that share the listeners. `auto` starts one for each CPU that the process "
        "may use, the CPU quota of its container included.",
    ),
    Key(
        "worker_shutdown_timeout",
        PROXY,
        DURATION_OR_OFF,
        "off",
        "With several workers: time after a reload until the consoles of the old workers are closed. "
        "`off` waits for their last console.",
        old_name="upgrade_timeout",
    ),
    Key(
        "state",
        PROXY,
        Type("`memory:`, `sqlite:PATH` or a URL", state_url.state),
        "memory:",
        "Where slots and sessions are stored. `memory:` serves one process. A database file may be shared"
        " by several processes of one machine; several workers create one themselves. Several machines share"
        " a Redis server: `redis://[USER@]HOST[:PORT][/DATABASE]`, or `rediss://` with TLS. Sentinels name"
        " its primary with `redis+sentinel://[USER@]HOST[:PORT][,HOST[:PORT]...]/SERVICE[/DATABASE]`, or"
        " `rediss+sentinel://` with TLS.",
    ),
    Key(
        "state_password_file",
        PROXY,
        path("file"),
        None,
        "File with the password of the Redis server in its first line. It is read for each connection.",
    ),
    Key(
        "state_sentinel_password_file",
        PROXY,
        path("file"),
        None,
        "File with the password of the Sentinels in its first line. It is read for each connection. Without"
        " this key they get none.",
    ),
    Key(
        "state_ca",
        PROXY,
        CERTIFICATES,
        None,
        "Authorities that may have signed the certificates of a `rediss://` server and its Sentinels. The"
        " default are those of the system.",
    ),
    Key(
        "state_prefix",
        PROXY,
        NAME,
        "esxiproxy",
        "Beginning of all keys in the Redis database. Proxies with the same one share their state.",
    ),
    Key(
        "state_down",
        PROXY,
        choice(StateDown),
        "refuse",
        "New consoles while the Redis server is away: `refuse` answers them with 503, `admit` admits them"
        " except by links that work once, and each process applies the limits by itself.",
    ),
    Key(
        "machine",
        PROXY,
        NAME,
        None,
        "Name of this machine among those that share the state. The default is its host name.",
    ),
    Key(
        "services",
        PROXY,
        NAMES,
        None,
        "Plugins that run next to the proxy, separated by commas. With several workers they run in the "
        "admin process.",
        old_name="beside",
    ),
    Key(
        "manhole",
        PROXY,
        Type("address", manhole_address),
        None,
        "Address of the operator shell (SSH). `2222` is that port on 127.0.0.1; other addresses as in "
        "`listen`.",
    ),
    Key(
        "manhole_keys",
        PROXY,
        path("file"),
        None,
        "An `authorized_keys` file with the operators' SSH keys. Required by `manhole`.",
    ),
    Key(
        "manhole_host_key",
        PROXY,
        path("file"),
        None,
        "File of the SSH host key. It is created at the first start.",
    ),
    Key(
        "access_log",
        PROXY,
        Type("file, `stdout`, `syslog`, `journald` or `off`", access_log),
        "off",
        "Destination of the access log, which has one line for each console and HTTP request. A file is "
        "reopened on SIGUSR1.",
    ),
    Key(
        "access_log_format",
        PROXY,
        choice(AccessLogFormat),
        "json",
        "Format of a line of the access log: a JSON object, or the `combined` format of Apache and nginx.",
    ),
    Key(
        "session_log",
        PROXY,
        choice(SessionLogFilter),
        "all",
        "Sessions that write a line to twistd's own log when they end: `all` of them, or those that failed.",
    ),
    Key("head_timeout", PROXY + LISTENER, DURATION, "10s", "Time for a client to send a whole request head."),
    Key(
        "tls_handshake_timeout",
        PROXY + LISTENER,
        DURATION,
        "10s",
        "Time for a client to complete its TLS handshake.",
    ),
    Key(
        "decision_timeout",
        PROXY + LISTENER,
        DURATION,
        "10s",
        "Time for each authenticator and each router to answer.",
    ),
    Key(
        "keepalive_timeout",
        PROXY + LISTENER,
        DURATION,
        "60s",
        "HTTP: time after which an idle client connection is closed between two requests.",
    ),
    Key("connect_timeout", EVERYWHERE, DURATION, "5s", "Time for the TCP connection to the upstream."),
    Key(
        "upstream_handshake_timeout",
        EVERYWHERE,
        DURATION,
        "10s",
        "Time until the upstream's 101: name look-up, TCP, TLS and opening handshake together.",
    ),
    Key(
        "keepalive",
        EVERYWHERE,
        choice(Profile),
        "console",
        "Profile for the next four keys: `console` sets pings and TCP keepalive, `lan` TCP keepalive "
        "only, `off` neither. A key that is set overrides the profile.",
    ),
    Key("ping_interval", EVERYWHERE, DURATION_OR_OFF, "25s", "Time between two pings to the client."),
    Key("ping_timeout", EVERYWHERE, DURATION, "20s", "Time for a peer to send any byte after a ping."),
    Key(
        "upstream_ping_interval",
        EVERYWHERE,
        DURATION_OR_OFF,
        "off",
        "Time between two pings to the upstream. ESXi's console does not seem to answer them.",
    ),
    Key(
        "tcp_keepalive",
        EVERYWHERE,
        DURATION_OR_OFF,
        "60s",
        "Time within which TCP keepalive detects a dead peer.",
    ),
    Key(
        "idle_timeout",
        EVERYWHERE,
        DURATION_OR_OFF,
        "off",
        "Close a session after this time without a data frame.",
    ),
    Key("max_lifetime", EVERYWHERE, DURATION_OR_OFF, "off", "Close a session at this age."),
    Key(
        "stall_timeout",
        EVERYWHERE,
        DURATION,
        "60s",
        "Close a session when a peer has accepted no data for this time.",
    ),
    Key(
        "close_timeout", EVERYWHERE, DURATION, "5s", "Time for both peers to complete the closing handshake."
    ),
    Key(
        "drain_timeout",
        PROXY,
        DURATION,
        "30s",
        "Time after the start of a shutdown until the remaining sessions are closed.",
    ),
    Key("max_frame", EVERYWHERE, SIZE_OR_OFF, "off", "Maximum payload of a WebSocket frame."),
    Key(
        "response_timeout",
        EVERYWHERE,
        DURATION,
        "60s",
        "HTTP: time for the upstream to send the next part of a response; a head is one part.",
    ),
    Key("max_body", PROXY + LISTENER, SIZE_OR_OFF, "off", "HTTP: maximum size of a request body."),
    Key(
        "min_body_rate",
        PROXY + LISTENER,
        SIZE_OR_OFF,
        "500",
        "HTTP: minimum rate of a request body, in bytes per second.",
    ),
    Key("max_sessions", PROXY + LISTENER, COUNT_OR_OFF, "off", "Maximum number of consoles at one listener."),
    Key(
        "max_sessions_per_client",
        PROXY + LISTENER,
        COUNT_OR_OFF,
        "off",
        "Maximum number of consoles of one client at one listener. A client is an IPv4 address or an IPv6"
        " /64.",
    ),
    Key(
        "max_sessions_per_principal",
        EVERYWHERE,
        COUNT_OR_OFF,
        "off",
        "Maximum number of consoles of one principal. The principal `anonymous` has no such limit.",
    ),
    Key(
        "max_sessions_per_console",
        EVERYWHERE,
        COUNT_OR_OFF,
        "20",
        "Maximum number of sessions to one console, if the router names the console.",
    ),
    Key(
        "max_connections",
        EVERYWHERE,
        COUNT_OR_OFF,
        "64",
        "Maximum number of connections to one upstream host, for consoles and plain HTTP together. ESXi "
        "itself accepts 128.",
    ),
    Key(
        "max_http_connections",
        EVERYWHERE,
        COUNT_HALF_OR_OFF,
        "half",
        "HTTP: maximum number of connections out of `max_connections` for plain HTTP, idle ones included."
        " `half` is half of `max_connections`; `max_connections = off` disables this limit.",
    ),
    Key(
        "max_http_connections_per_client",
        PROXY + LISTENER,
        COUNT_OR_OFF,
        "32",
        "HTTP: maximum number of upstream connections for the requests of one client at one listener. "
        "`max_connections = off` disables this limit.",
    ),
    Key(
        "max_handshakes",
        PROXY + LISTENER,
        COUNT_OR_OFF,
        "1000",
        "Maximum number of client connections in the opening handshake at one listener, health checks "
        "included. It is divided among the workers.",
    ),
    Key(
        "session_rate",
        PROXY + LISTENER,
        RATE_OR_OFF,
        "off",
        "New consoles per second of one client at one listener.",
    ),
    Key(
        "session_burst",
        PROXY + LISTENER,
        COUNT,
        "20",
        "Number of consoles that a client may open at once before `session_rate` applies.",
    ),
    Key(
        "queue_timeout",
        EVERYWHERE,
        DURATION_OR_OFF,
        "off",
        "Time that a client waits for a slot before it is refused with 503.",
        old_name="queue",
    ),
    Key(
        "listen",
        LISTENER,
        Type("address", listen_address),
        None,
        "Address to listen on: `0.0.0.0:82`, `:82` (every IPv4 address), `[::]:82` (every IPv6 and IPv4 "
        "address), `127.0.0.1:0` (any free port), `unix:/run/esxiproxy.sock` or a Twisted endpoint "
        "string.",
        required=True,
    ),
    Key(
        "certificate",
        LISTENER + ADMIN,
        CERTIFICATES,
        None,
        "The certificate of this address, followed by its chain. The address then speaks TLS.",
    ),
    Key(
        "private_key",
        LISTENER + ADMIN,
        PRIVATE_KEY,
        None,
        "The private key of the certificate, without a passphrase.",
    ),
    Key("tls_minimum", LISTENER, choice(TLSVersion), "1.2", "Oldest TLS version that clients may use."),
    Key(
        "client_ca",
        LISTENER,
        CERTIFICATES,
        None,
        "Authorities of client certificates. Every client then needs a certificate, unless "
        "`client_certificates` is `optional`.",
    ),
    Key(
        "client_certificates",
        LISTENER,
        choice(ClientCertificates),
        "required",
        "With `client_ca`, whether a client without a certificate is refused in the TLS handshake "
        "(`required`), or served (`optional`). A certificate that is not valid is refused in both cases.",
    ),
    Key(
        "upstream",
        LISTENER,
        NAME,
        None,
        "NAME of the upstream that all sessions go to. With `router`, the upstream of a router `static` that"
        " has no section.",
    ),
    Key(
        "router",
        LISTENER,
        NAMES,
        None,
        "Routers that choose the host of a session, separated by commas and asked in this order: names of "
        "`[router NAME]` sections, or of types that need no keys. Not needed with `upstream`.",
    ),
    Key(
        "authenticator",
        LISTENER + ADMIN,
        NAMES,
        "anonymous",
        "Authenticators that identify the client, separated by commas and asked in this order: names of "
        "`[authenticator NAME]` sections, or of types that need no keys.",
    ),
    Key(
        "http",
        LISTENER,
        choice(Http),
        "refuse",
        "Treatment of requests that are no WebSocket: `refuse` answers 426, `forward` passes them to the "
        "upstream, `portal` passes them to the page with the user's machines, which runs in the admin "
        "process, also with one worker.",
    ),
    Key(
        "paths",
        LISTENER,
        plain("path prefixes", values.paths),
        None,
        "Path prefixes that are served, for WebSocket and HTTP, separated by commas, as in `/ticket/, "
        "/ui/`. Other paths are answered with 404. Without this key every path is served.",
    ),
    Key(
        "health",
        LISTENER,
        plain("path", values.health),
        None,
        "Path of a load balancer's readiness check, as in `/readyz`. It answers 200 while new consoles "
        "are accepted and 503 during a drain. It applies before `paths` and `http`, to every client, and "
        "no request is logged. It is not a liveness check.",
    ),
    Key(
        "trusted_proxies",
        LISTENER,
        plain("networks", values.trust),
        None,
        "Networks of proxies whose X-Forwarded-* or Forwarded fields are accepted, separated by commas, "
        "as in `10.0.0.0/8, 2001:db8::1, unix`. With `proxy_protocol`, only these may connect.",
    ),
    Key(
        "proxy_protocol",
        LISTENER,
        plain("`yes` or `no`", values.yes_or_no),
        "no",
        "Whether every connection begins with a PROXY header, version 1 or 2, that names the client. "
        "`esxiproxy check` warns if `trusted_proxies` does not restrict who may send it.",
    ),
    Key(
        "origins",
        LISTENER,
        plain("`any`, `same` or origins", values.origins),
        None,
        "Origins whose pages may open consoles, separated by commas, as in `same, https://portal.example.com`."
        " `same` is the origin of the listener's own URL, `any` is every origin. The default is `same` if a "
        "browser sends the credentials by itself (a cookie, a password, a client certificate), and `any` "
        "otherwise. A request without an Origin field is accepted, since it comes from no page.",
    ),
    Key(
        "public_url",
        LISTENER,
        plain("URL", public_url),
        None,
        "URL under which clients reach the listener, as in `https://consoles.example.com`, with the path that"
        " a proxy in front removes. Links begin with it.",
    ),
    Key(
        "embed",
        LISTENER,
        plain("origins", values.embedding_origins),
        None,
        "Origins of pages that may show the portal in a frame, separated by commas, as in "
        "`https://intranet.example.com`. Browsers send the login only to a frame of the same site.",
    ),
    Key(
        "url",
        UPSTREAM,
        plain("URLs", upstream_urls),
        None,
        "Address of the upstream, `ws://HOST[:PORT]` or `wss://HOST[:PORT]`. The path of a request is the"
        " client's. Several addresses, separated by commas, are those of one host, of vCenter or of a tier "
        "of proxies: an ESXi ticket is valid on one host only. Required, except for the `template` of a "
        "router.",
    ),
    Key(
        "balance",
        UPSTREAM,
        choice(Balance),
        "first",
        "Order in which several addresses are tried: `first` as written, `round_robin` in turn, "
        "`least_sessions` those with the fewest connections first, `hash` by the client's network.",
    ),
    Key(
        "failover_delay",
        UPSTREAM,
        DURATION,
        "1s",
        "Time after which the next address is tried beside one that does not answer.",
    ),
    Key(
        "health_check",
        UPSTREAM,
        plain("`off`, `tcp`, `tls` or a path", values.health_check),
        None,
        "Active check of the addresses every 10 s: `tcp` connects, `tls` also verifies the certificate, a "
        "path such as `/healthz` has to be answered with a status below 400. The default is `tls` (for ws:// "
        "`tcp`) for several addresses, and `off` for one.",
    ),
    Key(
        "verify",
        UPSTREAM + VSPHERE,
        choice(Verify),
        "system",
        "How the certificate of a wss upstream, or of vCenter, is verified: `system` by the machine's "
        "authorities, `ca` by those of the key `ca`, `pin` by its thumbprint, `none` not at all.",
    ),
    Key(
        "pin",
        UPSTREAM + VSPHERE,
        plain("thumbprints", values.pins),
        None,
        "Thumbprints of accepted certificates, `sha256:HEX` or `sha1:HEX`, separated by commas. SHA-1 counts "
        "only if there is no SHA-256. Required by `verify = pin`.",
    ),
    Key(
        "ca",
        UPSTREAM + VSPHERE,
        CERTIFICATES,
        None,
        "Authorities that may sign the certificate. Required by `verify = ca`.",
    ),
    Key(
        "tls_profile",
        UPSTREAM,
        choice(TLSProfile),
        "intermediate",
        "TLS that a wss upstream may use. `intermediate` is TLS 1.2 and 1.3 with ECDHE. `old` adds TLS "
        "1.0 and 1.1, key exchange by RSA and DHE, and hosts without secure renegotiation. `verify` is "
        "equally strict with both.",
    ),
    Key(
        "host",
        UPSTREAM,
        plain("`upstream`, `client` or a name", values.host_field),
        "upstream",
        "Host field sent to the upstream: the upstream's own name, the client's Host, or this value.",
    ),
    Key(
        "origin",
        UPSTREAM,
        plain("`upstream`, `client`, `none` or a value", values.origin_field),
        "upstream",
        "Origin field sent to the upstream, if the client sends one. `upstream` replaces the proxy's own "
        "origin by the upstream's and passes a foreign one unchanged. `client` passes every origin, "
        "`none` drops it. A value replaces the proxy's own origin, and in an opening handshake every "
        "origin. A front proxy that ends TLS has to be in `trusted_proxies`, or the browser's origin "
        "counts as foreign.",
    ),
    Key(
        "subprotocol",
        UPSTREAM,
        choice(Subprotocol),
        "bridge",
        "For a client that offers no subprotocol: `bridge` offers `binary` to the upstream, `pass` offers"
        " none.",
    ),
    Key(
        "send_proxy_protocol",
        UPSTREAM,
        plain("`off`, `v1` or `v2`", values.proxy_version_or_off),
        "off",
        "PROXY header sent at the start of each upstream connection, before TLS. ESXi itself does not "
        "accept one.",
    ),
    *ADMIN_KEYS,
    *VSPHERE_KEYS,
    *ACCESS_KEYS,
    *TICKET_KEYS,
)

SESSION_LIMIT_KEYS = frozenset(field.name for field in fields(SessionLimits))
"""The keys of :class:`SessionLimits`."""
CONNECTION_LIMIT_KEYS = frozenset(field.name for field in fields(ConnectionLimits))
"""The keys of :class:`ConnectionLimits`."""

RENAMED = {key.old_name: key.name for key in KEYS if key.old_name}
"""The new name of each key by its old one, which works for one version."""


def keys_of(kind: SectionKind) -> dict[str, Key]:
    """Return the keys that a section of this kind may have, by name."""
    return {key.name: key for key in KEYS if kind in key.sections}
