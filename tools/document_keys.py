"""The tables in `docs/configuration.md`, made of the keys: `python -m tools.document_keys` writes them."""

from __future__ import annotations

from configparser import ConfigParser
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from esxiproxy.core.config.key import SectionKind
from esxiproxy.core.config.plugin_type import SectionType, Types
from esxiproxy.core.config.reference import inserted

ROOT = Path(__file__).parents[1]
PATH = ROOT / "docs" / "configuration.md"
GROUPS = {SectionKind.ROUTER: "esxiproxy.routers", SectionKind.AUTHENTICATOR: "esxiproxy.authenticators"}


def built_in_types() -> Types:
    """Return the types that this package declares in its setup.cfg.

    Types of other packages are installed here by chance, and metadata of this one may be older than its code.
    """
    setup = ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    declared = {kind: setup["options.entry_points"][group] for kind, group in GROUPS.items()}
    return MappingProxyType({kind: MappingProxyType(_types(lines)) for kind, lines in declared.items()})


def _types(lines: str) -> dict[str, SectionType]:
    """Return the types of lines ``NAME = MODULE:ATTRIBUTE``."""
    found = {}
    for line in lines.split("\n"):
        name, equals, place = (part.strip() for part in line.partition("="))
        if equals:
            module, _, attribute = place.partition(":")
            found[name] = getattr(import_module(module), attribute)
    return found


def document() -> str:
    """Return the page with its tables made again."""
    return inserted(PATH.read_text(encoding="utf-8"), built_in_types())


if __name__ == "__main__":
    PATH.write_text(document(), encoding="utf-8")
