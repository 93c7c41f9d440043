"""The types of routers and authenticators, as far as the configuration knows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from esxiproxy.core.config.errors import BadValue, shown
from esxiproxy.core.config.ini import IniEntry, IniSection
from esxiproxy.core.config.key import AUTHENTICATOR, NAME, ROUTER, Key, SectionKind
from esxiproxy.core.config.section import SectionValues, find_key
from esxiproxy.core.routing import Upstream

PLUGIN_KINDS = ROUTER + AUTHENTICATOR
"""The kinds of sections whose keys depend on their ``type``."""


@dataclass(frozen=True, slots=True)
class Names:
    """The other sections of a file, which a section may name.

    ``templates`` are upstreams without a URL, which only give their settings to the hosts of routers.
    ``vspheres`` and ``access`` are the names of these sections.
    """

    upstreams: Mapping[str, Upstream] = field(default_factory=lambda: MappingProxyType({}))
    templates: frozenset[str] = frozenset()
    vspheres: frozenset[str] = frozenset()
    access: frozenset[str] = frozenset()


class SectionType(Protocol):
    """A type of router or authenticator: the keys of its sections, and their mistakes."""

    @property
    def name(self) -> str:
        """The value of the key ``type``."""

    @property
    def help(self) -> str:
        """A sentence about the purpose of the type."""

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys of such a section besides ``type``."""

    def conflicts(self, settings: SectionValues, names: Names) -> Iterable[tuple[str, str]]:
        """Yield the problems of a section as a key and a text.

        Called for sections whose keys are all known and valid.
        """


@dataclass(frozen=True, slots=True)
class BrokenType:
    """An installed type that cannot be imported, and the reason."""

    name: str
    reason: str


Types = Mapping[SectionKind, Mapping[str, SectionType | BrokenType]]
"""The installed types by their names, of routers and of authenticators."""


@dataclass(frozen=True, slots=True)
class PluginSection:
    """A router or an authenticator of a configuration.

    ``section`` is the header of its section without brackets, such as ``router fleet``.  It is that of the
    listener for a router ``static`` that has no section.
    """

    section: str
    type: SectionType = field(compare=False)
    settings: SectionValues = field(compare=False, repr=False)


def installed(types: Types, kind: SectionKind) -> str:
    """Return a phrase that lists the installed types."""
    names = sorted(types.get(kind, ()))
    return f"installed types are {', '.join(names)}" if names else "no type is installed"


def find_type(types: Types, kind: SectionKind, name: str) -> SectionType:
    """Return the installed type of this name.  Raises BadValue."""
    found = types.get(kind, {}).get(name)
    if isinstance(found, BrokenType):
        raise BadValue(f"the type {name} cannot be used: {found.reason}")
    if found is None:
        close = get_close_matches(name, types.get(kind, ()), n=1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise BadValue(f"{shown(name)} is no type of {kind.value}: {meant}{installed(types, kind)}")
    return found


def plugin_keys(section_type: SectionType) -> Mapping[str, Key]:
    """Return the keys of a section of this type, by name."""
    own = {key.name: key for key in section_type.keys}
    return MappingProxyType({TYPE.name: TYPE, **own})


def settings_of(
    section_type: SectionType, kind: SectionKind, texts: Mapping[str, str], folder: Path, section: str = ""
) -> SectionValues:
    """Return the settings of a section with these texts as its values.  Raises BadValue.

    ``folder`` is that of relative paths.  ``section`` is the header without brackets.
    """
    keys = plugin_keys(section_type)
    entries = {"type": section_type.name, **texts}
    values = {}
    for key, text in entries.items():
        known = find_key(keys, key)
        if known is None:
            raise BadValue(f"{key} is no key of the type {section_type.name}")
        values[key] = known.type.parse(text, folder)
    for required in keys.values():
        if required.required and required.name not in values:
            raise BadValue(
                f"the type {section_type.name} needs {required.name}: write a section [{kind.value} NAME] "
                f"with type = {section_type.name}"
            )
    header = section or f"{kind.value} {section_type.name}"
    lines = {key: IniEntry(1, text) for key, text in entries.items()}
    return SectionValues(IniSection(header, 1, lines), kind, values, frozenset(entries), keys)


def without_section(
    section_type: SectionType, kind: SectionKind, listener: SectionValues, folder: Path
) -> SectionValues:
    """Return the settings of a type that a listener names and that has no section.

    A router whose type has the key ``upstream`` gets that of the listener, and belongs to this listener.
    Raises BadValue if the type needs other keys.
    """
    upstream = listener.section.entries.get("upstream")
    if kind is SectionKind.ROUTER and "upstream" in plugin_keys(section_type) and upstream is not None:
        own = {"upstream": upstream.text}
        return settings_of(section_type, kind, own, folder, section=listener.section.header)
    return settings_of(section_type, kind, {}, folder)


TYPE = Key(
    "type", PLUGIN_KINDS, NAME, None, "The type of the section, see `esxiproxy plugins`.", required=True
)
