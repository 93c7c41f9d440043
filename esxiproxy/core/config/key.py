"""The definition of a configuration key: its sections, type, default and meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from esxiproxy.core.config import quantities, values
from esxiproxy.core.config.file_path import file_path


class SectionKind(Enum):
    """A kind of section.  The value is the first word of the section's header."""

    PROXY = "proxy"
    LISTENER = "listener"
    UPSTREAM = "upstream"
    ROUTER = "router"
    AUTHENTICATOR = "authenticator"
    ADMIN = "admin"
    VSPHERE = "vsphere"
    ACCESS = "access"

    @property
    def header(self) -> str:
        """The header of such a section, with its brackets."""
        return f"[{self.value} NAME]" if self.has_name else f"[{self.value}]"

    @property
    def has_name(self) -> bool:
        """Whether there may be several such sections, each with a name."""
        return self not in (SectionKind.PROXY, SectionKind.ADMIN)


@dataclass(frozen=True, slots=True)
class Type:
    """The type of a key's value.

    ``name`` is its name in the documentation.  ``parse`` takes the text of a value and the folder of the
    configuration file, and returns the value or raises :class:`~esxiproxy.core.config.errors.BadValue`.
    """

    name: str
    parse: Callable[[str, Path], Any]


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the configuration.

    ``default`` is the text of the default value, None if there is none.  ``old_name`` is the name of the key
    in the version before: it still works, with a warning.  A name that ends in ``.*`` stands for a family of
    keys, such as ``match.*`` for ``match.lab`` and ``match.prod``.
    """

    name: str
    sections: tuple[SectionKind, ...]
    type: Type
    default: str | None
    meaning: str
    required: bool = False
    old_name: str = ""

    @property
    def is_family(self) -> bool:
        """Whether the key declares all keys with its prefix."""
        return self.name.endswith(".*")


def plain(name: str, parse: Callable[[str], Any]) -> Type:
    """Return a type whose values do not depend on the folder of the configuration file."""
    return Type(name, lambda text, _folder: parse(text))


def choice(words: type[Enum]) -> Type:
    """Return the type of a key that has one of the values of an enum."""
    *others, last = (f"`{word.value}`" for word in words)
    return plain(f"{', '.join(others)} or {last}", values.choice(words))


def pem_file(name: str, block: str) -> Type:
    """Return the type of a PEM file that has a block of this kind."""
    return Type(name, partial(values.pem, block=block))


def path(name: str) -> Type:
    """Return the type of a path, which is relative to the folder of the configuration file."""
    return Type(name, file_path)


DURATION = plain("duration", quantities.duration)
DURATION_OR_OFF = plain("duration or `off`", quantities.duration_or_off)
SIZE_OR_OFF = plain("size or `off`", quantities.size_or_off)
COUNT = plain("number", quantities.count)
COUNT_OR_OFF = plain("number or `off`", quantities.count_or_off)
COUNT_HALF_OR_OFF = plain("number, `half` or `off`", quantities.count_half_or_off)
RATE_OR_OFF = plain("number or `off`", quantities.rate_or_off)
NAME = plain("name", values.name)
TEMPLATE = plain("name of an upstream", values.name)
"""The type of a key that names the upstream whose settings a router uses.  This upstream needs no ``url``."""
NAMES = plain("names", values.names)
PROVIDERS = plain("names of authenticators", values.names)
"""The type of a key that names authenticators which can check a password."""
CERTIFICATES = pem_file("PEM file", "CERTIFICATE")
PRIVATE_KEY = pem_file("PEM file", "PRIVATE KEY")

PROXY, LISTENER, UPSTREAM = (SectionKind.PROXY,), (SectionKind.LISTENER,), (SectionKind.UPSTREAM,)
ROUTER, AUTHENTICATOR = (SectionKind.ROUTER,), (SectionKind.AUTHENTICATOR,)
ADMIN = (SectionKind.ADMIN,)
VSPHERE = (SectionKind.VSPHERE,)
ACCESS = (SectionKind.ACCESS,)
EVERYWHERE = PROXY + LISTENER + UPSTREAM
