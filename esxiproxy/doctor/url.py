"""The URL of a console."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from esxiproxy.core.http.head import MAX_TARGET
from esxiproxy.core.redaction import redact
from esxiproxy.core.routing import Upstream

_URL = re.compile(r"(?i)([a-z][a-z0-9+.-]*)://([^/?#]*)(.*)", re.DOTALL)
_AUTHORITY = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::(\d{1,5}))?")
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})")
_TARGET = re.compile(r"[\x21-\x7e]+")


class BadUrl(ValueError):
    """Raised for a text that is not a console's URL.  The message never repeats the text and its ticket."""


@dataclass(frozen=True, slots=True)
class ConsoleUrl:
    """A console's URL; ``target`` is the request target byte for byte, and a secret."""

    secure: bool
    host: str
    port: int
    target: bytes

    @classmethod
    def parse(cls, text: str) -> ConsoleUrl:
        """Parse a URL.  Raises BadUrl."""
        match = _URL.fullmatch(text.strip())
        if match is None:
            raise BadUrl("the URL must have the form ws://HOST[:PORT]/PATH or wss://HOST[:PORT]/PATH")
        scheme, authority, target = match.group(1).lower(), match.group(2), match.group(3)
        if scheme not in ("ws", "wss"):
            instead = {"http": "ws", "https": "wss"}.get(scheme, "ws or wss")
            raise BadUrl(f"the URL begins with {scheme}://; use {instead}:// for a WebSocket")
        host, port = _host_and_port(authority)
        return cls(scheme == "wss", host, port or (443 if scheme == "wss" else 80), _target(target))

    @property
    def authority(self) -> str:
        """The ``host[:port]`` of the Host field, without an IPv6 zone."""
        return self._upstream.authority

    @property
    def origin(self) -> str:
        """The host's own origin, which the proxy sends in place of the browser's."""
        return self._upstream.origin

    @property
    def place(self) -> str:
        """The ``host:port`` for messages, always with the port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def literal(self) -> bool:
        """Whether the host is an IP address."""
        return _is_address(self.host)

    @property
    def has_ticket(self) -> bool:
        """Whether the target contains a ticket, which the request uses up."""
        return redact(self.target) != self.target.decode("ascii")

    def __str__(self) -> str:
        return f"{'wss' if self.secure else 'ws'}://{self._upstream.authority}{redact(self.target)}"

    def __repr__(self) -> str:
        return f"<ConsoleUrl {self}>"

    @property
    def _upstream(self) -> Upstream:
        return Upstream("doctor", self.host.partition("%")[0], self.port, self.secure)


def _host_and_port(authority: str) -> tuple[str, int]:
    if "@" in authority:
        raise BadUrl("the URL has a user name, which a WebSocket URL cannot have: remove it")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise BadUrl("the URL has no valid host (write an IPv6 address in brackets: [ADDRESS]:PORT)")
    port = int(match.group(3)) if match.group(3) else 0
    if match.group(3) and not 1 <= port <= 65535:
        raise BadUrl("the port in the URL must be between 1 and 65535")
    if match.group(1) is not None:
        host = match.group(1).replace("%25", "%", 1)  # RFC 6874
        if ":" not in host or not _is_address(host):
            raise BadUrl("the host in brackets in the URL is not an IPv6 address")
        return host, port
    try:
        name = match.group(2).encode("idna").decode("ascii")
    except UnicodeError:
        raise BadUrl("the host name in the URL is not a valid DNS name") from None
    if _NAME.fullmatch(name) is None:
        raise BadUrl("the host name in the URL is not a valid DNS name")
    return name, port


def _target(text: str) -> bytes:
    if "#" in text:
        raise BadUrl("the URL has a fragment (#), which a WebSocket URL cannot have: remove it")
    target = text if text.startswith("/") else "/" + text
    if _TARGET.fullmatch(target) is None:
        raise BadUrl("the path in the URL has white space or characters outside ASCII: write them as %XX")
    if len(target) > MAX_TARGET:
        raise BadUrl(f"the path in the URL is longer than {MAX_TARGET} bytes")
    return target.encode("ascii")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
