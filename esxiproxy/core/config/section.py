"""The values of one section of a configuration file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esxiproxy.core.config.ini import IniSection
from esxiproxy.core.config.key import TEMPLATE, Key, SectionKind


@dataclass(frozen=True, slots=True)
class SectionValues:
    """A section of a known kind, with the values that could be parsed.

    ``present`` has every key that the file has or probably means, with invalid values and misspelt names
    included, so that none of them is reported as missing.  ``keys`` has the keys that the section may have,
    by name.
    """

    section: IniSection
    kind: SectionKind
    values: Mapping[str, Any]
    present: frozenset[str]
    keys: Mapping[str, Key]

    @property
    def name(self) -> str:
        return self.section.name

    def has(self, key: str) -> bool:
        """Return whether the section has a key of this name, with any value."""
        return key in self.section.entries

    def is_invalid(self, key: str) -> bool:
        """Return whether the section has this key with a value that cannot be parsed."""
        return key in self.present and key not in self.values

    @property
    def is_complete(self) -> bool:
        """Whether all keys are known and valid, and no required key is missing."""
        required = all(key.name in self.values for key in self.keys.values() if key.required)
        return required and self.present <= self.values.keys()

    @property
    def templates(self) -> Iterator[str]:
        """The upstreams that the section names as templates."""
        for key, value in self.values.items():
            known = find_key(self.keys, key)
            if known is not None and known.type is TEMPLATE:
                yield value

    def family(self, prefix: str) -> Mapping[str, Any]:
        """Return the values of the family ``PREFIX.*`` by the rest of their names, in file order."""
        start = f"{prefix}."
        return {
            key.removeprefix(start): self.values[key]
            for key in self.section.entries
            if key.startswith(start) and key in self.values
        }

    def __getitem__(self, key: str) -> Any:
        """Return the key's value, its default, or None if it has no default."""
        if key in self.values:
            return self.values[key]
        known = self.keys[key]
        return None if known.default is None else known.type.parse(known.default, Path())


def find_key(keys: Mapping[str, Key], name: str) -> Key | None:
    """Return the key of this name, or the family that it belongs to; None if there is none."""
    prefix, dot, rest = name.partition(".")
    return keys.get(name) or (keys.get(f"{prefix}.*") if dot and rest else None)
