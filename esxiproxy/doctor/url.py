"""The address of a console, as the doctor is given it."""

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
    """A text that is no address of a console.  Its message never repeats that text: it may hold a ticket."""


@dataclass(frozen=True, slots=True)
class ConsoleUrl:
    """Where a console is asked for; ``target`` is the request target byte for byte, and a secret."""

    secure: bool
    host: str
    port: int
    target: bytes

    @classmethod
    def parse(cls, text: str) -> ConsoleUrl:
        """The address that a text is.  Raises BadUrl."""
        match = _URL.fullmatch(text.strip())
        if match is None:
            raise BadUrl("the URL has to be ws://HOST[:PORT]/PATH or wss://HOST[:PORT]/PATH")
        scheme, authority, target = match.group(1).lower(), match.group(2), match.group(3)
        if scheme not in ("ws", "wss"):
            instead = {"http": "ws", "https": "wss"}.get(scheme, "ws or wss")
            raise BadUrl(f"the URL begins with {scheme}://, a WebSocket's with {instead}://")
        host, port = _host_and_port(authority)
        return cls(scheme == "wss", host, port or (443 if scheme == "wss" else 80), _target(target))

    @property
    def authority(self) -> str:
        """``host[:port]`` as the Host field has it; an IPv6 zone is nobody's business but ours."""
        return self._upstream.authority

    @property
    def origin(self) -> str:
        """The host's own origin, which the proxy sends for a browser."""
        return self._upstream.origin

    @property
    def place(self) -> str:
        """``host:port`` for a sentence, the port always named."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def literal(self) -> bool:
        """Whether the host is an IP address and no name."""
        return _is_address(self.host)

    @property
    def has_ticket(self) -> bool:
        """Whether there is something in it that asking spends."""
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
        raise BadUrl("the URL has a user name in it, and a WebSocket's has none")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise BadUrl("the URL names no host (an IPv6 address stands in brackets, and then the port)")
    port = int(match.group(3)) if match.group(3) else 0
    if match.group(3) and not 1 <= port <= 65535:
        raise BadUrl("the port of the URL has to lie between 1 and 65535")
    if match.group(1) is not None:
        host = match.group(1).replace("%25", "%", 1)  # RFC 6874
        if ":" not in host or not _is_address(host):
            raise BadUrl("what stands in brackets in the URL is no IPv6 address")
        return host, port
    try:
        name = match.group(2).encode("idna").decode("ascii")
    except UnicodeError:
        raise BadUrl("the host's name in the URL cannot be a name in the DNS") from None
    if _NAME.fullmatch(name) is None:
        raise BadUrl("the host's name in the URL cannot be a name in the DNS")
    return name, port


def _target(text: str) -> bytes:
    if "#" in text:
        raise BadUrl("the URL has a fragment (#), and a WebSocket's has none")
    target = text if text.startswith("/") else "/" + text
    if _TARGET.fullmatch(target) is None:
        raise BadUrl("the URL's path has white space or characters beyond ASCII: write them as %XX")
    if len(target) > MAX_TARGET:
        raise BadUrl(f"the URL's path is longer than {MAX_TARGET} bytes")
    return target.encode("ascii")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
