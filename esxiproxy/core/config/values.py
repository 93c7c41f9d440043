"""Parsers of words, names, fields, thumbprints and files.

Every function returns the value of a text, or raises BadValue with a text that says which values are valid.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TypeVar

from esxiproxy.core.bounded_file import FileTooLarge, read_file
from esxiproxy.core.config.errors import BadValue, shown
from esxiproxy.core.config.file_path import file_path
from esxiproxy.core.config.url import page_origin
from esxiproxy.core.http.forwarded import TrustedProxies
from esxiproxy.core.http.origins import AllowedOrigins, AnyOrigin, Origins
from esxiproxy.core.http.paths import ambiguous
from esxiproxy.core.proxy_protocol import ProxyVersion
from esxiproxy.core.thumbprint import Pin

E = TypeVar("E", bound=Enum)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VISIBLE = re.compile(r"[!-~]+")
_DIGITS = {"sha1": 40, "sha256": 64}
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_LARGEST_FILE = 16 << 20


def choice(words: type[E]) -> Callable[[str], E]:
    """Return a parser for the values of an enum."""

    def parse(text: str) -> E:
        for word in words:
            if word.value == text:
                return word
        *others, last = (str(word.value) for word in words)
        raise BadValue(f"{shown(text)} is not {', '.join(others)} or {last}")

    return parse


def origins(text: str) -> Origins:
    """Return the rule for the Origin field: ``any``, or ``same`` and origins, separated by commas."""
    words = [word.strip() for word in text.split(",")]
    if words == ["any"]:
        return AnyOrigin()
    listed = [word for word in words if word != "same"]
    if "any" in listed:
        raise BadValue("any stands alone: it accepts every origin")
    return AllowedOrigins("same" in words, frozenset(map(page_origin, listed)))


def embedding_origins(text: str) -> tuple[str, ...]:
    """Return origins of pages, separated by commas."""
    return tuple(page_origin(word.strip()).decode("ascii") for word in text.split(","))


def name(text: str) -> str:
    """Return the name of a listener, an upstream or a plugin."""
    if not _NAME.fullmatch(text):
        raise BadValue(f"{shown(text)} is no name: letters, digits, '.', '_' and '-', at most 64 of them")
    return text


def names(text: str) -> tuple[str, ...]:
    """Return names that are separated by commas."""
    return tuple(name(part.strip()) for part in text.split(","))


def paths(text: str) -> tuple[bytes, ...]:
    """Return path prefixes that are separated by commas."""
    return tuple(_path(part.strip()) for part in text.split(","))


def health(text: str) -> bytes:
    """Return one path."""
    return _path(text, "path: write /readyz")


def health_check(text: str) -> str:
    """Return the kind of an active health check: ``off``, ``tcp``, ``tls`` or a path."""
    if text in ("off", "tcp", "tls"):
        return text
    if not text.startswith("/"):
        raise BadValue(f"{shown(text)} is not off, tcp, tls or a path such as /healthz")
    return _path(text, "path: write /healthz").decode()


def _path(text: str, wanted: str = "path prefix: write /ticket/ or /ui/, percent-encoded") -> bytes:
    path = text.encode()
    if not text.startswith("/") or not _VISIBLE.fullmatch(text) or "?" in text or "#" in text:
        raise BadValue(f"{shown(text)} is no {wanted}")
    if ambiguous(path):
        raise BadValue(f"{shown(text)} can be read in two ways: no //, no dot segments, no %2F and the like")
    return path


def trust(text: str) -> TrustedProxies:
    """Return the trusted proxies in a list of networks, addresses and ``unix``, separated by commas."""
    parts = [part.strip() for part in text.split(",")]
    return TrustedProxies(tuple(_network(part) for part in parts if part != "unix"), "unix" in parts)


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        hint = "has host bits set" if "host bits" in str(error) else "is no network"
        raise BadValue(f"{shown(text)} {hint}: write 10.0.0.0/8, 192.0.2.7, 2001:db8::/32 or unix")


def yes_or_no(text: str) -> bool:
    """Return True for ``yes`` and False for ``no``."""
    if text not in ("yes", "no"):
        raise BadValue(f"{shown(text)} is not yes or no")
    return text == "yes"


def proxy_version_or_off(text: str) -> ProxyVersion | None:
    """Return a version of the PROXY protocol, or None for ``off``."""
    if text not in ("off", "v1", "v2"):
        raise BadValue(f"{shown(text)} is not off, v1 or v2")
    return None if text == "off" else ProxyVersion(text)


def host_field(text: str) -> str:
    """Return ``upstream``, ``client`` or the Host to send, a name with an optional port (RFC 9110 7.2)."""
    if text == "none":
        raise BadValue("cannot be none: every request has a Host")
    if "/" in text or "@" in text:
        raise BadValue(f"{shown(text)} is no Host: write upstream, client, or NAME[:PORT]")
    return _field(text, ("upstream", "client"))


def origin_field(text: str) -> str:
    """Return ``upstream``, ``client``, ``none`` or the Origin to send (RFC 6454 7)."""
    return _field(text, ("upstream", "client", "none"))


def _field(text: str, words: tuple[str, ...]) -> str:
    if text.lower() in words and text not in words:
        raise BadValue(f"{shown(text)}: write {text.lower()}")
    if not _VISIBLE.fullmatch(text):
        raise BadValue(f"{shown(text)} cannot be sent: no spaces and nothing but ASCII in a field's value")
    return text


def pins(text: str) -> tuple[Pin, ...]:
    """Return thumbprints ``sha1:HEX`` or ``sha256:HEX``, separated by commas.

    Colons and case do not matter.
    """
    return tuple(_pin(part.strip()) for part in text.split(","))


def _pin(text: str) -> Pin:
    algorithm, colon, digits = text.partition(":")
    algorithm, digest = algorithm.lower(), digits.replace(":", "").lower()
    if not colon or algorithm not in _DIGITS:
        raise BadValue(f"{shown(text)} is no thumbprint: write sha256:HEX or sha1:HEX")
    if wrong := re.search(r"[^0-9a-f]", digest):
        raise BadValue(f"{shown(wrong[0])} is no hex digit, in a {algorithm} thumbprint")
    if len(digest) != _DIGITS[algorithm]:
        wanted = f"{_DIGITS[algorithm]} hex digits"
        raise BadValue(f"a {algorithm} thumbprint has {wanted}, and this one has {len(digest)}")
    return Pin(algorithm, digest)


def pem(text: str, folder: Path, block: str) -> Path:
    """Return the path of a PEM file (RFC 7468) that has a block of this kind.

    ``block`` is ``CERTIFICATE`` or ``PRIVATE KEY``.  The TLS library checks later whether the certificate is
    valid and belongs to the key.
    """
    path = file_path(text, folder)
    try:
        content = read_file(path, _LARGEST_FILE)
    except FileNotFoundError:
        raise BadValue(f"no such file: {text}")
    except IsADirectoryError:
        raise BadValue(f"is a folder: {text}")
    except FileTooLarge:
        raise BadValue(f"has more than {_LARGEST_FILE >> 20} MiB: {text}")
    except OSError as error:
        raise BadValue(f"cannot be read ({error.strerror}): {text}")
    blocks = [found.decode() for found in _BLOCK.findall(content)]
    if not blocks:
        raise BadValue(f"no PEM file, nothing begins with -----BEGIN: {text}")
    if not any(found == block or found.endswith(f" {block}") for found in blocks):
        raise BadValue(f"has no {block}, but {', '.join(sorted(set(blocks)))}: {text}")
    return path
