"""The sections of the INI file that is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

_NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 60
_UNWRITABLE = re.compile(r"\s[;#]|^[;#]|^\s|\s$|^$")


@dataclass(frozen=True, slots=True)
class OutputEntry:
    """A key with its value and an optional comment on the same line."""

    key: str
    value: str
    comment: str = ""

    @property
    def writable(self) -> bool:
        """Whether the INI parser would read the value unchanged."""
        return self.value.isprintable() and not _UNWRITABLE.search(self.value)

    def __str__(self) -> str:
        return f"{self.key} = {self.value}" + (f"  ; {_plain(self.comment)}" if self.comment else "")


@dataclass(frozen=True, slots=True)
class OutputSection:
    """A section; ``comments`` follow its header, ``notes`` its keys, and ``off`` comments all lines out."""

    kind: str
    name: str
    entries: tuple[OutputEntry, ...]
    comments: tuple[str, ...] = ()
    off: bool = False
    notes: tuple[str, ...] = ()

    @property
    def meaning(self) -> tuple[tuple[str, str], ...]:
        """The keys and values, without comments and name."""
        return tuple((entry.key, entry.value) for entry in self.entries)

    def value(self, key: str) -> str:
        """Return the value of a key, empty if the section does not have it."""
        return next((entry.value for entry in self.entries if entry.key == key), "")

    def __str__(self) -> str:
        head = [f"[{self.kind} {self.name}]", *(f"; {_plain(comment)}" for comment in self.comments)]
        lines = [*head, *map(str, self.entries), *(f"; {_plain(note)}" for note in self.notes)]
        return "".join(f"{'; ' if self.off and not line.startswith(';') else ''}{line}\n" for line in lines)


class SectionNames:
    """A set of used section names."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def new(self, wish: str) -> str:
        """Return an unused valid name that is like ``wish``, and mark it as used."""
        plain = _NO_NAME.sub("-", wish)[:_LONGEST_NAME].strip("._-") or "nameless"
        name, number = plain, 1
        while name in self._taken:
            number += 1
            name = f"{plain}-{number}"
        self._taken.add(name)
        return name


def deduplicate(
    sections: Sequence[OutputSection], names: SectionNames
) -> dict[tuple[tuple[str, str], ...], OutputSection]:
    """Return one section for each meaning, by the meaning, with unique names."""
    found: dict[tuple[tuple[str, str], ...], OutputSection] = {}
    for section in sections:
        if section.meaning not in found:
            found[section.meaning] = replace(section, name=names.new(section.name))
    return found


def render(source: str, sections: Iterable[OutputSection]) -> str:
    """Return the text of an INI file with these sections."""
    head = f"; From {_plain(source)}, by esxiproxy import-nginx.\n"
    return "\n".join((head, *map(str, sections)))


def _plain(text: str) -> str:
    """Replace characters that are not printable, so that the text stays on one line."""
    return "".join(character if character.isprintable() else "?" for character in text)
