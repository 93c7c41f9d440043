"""An inventory: the hosts of a file by name, each with the route that leads to it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from esxiproxy.core.bounded_file import FileTooLarge, read_file
from esxiproxy.core.config import values
from esxiproxy.core.config.builders import connection_limits_of, limits_of
from esxiproxy.core.config.errors import BadValue, shown
from esxiproxy.core.config.ini import IniSection
from esxiproxy.core.config.key import SectionKind
from esxiproxy.core.config.section import SectionValues
from esxiproxy.core.config.url import UpstreamURL, upstream_url
from esxiproxy.core.host_name import plain_host
from esxiproxy.core.inventory_rows import UPSTREAM_KEYS, Row, RowMistake, RowMistakes, rows
from esxiproxy.core.networks import Networks
from esxiproxy.core.routing import Destination, Route, TCPAddress, TLSProfile, Upstream, Verify

MAX_SIZE = 16 << 20
"""Maximum size of a file in bytes."""

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_LABEL_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")
_LONGEST_NAME = 253
_FIELD_OF = {"host": "host_field", "origin": "origin_field"}
"""The fields of Upstream whose names are not those of their keys."""
_FIELDS = frozenset(field.name for field in fields(Upstream))
_SHOWN_MISTAKES = 3


@dataclass(frozen=True, slots=True)
class InventoryHost:
    """A host of an inventory: its name in lower case, the route to it, its labels and its line."""

    name: str
    route: Route
    labels: Mapping[str, str]
    line: int

    @property
    def place(self) -> tuple[Any, ...]:
        """The address and the pins, whose change means another host."""
        destination = self.route.destination
        return destination.addresses, destination.secure, destination.identity.pins


Hosts = Mapping[str, InventoryHost]


class InventoryError(Exception):
    """A file that is no inventory.  ``mistakes`` has all of its mistakes in the order of their lines."""

    def __init__(self, file: Path, mistakes: Sequence[RowMistake]) -> None:
        self.file = file
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.line))
        super().__init__(file, self.mistakes)

    @property
    def lines(self) -> tuple[str, ...]:
        """The mistakes as lines of text with file and line."""
        return tuple(f"{self.file}:{mistake.line}: {mistake.text}" for mistake in self.mistakes)

    def __str__(self) -> str:
        rest = len(self.mistakes) - _SHOWN_MISTAKES
        return "; ".join(self.lines[:_SHOWN_MISTAKES]) + (f"; and {rest} more" if rest > 0 else "")


def canonical_name(text: str) -> str:
    """Return the form in which names of hosts are compared: lower case, without a final dot."""
    return text.lower().removesuffix(".")


def read_inventory(file: Path, template: Upstream, networks: Networks) -> Hosts:
    """Return the hosts of a file by name.  Raise InventoryError with all mistakes of the file."""
    try:
        content = read_file(file, MAX_SIZE)
    except FileNotFoundError:
        raise InventoryError(file, [RowMistake(1, "no such file")])
    except IsADirectoryError:
        raise InventoryError(file, [RowMistake(1, "is a folder: name a CSV or JSON file")])
    except FileTooLarge:
        raise InventoryError(file, [RowMistake(1, f"is larger than {MAX_SIZE >> 20} MiB")])
    except OSError as error:
        raise InventoryError(file, [RowMistake(1, f"cannot be read: {error.strerror}")])
    return parse_inventory(content, template, networks, file)


def parse_inventory(content: bytes, template: Upstream, networks: Networks, file: Path) -> Hosts:
    """Return the hosts in the content of a file by name.  Raise InventoryError."""
    mistakes = RowMistakes()
    builder = _Builder(template, networks, file.parent, mistakes)
    hosts: dict[str, InventoryHost] = {}
    for row in rows(content, mistakes):
        host = builder.host(row)
        if host is None:
            continue
        if (earlier := hosts.setdefault(host.name, host)) is not host:
            mistakes.add(row.line, f"the host {host.name} is in line {earlier.line} already")
    if mistakes.found:
        raise InventoryError(file, mistakes.found)
    return MappingProxyType(hosts)


def replaced(old: Hosts, new: Hosts) -> tuple[str, ...]:
    """Return the names that another version has no more, or that it has with another address or pin."""
    return tuple(
        name for name, host in old.items() if (found := new.get(name)) is None or found.place != host.place
    )


class _Builder:
    """A builder of hosts, which adds the mistakes of their rows to ``mistakes``."""

    def __init__(self, template: Upstream, networks: Networks, folder: Path, mistakes: RowMistakes) -> None:
        self._template = template
        self._networks = networks
        self._folder = folder
        self._mistakes = mistakes
        self._templates: dict[tuple[tuple[str, str], ...], tuple[Upstream, tuple[str, ...]]] = {}

    def host(self, row: Row) -> InventoryHost | None:
        """Return the host of a row, or None if the row has a mistake."""
        faults: list[str] = []
        cells = row.cells
        name = _read(_name, cells.get("name", ""), faults)
        url = _read(_address, cells.get("address", ""), faults)
        pins = _read(_pins, cells.get("pins", ""), faults)
        labels = _read(_labels, cells.get("labels", ""), faults)
        template, own_faults = self._template_of(row)
        faults.extend(own_faults)
        if url is not None and pins is not None:
            faults.extend(self._tls_faults(url, bool(pins), template))
        if faults or name is None or url is None or pins is None or labels is None:
            for fault in faults:
                self._mistakes.add(row.line, fault)
            return None
        identity = self._template.identity
        if pins:
            identity = replace(identity, pins=pins, certificate=None)
        address = TCPAddress(url.host, url.port)
        destination = Destination(
            (address,), url.secure, identity, name, template, self._networks, is_listed=True
        )
        return InventoryHost(name, Route(destination), labels, row.line)

    def _tls_faults(self, url: UpstreamURL, has_pins: bool, template: Upstream) -> list[str]:
        if url.secure:
            missing = self._template.verify is Verify.PIN and not has_pins
            return ["has no pins, and the template has verify = pin"] if missing else []
        faults = []
        if has_pins:
            faults.append("pins only with wss://: a ws:// host has no certificate")
        elif self._template.verify is Verify.PIN:
            faults.append("is a ws:// host, which has no certificate, and the template has verify = pin")
        if template.tls_profile is TLSProfile.OLD and self._template.tls_profile is not TLSProfile.OLD:
            faults.append("tls_profile only with wss://: a ws:// host speaks no TLS")
        return faults

    def _template_of(self, row: Row) -> tuple[Upstream, tuple[str, ...]]:
        """Return the settings of a row, and the mistakes in its cells.

        Rows with the same cells share one object.
        """
        own = tuple(sorted((name, text) for name, text in row.cells.items() if name in UPSTREAM_KEYS))
        if not own:
            return self._template, ()
        if own not in self._templates:
            self._templates[own] = self._overridden(own)
        return self._templates[own]

    def _overridden(self, own: tuple[tuple[str, str], ...]) -> tuple[Upstream, tuple[str, ...]]:
        found, faults = {}, []
        for name, text in own:
            try:
                if not text.isprintable():
                    raise BadValue("has a line break or a control character")
                found[name] = UPSTREAM_KEYS[name].type.parse(text, self._folder)
            except BadValue as error:
                faults.append(f"{name}: {error}")
        template = self._template
        section = IniSection(f"upstream {template.name}", 1, {})
        given = SectionValues(section, SectionKind.UPSTREAM, found, frozenset(found), UPSTREAM_KEYS)
        set_fields = {_FIELD_OF.get(name, name): value for name, value in found.items()}
        upstream = replace(
            template,
            **{name: value for name, value in set_fields.items() if name in _FIELDS},
            overrides=MappingProxyType({**template.overrides, **limits_of(given)}),
            connection_limits=MappingProxyType({**template.connection_limits, **connection_limits_of(given)}),
        )
        return upstream, tuple(faults)


def _read(parse: Any, text: str, faults: list[str]) -> Any:
    """Return the value of a cell, or None after its mistake was added to ``faults``."""
    try:
        return parse(text)
    except ValueError as error:  # BadValue is one
        faults.append(str(error))
        return None


def _name(text: str) -> str:
    if not text:
        raise BadValue("has no name")
    name = canonical_name(text)
    if not text.isascii() or len(name) > _LONGEST_NAME or not all(map(_LABEL.fullmatch, name.split("."))):
        raise BadValue(f"{shown(text)} is no name of a host: letters, digits, '-', '_' and single dots")
    return name


def _address(text: str) -> UpstreamURL:
    """Return the address in ``HOST[:PORT]``, which is wss and port 443, or in a ws:// or wss:// URL."""
    if not text:
        raise BadValue("has no address")
    if "@" in text:
        raise BadValue("the address has a user or a password: a host takes none")
    if not text.isprintable():
        raise BadValue("the address has a line break or a control character")
    url = upstream_url(text if "://" in text else f"wss://{text}")
    try:
        return replace(url, host=plain_host(url.host))
    except ValueError as error:
        raise BadValue(f"address {shown(text)}: {error}")


def _pins(text: str) -> Any:
    return values.pins(",".join(text.split())) if text else ()


def _labels(text: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for pair in text.split():
        key, equals, value = pair.partition("=")
        if not equals or not _LABEL_KEY.fullmatch(key) or not value:
            raise BadValue(f"labels: {shown(pair)} is no label: write key=value, separated by spaces")
        if key in found:
            raise BadValue(f"labels: {shown(key)} is there twice")
        found[key] = value
    return MappingProxyType(found)
