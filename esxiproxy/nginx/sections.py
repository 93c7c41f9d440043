"""The sections of a configuration that are written for an nginx one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

_NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 60
_UNWRITABLE = re.compile(r"\s[;#]|^[;#]|^\s|\s$|^$")


@dataclass(frozen=True, slots=True)
class OutputEntry:
    """A key with its value, and a comment behind it."""

    key: str
    value: str
    comment: str = ""

    @property
    def writable(self) -> bool:
        """Whether the value would be read as it stands."""
        return self.value.isprintable() and not _UNWRITABLE.search(self.value)

    def __str__(self) -> str:
        return f"{self.key} = {self.value}" + (f"  ; {_plain(self.comment)}" if self.comment else "")


@dataclass(frozen=True, slots=True)
class OutputSection:
    """A section; ``comments`` stand under its header, ``off`` puts all of it into comments."""

    kind: str
    name: str
    entries: tuple[OutputEntry, ...]
    comments: tuple[str, ...] = ()
    off: bool = False

    @property
    def meaning(self) -> tuple[tuple[str, str], ...]:
        """What the proxy reads of it."""
        return tuple((entry.key, entry.value) for entry in self.entries)

    def value(self, key: str) -> str:
        """The value of a key, empty if it has none."""
        return next((entry.value for entry in self.entries if entry.key == key), "")

    def __str__(self) -> str:
        head = [f"[{self.kind} {self.name}]", *(f"; {_plain(comment)}" for comment in self.comments)]
        lines = [*head, *map(str, self.entries)]
        return "".join(f"{'; ' if self.off and not line.startswith(';') else ''}{line}\n" for line in lines)


class Names:
    """Gives every section a name that no other one has."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def new(self, wish: str) -> str:
        """The wish, as far as a name may be like that."""
        plain = _NO_NAME.sub("-", wish)[:_LONGEST_NAME].strip("._-") or "nameless"
        name, number = plain, 1
        while name in self._taken:
            number += 1
            name = f"{plain}-{number}"
        self._taken.add(name)
        return name


def shared(
    sections: Sequence[OutputSection], names: Names
) -> dict[tuple[tuple[str, str], ...], OutputSection]:
    """Sections that mean the same, once each and by its meaning, under names of their own."""
    found: dict[tuple[tuple[str, str], ...], OutputSection] = {}
    for section in sections:
        if section.meaning not in found:
            found[section.meaning] = replace(section, name=names.new(section.name))
    return found


def rendered(source: str, sections: Iterable[OutputSection]) -> str:
    """The text of a configuration."""
    head = f"; From {_plain(source)}, by esxiproxy import-nginx.\n"
    return "\n".join((head, *map(str, sections)))


def _plain(text: str) -> str:
    """On one line, whatever stood in the file."""
    return "".join(character if character.isprintable() else "?" for character in text)
