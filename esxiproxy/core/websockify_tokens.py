"""The token files of websockify, as its plugins TokenFile and ReadOnlyTokenFile read them."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from esxiproxy.core.bounded_file import FileTooLarge, read_file
from esxiproxy.core.config.url import port_number, upstream_url
from esxiproxy.core.host_name import plain_host

MAX_SIZE = 16 << 20
"""Maximum size of a file in bytes, or of all files of a folder."""
MAX_FAULTS = 100
"""Maximum number of lines that are reported."""

_SEPARATOR = re.compile(r":\s")
_URL = re.compile(r"(?i)(wss?)://([^/?#\s]*)((?:[/?#][!-~]*)?)")
_RAW = "is raw TCP and not a WebSocket: write HOST:PORT of a wss server, or a ws:// or wss:// URL"


class TokenSourceError(Exception):
    """A token file that cannot be read."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The targets of a file or a folder by token, and the lines that are not TOKEN: TARGET."""

    targets: Mapping[str, str] = field(repr=False)
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenTarget:
    """The target of a token.  ``target`` is the request target of a URL, None for that of the client."""

    secure: bool
    host: str
    port: int
    target: bytes | None = field(default=None, repr=False)


def read_tokens(source: Path) -> Tokens:
    """Return the tokens in a file, or in the files of a folder in the order of their names.

    Files in folders of the folder are not read.  Of lines with the same token the last one counts.  Raise
    TokenSourceError if a file cannot be read.
    """
    targets: dict[str, str] = {}
    faults: list[str] = []
    rest = MAX_SIZE
    for file in _files(source):
        content = _content(file, rest)
        rest -= len(content)
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            raise TokenSourceError(f"{file} is not UTF-8")
        found, lines = parse_tokens(text)
        targets.update(found)
        faults.extend(f"{file}:{line}" for line in lines[: MAX_FAULTS - len(faults)])
    return Tokens(MappingProxyType(targets), tuple(faults))


def parse_tokens(text: str) -> tuple[dict[str, str], list[int]]:
    """Return the targets in a text by token, and the numbers of the lines that are not TOKEN: TARGET.

    A colon and one white space separate them, so that both may contain colons.
    """
    targets, faults = {}, []
    for number, line in enumerate(map(str.strip, io.StringIO(text, newline=None)), start=1):
        if not line or line.startswith("#"):
            continue
        parts = _SEPARATOR.split(line, maxsplit=2)
        if len(parts) == 2:
            targets[parts[0]] = parts[1].strip()
        else:
            faults.append(number)
    return targets, faults


def _files(source: Path) -> list[Path]:
    try:
        if not source.is_dir():
            return [source]
        return sorted(file for file in source.iterdir() if file.is_file())
    except OSError as error:
        raise TokenSourceError(f"{source} cannot be read: {error.strerror}")


def _content(file: Path, most: int) -> bytes:
    try:
        return read_file(file, most)
    except FileTooLarge:
        raise TokenSourceError(f"{file} is too large: all tokens may have {MAX_SIZE >> 20} MiB")
    except OSError as error:
        raise TokenSourceError(f"{file} cannot be read: {error.strerror}")


def token_target(text: str) -> TokenTarget:
    """Return the target in ``HOST:PORT``, which is wss, or in a ws:// or wss:// URL.

    Raise ValueError for any other target, with a text that does not repeat it.
    """
    scheme, is_url, _ = text.partition("://")
    if text.startswith("unix_socket:") or (is_url and scheme.lower() not in ("ws", "wss")):
        raise ValueError(f"the target of the token {_RAW}")
    try:
        return _url(text) if is_url else _host_and_port(text)
    except ValueError:
        raise ValueError("the target of the token is not HOST:PORT and no ws:// or wss:// URL")


def _url(text: str) -> TokenTarget:
    found = _URL.fullmatch(text)
    if found is None or "#" in found[3] or "@" in found[2]:
        raise ValueError("not a URL of a WebSocket server")
    url = upstream_url(f"{found[1]}://{found[2]}")
    target = found[3] if found[3].startswith("/") or not found[3] else f"/{found[3]}"
    return TokenTarget(url.secure, plain_host(url.host), url.port, target.encode() or None)


def _host_and_port(text: str) -> TokenTarget:
    host, _colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]") and ":" in host:
        host = host[1:-1]
    return TokenTarget(True, plain_host(host), port_number(port, 1))
