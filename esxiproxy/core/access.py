"""The rules for the machines that a principal may open, switch on or disconnect."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from esxiproxy.core.routing import Principal


class Right(Enum):
    """A thing that a principal may do with a machine."""

    OPEN = "open"
    """Open its console."""
    POWER = "power"
    """Switch it on."""
    DISCONNECT = "disconnect"
    """End consoles of other users."""


class InventoryMachine(Protocol):
    """The properties of a machine that rules compare."""

    @property
    def vsphere(self) -> str:
        """The section of its vCenter."""

    @property
    def name(self) -> str:
        """The name in the inventory."""

    @property
    def folder(self) -> str:
        """The folder, as in ``/Prod/Web``; ``/`` is the root."""

    @property
    def host(self) -> str:
        """The name of its host, empty while it is unknown."""

    @property
    def tags(self) -> Collection[str]:
        """The tags."""


class PatternKind(Enum):
    """The property of a machine that a pattern is compared with."""

    FOLDER = "folder"
    NAME = "name"
    TAG = "tag"
    HOST = "host"
    VSPHERE = "vsphere"


@dataclass(frozen=True, slots=True)
class WildcardText:
    """A text in which ``*`` matches any characters, in any letter case.

    ``parts`` are the pieces between the asterisks, case-folded.
    """

    parts: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> WildcardText:
        """Return the pattern of a text."""
        return cls(tuple(text.casefold().split("*")))

    def matches(self, text: str) -> bool:
        """Return whether a text, which is case-folded, fits.  The cost is linear in its length."""
        first, *others = self.parts
        if not others:
            return text == first
        *middle, last = others
        place, end = len(first), len(text) - len(last)
        if place > end or not text.startswith(first) or not text.endswith(last):
            return False
        for part in middle:
            place = text.find(part, place, end)
            if place < 0:
                return False
            place += len(part)
        return True


@dataclass(frozen=True, slots=True)
class MachinePattern:
    """A pattern for one property of a machine.

    ``text`` is the pattern as it is written.  Asterisks of a folder match characters of one folder's
    name.  A folder that ends in ``/*`` matches the folder in front of it and all folders below.  Names of
    vCenters have no asterisks and one letter case.
    """

    kind: PatternKind
    text: str
    segments: tuple[WildcardText, ...]
    is_subtree: bool = False

    @classmethod
    def of(cls, kind: PatternKind, text: str) -> MachinePattern:
        """Return the pattern of a text, as in ``/Prod/*`` for a folder."""
        if kind is not PatternKind.FOLDER:
            return cls(kind, text, (WildcardText.of(text),))
        names = _segments(text)
        is_subtree = bool(names) and names[-1] == "*"
        return cls(kind, text, tuple(map(WildcardText.of, names[:-1] if is_subtree else names)), is_subtree)

    def matches(self, machine: InventoryMachine) -> bool:
        """Return whether a machine fits."""
        if self.kind is PatternKind.FOLDER:
            return self._matches_folder(_segments(machine.folder))
        if self.kind is PatternKind.VSPHERE:
            return machine.vsphere == self.text
        (pattern,) = self.segments
        if self.kind is PatternKind.TAG:
            return any(pattern.matches(tag.casefold()) for tag in machine.tags)
        text = machine.name if self.kind is PatternKind.NAME else machine.host
        return bool(text) and pattern.matches(text.casefold())

    def _matches_folder(self, names: list[str]) -> bool:
        patterns = self.segments
        if len(names) < len(patterns) or (len(names) > len(patterns) and not self.is_subtree):
            return False
        return all(each.matches(name.casefold()) for each, name in zip(patterns, names, strict=False))


def _segments(folder: str) -> list[str]:
    return [name for name in folder.split("/") if name]


@dataclass(frozen=True, slots=True)
class AccessRule:
    """A rule of the configuration: the principals ``who`` have the rights ``may`` to the machines ``what``.

    ``who`` are names, names with their authenticator in front, as in ``staff/alice``, and groups as in
    ``@operators``.  A machine fits one of the patterns at least.
    """

    name: str
    who: frozenset[str]
    what: tuple[MachinePattern, ...]
    may: frozenset[Right]

    def is_for(self, identities: Collection[str]) -> bool:
        """Return whether one of the identities of a principal is named."""
        return not self.who.isdisjoint(identities)

    def has(self, machine: InventoryMachine) -> bool:
        """Return whether the rule is for a machine."""
        return any(pattern.matches(machine) for pattern in self.what)


class AccessRules:
    """Rules, whose rights add up.  A principal without a rule has no right."""

    def __init__(self, rules: Iterable[AccessRule]) -> None:
        self.rules = tuple(rules)

    def of(self, principal: Principal) -> AccessRules:
        """Return the rules that name a principal, for the question about many machines."""
        identities = identities_of(principal)
        return AccessRules(rule for rule in self.rules if rule.is_for(identities))

    def rights(self, principal: Principal, machine: InventoryMachine) -> frozenset[Right]:
        """Return the rights of a principal to a machine."""
        return self.of(principal).rights_to(machine)

    def rights_to(self, machine: InventoryMachine) -> frozenset[Right]:
        """Return the rights that all of these rules together give to a machine."""
        found: frozenset[Right] = frozenset()
        for rule in self.rules:
            if not rule.may <= found and rule.has(machine):
                found |= rule.may
        return found


def identities_of(principal: Principal) -> frozenset[str]:
    """Return the texts by which rules name a principal.  Their letter case counts.

    A name with a slash, or with an at sign in front, looks like the name of another principal or of a group.
    Such a principal is named with its authenticator only.
    """
    plain, qualified = principal.names
    found = {f"@{group}" for group in principal.groups if group}
    if not qualified.startswith("/"):
        found.add(qualified)
    if plain and not plain.startswith("@") and "/" not in plain:
        found.add(plain)
    return frozenset(found)
