"""Every key of the configuration: the one table that the check, the reference and ``conf/`` come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from esxiproxy.core import values
from esxiproxy.core.accesslog import Format, access_log
from esxiproxy.core.address import listen_address, manhole_address
from esxiproxy.core.limits import Limits
from esxiproxy.core.listening import Http, TLSVersion
from esxiproxy.core.routing import Subprotocol, Verify
from esxiproxy.core.url import upstream_url


class SectionKind(Enum):
    """The kinds of sections; the value is a header's first word."""

    PROXY = "proxy"
    LISTENER = "listener"
    UPSTREAM = "upstream"

    @property
    def header(self) -> str:
        """The header as a reader has to write it."""
        return "[proxy]" if self is SectionKind.PROXY else f"[{self.value} NAME]"


@dataclass(frozen=True, slots=True)
class Type:
    """What a value can be: its name for people, and what reads a text in a file of that folder.

    ``parse`` raises :class:`~esxiproxy.core.values.BadValue`.
    """

    name: str
    parse: Callable[[str, Path], Any]


@dataclass(frozen=True, slots=True)
class Key:
    """One key.  ``default`` is what one would write to get it; None if leaving the key out means nothing."""

    name: str
    sections: tuple[SectionKind, ...]
    type: Type
    default: str | None
    meaning: str
    required: bool = False


def _plain(name: str, parse: Callable[[str], Any]) -> Type:
    """A type whose values have nothing to do with the folder."""
    return Type(name, lambda text, _folder: parse(text))


def _choice(words: type[Enum]) -> Type:
    *others, last = (f"`{word.value}`" for word in words)
    return _plain(f"{', '.join(others)} or {last}", values.choice(words))


def _file(name: str, block: str) -> Type:
    return Type(name, partial(values.pem, block=block))


def _path(name: str) -> Type:
    return Type(name, lambda text, folder: folder / text)


DURATION = _plain("duration", values.duration)
DURATION_OR_OFF = _plain("duration or `off`", values.duration_or_off)
SIZE_OR_OFF = _plain("size or `off`", values.size_or_off)
NAME = _plain("name", values.name)
NAMES = _plain("names", values.names)
CERTIFICATES = _file("PEM file", "CERTIFICATE")
PRIVATE_KEY = _file("PEM file", "PRIVATE KEY")

_P, _L, _U = (SectionKind.PROXY,), (SectionKind.LISTENER,), (SectionKind.UPSTREAM,)

KEYS = (
    Key("state", _P, _plain("`memory:`", values.state), "memory:", "where sessions and slots are kept"),
    Key("beside", _P, NAMES, None, "plugins that run beside the proxy, separated by commas"),
    Key(
        "manhole",
        _P,
        Type("address", manhole_address),
        None,
        "where operators may look inside by SSH: `2222`, which is on 127.0.0.1, or as in `listen`",
    ),
    Key("manhole_keys", _P, _path("file"), None, "their keys, an `authorized_keys` file; for `manhole`"),
    Key("manhole_host_key", _P, _path("file"), None, "its own; made there at the first start"),
    Key(
        "access_log",
        _P,
        Type("file, `stdout`, `syslog`, `journald` or `off`", access_log),
        "off",
        "a line for each console and HTTP request; a file is reopened on SIGUSR1",
    ),
    Key(
        "access_log_format",
        _P,
        _choice(Format),
        "json",
        "JSON objects, or what Apache and nginx call combined",
    ),
    Key("head_timeout", _P + _L, DURATION, "10s", "the time for a whole request head to arrive"),
    Key("tls_handshake_timeout", _P + _L, DURATION, "10s", "the time for a client's TLS handshake"),
    Key("keepalive_timeout", _P + _L, DURATION, "60s", "the longest pause between two plain HTTP requests"),
    Key("connect_timeout", _P + _L + _U, DURATION, "5s", "the time for the TCP connection to the upstream"),
    Key(
        "upstream_handshake_timeout",
        _P + _L + _U,
        DURATION,
        "10s",
        "the time for the whole way to the upstream's 101: name, TCP, TLS and opening handshake",
    ),
    Key("ping_interval", _P + _L + _U, DURATION_OR_OFF, "25s", "how often a client is pinged"),
    Key("ping_timeout", _P + _L + _U, DURATION, "20s", "the time for a pinged peer to send anything"),
    Key(
        "upstream_ping_interval",
        _P + _L + _U,
        DURATION_OR_OFF,
        "off",
        "how often the upstream is pinged; ESXi's console seems not to answer",
    ),
    Key("idle_timeout", _P + _L + _U, DURATION_OR_OFF, "off", "the silence that ends a session"),
    Key("max_lifetime", _P + _L + _U, DURATION_OR_OFF, "off", "the age at which a session ends in any case"),
    Key("stall_timeout", _P + _L + _U, DURATION, "60s", "how long a side may take nothing of its bytes"),
    Key("close_timeout", _P + _L + _U, DURATION, "5s", "the time for both sides to close"),
    Key("drain_timeout", _P, DURATION, "30s", "how long sessions may go on when the proxy is shut down"),
    Key("max_frame", _P + _L + _U, SIZE_OR_OFF, "off", "the largest frame that is let through"),
    Key("response_timeout", _P + _L + _U, DURATION, "60s", "HTTP: how long an answer may be silent"),
    Key("max_body", _P + _L, SIZE_OR_OFF, "off", "HTTP: the largest body of a request"),
    Key("min_body_rate", _P + _L, SIZE_OR_OFF, "500", "HTTP: bytes a second, at least, of a request's body"),
    Key(
        "listen",
        _L,
        Type("address", listen_address),
        None,
        "where to listen: `0.0.0.0:82`, `:82` (every IPv4 address), `[::]:82` (every IPv6 address, and IPv4 "
        "too), `127.0.0.1:0` (any free port), `unix:/run/esxiproxy.sock` or a Twisted endpoint string",
        required=True,
    ),
    Key("certificate", _L, CERTIFICATES, None, "the listener's certificate, then its chain; it speaks TLS"),
    Key("private_key", _L, PRIVATE_KEY, None, "the certificate's key, without a passphrase"),
    Key("tls_minimum", _L, _choice(TLSVersion), "1.2", "the oldest TLS version that clients may speak"),
    Key("client_ca", _L, CERTIFICATES, None, "authorities of client certificates; every client needs one"),
    Key("upstream", _L, NAME, None, "where everything goes: the NAME of an upstream; `static` needs it"),
    Key("router", _L, NAME, "static", "the plugin that says where a session goes"),
    Key("authenticator", _L, NAME, "anonymous", "the plugin that says who a client is"),
    Key(
        "http",
        _L,
        _choice(Http),
        "refuse",
        "requests that are no WebSocket: `refuse` answers 426, `forward` passes them to the upstream",
    ),
    Key(
        "paths",
        _L,
        _plain("path prefixes", values.paths),
        None,
        "what is served, WebSocket and HTTP alike, separated by commas, as in `/ticket/, /ui/`; without it "
        "everything is, with it all else is a 404",
    ),
    Key(
        "trusted_proxies",
        _L,
        _plain("networks", values.trust),
        None,
        "whose X-Forwarded-* or Forwarded fields are believed, separated by commas, as in "
        "`10.0.0.0/8, 2001:db8::1, unix`; with `proxy_protocol`, who may connect",
    ),
    Key(
        "proxy_protocol",
        _L,
        _plain("`yes` or `no`", values.yes_or_no),
        "no",
        "whether every connection begins with a PROXY header, version 1 or 2, that names the client",
    ),
    Key(
        "url",
        _U,
        _plain("URL", upstream_url),
        None,
        "`ws://HOST[:PORT]` or `wss://HOST[:PORT]`; the path is the client's",
        required=True,
    ),
    Key(
        "verify",
        _U,
        _choice(Verify),
        "system",
        "how a wss upstream shows who it is: by a chain to the machine's authorities, by one to those of "
        "`ca`, by its certificate's thumbprint, or not at all",
    ),
    Key(
        "pin",
        _U,
        _plain("thumbprints", values.pins),
        None,
        "`sha256:HEX` or `sha1:HEX`, several separated by commas; for `verify = pin`",
    ),
    Key("ca", _U, CERTIFICATES, None, "the authorities that may sign the upstream; for `verify = ca`"),
    Key(
        "host",
        _U,
        _plain("`upstream`, `client` or a name", values.host_field),
        "upstream",
        "the Host field that is sent: the upstream's own name, the client's, or this one",
    ),
    Key(
        "origin",
        _U,
        _plain("`upstream`, `client`, `none` or a value", values.origin_field),
        "upstream",
        "the Origin field that is sent, if the client sends one",
    ),
    Key(
        "subprotocol",
        _U,
        _choice(Subprotocol),
        "bridge",
        "for a client that offers none: `bridge` offers `binary` in its place, `pass` offers none",
    ),
    Key(
        "send_proxy_protocol",
        _U,
        _plain("`off`, `v1` or `v2`", values.proxy_version_or_off),
        "off",
        "the PROXY header that a connection begins with, before TLS; ESXi itself does not understand it",
    ),
)

LIMITS = frozenset(field.name for field in fields(Limits))
"""The keys that are limits."""


def keys_of(kind: SectionKind) -> dict[str, Key]:
    """The keys of a section, by name."""
    return {key.name: key for key in KEYS if kind in key.sections}
