"""The address of a listener: the values of ``listen``, and the check for two equal addresses."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from esxiproxy.core.config.errors import BadValue, shown
from esxiproxy.core.config.file_path import file_path
from esxiproxy.core.config.url import port_number

IP = IPv4Address | IPv6Address

_SHORT = re.compile(r"(?:\[([^\[\]]*)\]|([0-9.]*)):([0-9]+)")
_ENDPOINT = re.compile(r"([a-z][a-z0-9]*):(.+)")
_PORT = re.compile(r":?([0-9]+)")
_PART = re.compile(r"(?:[^:\\]|\\.)*")
_ARGUMENTS = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "unix": ("address", "mode", "backlog", "lockfile"),
    "systemd": ("domain", "index", "name"),
}
"""The arguments of Twisted's own server endpoints, in their order; the first is required."""
BACKLOG = 512
"""Length of the accept queue.  Twisted's 50 overflow in a burst, and clients retry after 1 s."""
LONGEST_PATH = 107
"""Maximum length in bytes of a unix socket's path on Linux."""
_WRITE = "write 0.0.0.0:82, :82, [::]:82, unix:/PATH or a Twisted endpoint"


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """The address of a listener.

    TCP endpoints have ``ip`` and ``port``, unix endpoints have ``path``, others have ``endpoint`` alone, the
    Twisted description.  ``text`` is the value in the file.
    """

    text: str
    endpoint: str
    ip: IP | None = None
    port: int = 0
    path: Path | None = None

    def overlaps(self, other: ListenAddress) -> bool:
        """Return whether the two addresses cannot both be bound."""
        if self.ip is not None and other.ip is not None:
            return self.port == other.port != 0 and (self.accepts(other.ip) or other.accepts(self.ip))
        if self.path is not None or other.path is not None:
            return self.path == other.path
        return self.ip is None and other.ip is None and self.endpoint == other.endpoint

    def accepts(self, ip: IP) -> bool:
        """Return whether a listener on this address accepts connections to this IP address.

        ``[::]`` accepts IPv4 as well: Twisted leaves IPV6_V6ONLY off, as Linux does by default.
        """
        if self.ip is None:
            return False
        if self.ip.is_unspecified:
            return self.ip.version == 6 or ip.version == 4
        return self.ip == ip


def listen_address(text: str, folder: Path) -> ListenAddress:
    """Return the address for a value of ``listen``.  Raise BadValue.

    The path of a unix socket is relative to the folder.
    """
    if found := _SHORT.fullmatch(text):
        six, four, digits = found.groups()
        port = port_number(digits, 0)
        try:
            ip = IPv4Address(four or "0.0.0.0") if six is None else IPv6Address(six)
        except ValueError:
            raise BadValue(f"{shown(four or f'[{six}]')} is no IP address: {_WRITE}")
        kind = "tcp" if ip.version == 4 else "tcp6"
        endpoint = f"{kind}:port={port}:interface={_escaped(str(ip))}:backlog={BACKLOG}"
        return ListenAddress(text, endpoint, ip, port)
    found = _ENDPOINT.fullmatch(text)
    if found is not None and found[1] == "ssl":
        raise BadValue("TLS comes from certificate and private_key: write tcp: for ssl:")
    if found is None or (found[1] not in _ARGUMENTS and re.fullmatch("[0-9]+", found[2])):
        raise BadValue(f"{shown(text)} is no address: {_WRITE}")
    if found[1] not in _ARGUMENTS:
        return ListenAddress(text, text)
    return _endpoint(text, folder, found[1], _arguments(found[1], found[2]))


def _endpoint(text: str, folder: Path, kind: str, arguments: dict[str, str]) -> ListenAddress:
    if kind == "systemd":
        if ("index" in arguments) == ("name" in arguments):
            raise BadValue("systemd: takes either an index or a name")
        return ListenAddress(text, text)
    if not re.fullmatch("[0-9]+", arguments.get("backlog", "50")):
        raise BadValue(f"{shown(arguments['backlog'])} is no backlog: a number")
    if kind == "unix":
        return _unix(text, folder, arguments)
    port = port_number(arguments["port"], 0)
    interface = arguments.get("interface") or ("0.0.0.0" if kind == "tcp" else "::")
    try:
        return ListenAddress(text, text, ip_address(interface), port)
    except ValueError:
        raise BadValue(f"{shown(interface)} is no IP address, in interface=")


def manhole_address(text: str, folder: Path) -> ListenAddress:
    """Return the address for a value of ``manhole``, where a port alone is on 127.0.0.1.  Raise BadValue."""
    bare = _PORT.fullmatch(text)
    return listen_address(f"127.0.0.1:{bare[1]}" if bare else text, folder)


def _unix(text: str, folder: Path, arguments: dict[str, str]) -> ListenAddress:
    if not re.fullmatch("[0-7]{3,4}", arguments.get("mode", "666")):
        raise BadValue(f"{shown(arguments['mode'])} is no mode: octal digits, as in mode=660")
    path = Path(os.path.normpath(file_path(arguments.pop("address"), folder)))
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise BadValue(f"the path of a unix socket has at most {LONGEST_PATH} bytes: {path}")
    arguments.setdefault("backlog", str(BACKLOG))
    rest = "".join(f":{name}={_escaped(value)}" for name, value in arguments.items())
    return ListenAddress(text, f"unix:{_escaped(str(path))}{rest}", path=path)


def _arguments(kind: str, text: str) -> dict[str, str]:
    """Return the arguments of an endpoint description by name, as ``serverFromString`` parses them."""
    names = _ARGUMENTS[kind]
    arguments: dict[str, str] = {}
    for index, part in enumerate(_parts(text)):
        name, equals, value = part.partition("=")
        if name.endswith("\\") or not equals:  # by its position; "\=" is no "="
            if index >= len(names) or not part:
                hint = r": the colons of an IPv6 address are written \:" if not part else ""
                raise BadValue(f"one ':' too many for {kind}:{hint}")
            name, value = names[index], part
        if name not in names:
            raise BadValue(f"{shown(name)} is unknown to {kind}: which takes {', '.join(names)}")
        arguments[name] = re.sub(r"\\(.)", r"\1", value)
    if not arguments.get(names[0]):
        raise BadValue(f"{kind}: takes {'an' if names[0] == 'address' else 'a'} {names[0]}")
    return arguments


def _parts(text: str) -> list[str]:
    """Return the parts between colons that have no backslash in front of them."""
    parts, at = [], 0
    while True:
        found = _PART.match(text, at)
        assert found is not None, "it matches nothing, too"
        parts.append(found[0])
        at = found.end() + 1
        if at > len(text):
            return parts
        if text[at - 1] != ":":
            raise BadValue("ends with a backslash")


def _escaped(text: str) -> str:
    return re.sub(r"([\\:=])", r"\\\1", text)
