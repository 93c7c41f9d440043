"""The section [access NAME]: its keys, its problems and its value."""

from __future__ import annotations

from collections.abc import Iterator

from esxiproxy.core.access import AccessRule, MachinePattern, PatternKind, Right
from esxiproxy.core.config import values
from esxiproxy.core.config.admin import who
from esxiproxy.core.config.consistency import Conflict
from esxiproxy.core.config.errors import BadValue, shown
from esxiproxy.core.config.key import ACCESS, Key, plain
from esxiproxy.core.config.plugin_type import Names
from esxiproxy.core.config.section import SectionValues

_MAX_PATTERN = 256
_MAX_ASTERISKS = 8
_VIEW = (
    "view cannot be enforced: the proxy passes on all that a client sends, and a switch in a page is no "
    "protection; write open, or remove the rule"
)


def what(text: str) -> tuple[MachinePattern, ...]:
    """Return patterns of machines that are separated by commas, as in ``folder:/Prod/*``.  Raise BadValue."""
    return tuple(_pattern(part.strip()) for part in text.split(","))


def _pattern(text: str) -> MachinePattern:
    word, colon, value = (part.strip() for part in text.partition(":"))
    kind = next((kind for kind in PatternKind if colon and kind.value == word), None)
    if kind is None:
        raise BadValue(
            f"{shown(text)} is no pattern of machines: write folder:/Prod/*, name:web-*, tag:console, "
            "host:esx1* or vsphere:NAME"
        )
    if not value or len(value) > _MAX_PATTERN or not value.isprintable():
        raise BadValue(f"{shown(text)} has to have 1 to {_MAX_PATTERN} printable characters behind the colon")
    if value.count("*") > _MAX_ASTERISKS:
        raise BadValue(f"{shown(text)} has more than {_MAX_ASTERISKS} asterisks")
    if kind is PatternKind.VSPHERE:
        values.name(value)
    elif kind is PatternKind.FOLDER:
        _check_folder(value)
    return MachinePattern.of(kind, value)


def _check_folder(text: str) -> None:
    if text != "/" and (not text.startswith("/") or "//" in text or text.endswith("/")):
        raise BadValue(
            f"{shown(text)} is no folder: write /Prod for that folder alone, or /Prod/* with all below it"
        )


def may(text: str) -> frozenset[Right]:
    """Return rights that are separated by commas.  Raise BadValue."""
    return frozenset(_right(part.strip()) for part in text.split(","))


def _right(text: str) -> Right:
    for right in Right:
        if right.value == text:
            return right
    if text == "view":
        raise BadValue(_VIEW)
    raise BadValue(f"{shown(text)} is not {', '.join(right.value for right in Right)}")


ACCESS_KEYS = (
    Key(
        "who",
        ACCESS,
        plain("names", who),
        None,
        "Users that the rule is for, separated by commas. `alice` is the user of any authenticator, "
        "`staff/alice` that of `[authenticator staff]`, and `@NAME` is a group. Letter case counts.",
        required=True,
    ),
    Key(
        "what",
        ACCESS,
        plain("patterns", what),
        None,
        "Machines that the rule is for: those that fit one of the patterns `folder:/Prod/*`, `name:web-*`, "
        "`tag:console`, `host:esx1*` and `vsphere:NAME`, which are separated by commas. `*` stands for any "
        "characters. Letter case does not count, except in `vsphere:`.",
        required=True,
    ),
    Key(
        "may",
        ACCESS,
        plain("`open`, `power`, `disconnect`", may),
        None,
        "Rights of these users to these machines, separated by commas: open the console, switch the machine "
        "on, disconnect consoles of others.",
        required=True,
    ),
)


def access_conflicts(section: SectionValues, names: Names) -> Iterator[Conflict]:
    """Yield a problem for a vCenter that a pattern names and that is not configured."""
    for pattern in section.values.get("what", ()):
        if pattern.kind is PatternKind.VSPHERE and pattern.text not in names.vspheres:
            yield "what", no_section("vsphere", pattern.text, names.vspheres)


def named_conflicts(
    section: SectionValues, names: Names, keys: tuple[str, ...] = ("vsphere", "access")
) -> Iterator[Conflict]:
    """Yield a problem for each name in the keys ``vsphere`` and ``access`` that has no such section."""
    known = {"vsphere": names.vspheres, "access": names.access}
    for key in keys:
        for wanted in section[key] or ():
            if wanted not in known[key]:
                yield key, no_section(key, wanted, known[key])


def no_section(kind: str, wanted: str, known: frozenset[str]) -> str:
    """Return the text of the problem that there is no section of this name."""
    there = sorted(known)
    listed = f"there is {', '.join(there[:8])}" if there else "there is none"
    return f"no [{kind} {wanted}]: {listed}{', ...' if len(there) > 8 else ''}"


def access_of(given: SectionValues) -> AccessRule:
    """Return the rule of a section."""
    return AccessRule(given.name, frozenset(given["who"]), given["what"], given["may"])
