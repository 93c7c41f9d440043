"""The values of one section of a configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esxiproxy.core.config.ini import IniSection
from esxiproxy.core.config.key import SectionKind
from esxiproxy.core.config.schema import keys_of


@dataclass(frozen=True, slots=True)
class SectionValues:
    """A section of a known kind, with the values that could be parsed.

    ``present`` has every key that the file has or probably means, with invalid values and misspelt names
    included, so that none of them is reported as missing.
    """

    section: IniSection
    kind: SectionKind
    values: Mapping[str, Any]
    present: frozenset[str]

    @property
    def name(self) -> str:
        return self.section.name

    def has(self, key: str) -> bool:
        """Return whether the section has a key of this name, with any value."""
        return key in self.section.entries

    def is_invalid(self, key: str) -> bool:
        """Return whether the section has this key with a value that cannot be parsed."""
        return key in self.present and key not in self.values

    def __getitem__(self, key: str) -> Any:
        """Return the key's value, its default, or None if it has no default."""
        if key in self.values:
            return self.values[key]
        known = keys_of(self.kind)[key]
        return None if known.default is None else known.type.parse(known.default, Path())
