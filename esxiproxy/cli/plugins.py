"""``esxiproxy plugins``: lists the installed types of routers and authenticators with their keys."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator

from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.key import Key, SectionKind
from esxiproxy.core.config.plugin_type import PLUGIN_KINDS, BrokenType, SectionType, Types, find_type
from esxiproxy.plugins import installed_types

NAME = "plugins"
HELP = "list the types of routers and authenticators"

_DESCRIPTION = """\
Lists the installed types of routers and authenticators, as they stand after `type =`
in a [router NAME] or an [authenticator NAME], with their keys. A type that cannot be
imported is listed with the reason.
"""
_EPILOG = "exit status: 0 listed, 1 there is no such type or it cannot be used, 2 wrong usage"
_WIDTH = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("type", nargs="?", metavar="NAME", help="show this type only")


def run(arguments: argparse.Namespace) -> int:
    """Print all types, or those with a name; return 1 if none of that name can be used, else 0."""
    types = installed_types()
    wanted: str | None = arguments.type
    shown = [
        (kind, name, found)
        for kind in PLUGIN_KINDS
        for name, found in sorted(types.get(kind, {}).items())
        if wanted in (None, name)
    ]
    if not shown and wanted is not None:
        for reason in _unknown(types, wanted):
            print(f"esxiproxy plugins: {reason}", file=sys.stderr)
        return 1
    texts = [_described(kind, name, found) for kind, name, found in shown]
    print("\n\n".join(text for text, _usable in texts))
    return 0 if wanted is None or any(usable for _text, usable in texts) else 1


def _unknown(types: Types, name: str) -> Iterator[str]:
    """Yield for each kind of section that no type has this name."""
    for kind in PLUGIN_KINDS:
        try:
            find_type(types, kind, name)
        except BadValue as error:
            yield str(error)


def _described(kind: SectionKind, name: str, found: SectionType | BrokenType) -> tuple[str, bool]:
    """Return the text on a type, and whether it can be used."""
    header = f"{kind.value} {name}"
    if isinstance(found, BrokenType):
        return f"{header}\n{_wrapped(f'cannot be used: {found.reason}', 4)}", False
    try:
        parts = [header, _wrapped(found.help, 4), *map(_described_key, found.keys)]
    except Exception as error:  # the type of another package may be anything
        reason = f"cannot be used: its help or its keys are wrong: {error or type(error).__name__}"
        return f"{header}\n{_wrapped(reason, 4)}", False
    return "\n".join(parts), True


def _described_key(key: Key) -> str:
    default = ", required" if key.required else f", default {key.default}" if key.default else ""
    return f"\n    {key.name}: {key.type.name}{default}\n{_wrapped(key.meaning, 8)}"


def _wrapped(text: str, indent: int) -> str:
    space = " " * indent
    lines = textwrap.wrap(text, _WIDTH, initial_indent=space, subsequent_indent=space, break_on_hyphens=False)
    return "\n".join(lines)
