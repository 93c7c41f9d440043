"""The URL of an upstream, of a listener and of a service that is asked, and the origin of a page."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

from esxiproxy.core.config.errors import BadValue, shown
from esxiproxy.core.http.paths import ambiguous

_URL = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*)://)?(.*)")
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(.*))?")
_VISIBLE = re.compile(r"[!-~]+")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_PORTS = {"ws": 80, "wss": 443, "http": 80, "https": 443, "redis": 6379, "rediss": 6379}
_PORTS |= {"redis+sentinel": 26379, "rediss+sentinel": 26379}
_PAGE_SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class UpstreamURL:
    """The address of an upstream.  ``host`` is in lower case, and an IPv6 address has no brackets."""

    secure: bool
    host: str
    port: int


def upstream_url(text: str) -> UpstreamURL:
    """Return the address in ``ws://HOST[:PORT]`` or ``wss://HOST[:PORT]``.  Raise BadValue."""
    found = _URL.fullmatch(text)
    assert found is not None, "a value has one line"
    scheme, rest = (found[1] or "").lower(), found[2]
    if scheme not in ("ws", "wss"):
        meant = {"http": "ws://", "https": "wss://"}.get(scheme, "ws:// or wss://")
        begun = f"begins with {scheme}://" if scheme else "has no scheme"
        raise BadValue(f"{shown(text)} {begun}: write {meant}")
    for mark, part in (("?", "query"), ("#", "fragment"), ("/", "path")):
        if mark in rest:
            raise BadValue(f"{shown(text)} has a {part}: end after the port, the client's own target is sent")
    if "@" in rest:
        raise BadValue("has a user or a password: an upstream takes none")
    return UpstreamURL(scheme == "wss", *host_and_port(text, scheme, rest))


def upstream_urls(text: str) -> tuple[UpstreamURL, ...]:
    """Return the addresses of an upstream, separated by commas.  Raise BadValue."""
    found = tuple(upstream_url(part.strip()) for part in text.split(","))
    if len({url.secure for url in found}) > 1:
        raise BadValue("has ws:// and wss://: the addresses of an upstream speak the same protocol")
    if len(set(found)) < len(found):
        raise BadValue("has an address twice")
    return found


def page_origin(text: str) -> bytes:
    """Return the origin in ``https://HOST[:PORT]`` in lower case and with its port.  Raise BadValue."""
    found = _URL.fullmatch(text)
    assert found is not None, "a value has one line"
    scheme, rest = (found[1] or "").lower(), found[2]
    if scheme not in ("http", "https") or re.search("[/?#@]", rest):
        raise BadValue(
            f"{shown(text)} is no origin: write any, same, or origins as https://portal.example.com"
        )
    host, port = host_and_port(text, scheme, rest)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}".encode("ascii")


def public_url(text: str) -> str:
    """Return ``http://HOST[:PORT][/PATH]`` or https in lower case, without a slash at its end.

    Raise BadValue.
    """
    found = _URL.fullmatch(text)
    assert found is not None, "a value has one line"
    scheme, (authority, slash, path) = (found[1] or "").lower(), found[2].partition("/")
    if scheme not in _PAGE_SCHEMES:
        raise BadValue(f"{shown(text)} is no URL of a page: write https://consoles.example.com")
    for mark, part in (("?", "query"), ("#", "fragment")):
        if mark in found[2]:
            raise BadValue(f"{shown(text)} has a {part}: end after the path")
    if "@" in authority:
        raise BadValue("has a user or a password: the URL is given to others")
    host, port = host_and_port(text, scheme, authority)
    path = f"{slash}{path}".rstrip("/")
    if not re.fullmatch("[!-~]*", path) or ambiguous(path.encode("ascii")):
        raise BadValue(f"{shown(text)} has a path that can be read in two ways: no //, no dot segments")
    shown_host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown_host}{'' if port == _PORTS[scheme] else f':{port}'}{path}"


def service_url(text: str, schemes: Collection[str], wanted: str) -> str:
    """Return the URL of a service that is asked, with one of these schemes.  Raise BadValue.

    ``wanted`` says in messages what to write.
    """
    try:
        url = urlsplit(text)
        host, _port = url.hostname, url.port
    except ValueError:
        raise BadValue(f"{shown(text)} is no URL: write https://HOST/PATH") from None
    if "@" in url.netloc:
        raise BadValue("the URL has a user name or a password, which would not be sent: remove it")
    if url.scheme not in schemes or not host or not _VISIBLE.fullmatch(text):
        kind = "URL" if len(schemes) > 1 else f"{next(iter(schemes))} URL"
        raise BadValue(f"{shown(text)} is no {kind}: write {wanted}")
    if "#" in text:
        raise BadValue("the URL has a fragment (#), which is not sent: remove it")
    return text


def host_and_port(text: str, scheme: str, authority: str) -> tuple[str, int]:
    """Return the host and the port in an authority, or the port of the scheme.  Raise BadValue."""
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise BadValue(f"{shown(text)}: an IPv6 address stands in brackets, as in {scheme}://[2001:db8::1]")
    return _host(parts[1]), _port(parts[2], _PORTS[scheme])


def port_number(text: str, lowest: int) -> int:
    """Return a port of at least ``lowest``.  Raise BadValue."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not lowest <= int(text) <= 65535:
        raise BadValue(f"{shown(text)} is no port: a number from {lowest} to 65535")
    return int(text)


def _port(text: str | None, default: int) -> int:
    return default if text is None else port_number(text, 1)


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            address = IPv6Address(text[1:-1])
        except ValueError:
            raise BadValue(f"{shown(text)} is no IPv6 address")
        if address.scope_id:
            raise BadValue(f"{shown(text)} has a zone, which no URL can carry")
        return str(address)
    if not text:
        raise BadValue("has no host")
    if re.fullmatch(r"[0-9.]+", text):
        try:
            return str(IPv4Address(text))
        except ValueError:
            raise BadValue(f"{shown(text)} is no IPv4 address")
    if not text.isascii():
        raise BadValue(f"{shown(text)}: write the name in its ASCII form, xn--...")
    if len(text) > 253 or not all(map(_LABEL.fullmatch, text.split("."))):
        raise BadValue(f"{shown(text)} is no host name")
    return text.lower()
