"""The reference of the configuration: ``docs/configuration.md``, made of the table of keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from esxiproxy.core.config.key import Key, SectionKind
from esxiproxy.core.config.plugin_type import PLUGIN_KINDS, BrokenType, SectionType, Types
from esxiproxy.core.config.schema import KEYS

_HEADER = ("key", "type", "default", "section", "meaning")
_TYPE_HEADER = ("key", "type", "default", "meaning")
_TIMEOUTS = ("response_timeout", "idle_timeout", "max_lifetime", "keepalive")
_TIMEOUT_ENDINGS = ("_timeout", "_interval", "_keepalive")
_LIMIT_BEGINNINGS = ("max_", "min_", "session_rate", "session_burst", "queue")


def topic_of(key: Key) -> str:
    """Return the heading under which a key stands."""
    if key.name in ("workers", "machine", "worker_shutdown_timeout") or key.name.startswith("state"):
        return "Multiple workers"
    if key.name.startswith(("access_log", "session_log")):
        return "Logging"
    if key.name.startswith(_LIMIT_BEGINNINGS) and key.name != "max_lifetime":
        return "Limits"
    if key.name in _TIMEOUTS or key.name.endswith(_TIMEOUT_ENDINGS):
        return "Timeouts and keepalive"
    if key.sections == (SectionKind.ADMIN,):
        return "Admin"
    if key.sections == (SectionKind.ACCESS,):
        return "Access to machines"
    if key.sections[0] is SectionKind.LISTENER:
        return "Listeners"
    if key.sections == (SectionKind.VSPHERE,):
        return "vSphere"
    if key.sections[0] is SectionKind.UPSTREAM:
        return "Upstreams"
    return "Plugins and operator shell"


TOPICS = (
    "Listeners",
    "Upstreams",
    "Timeouts and keepalive",
    "Limits",
    "Logging",
    "Multiple workers",
    "Admin",
    "vSphere",
    "Access to machines",
    "Plugins and operator shell",
)
"""The headings of the reference, in their order."""


def reference(types: Types) -> str:
    """Return a Markdown table of the keys for each topic, and for each of these types.

    Raises ValueError for a type that cannot be imported, since the reference would lack its keys.
    """
    topics = (_table(topic) for topic in TOPICS)
    return "\n".join((*topics, *_sections(types)))


def _table(topic: str) -> str:
    keys = [key for key in KEYS if topic_of(key) == topic]
    return f"### {topic}\n\n{_rows((_HEADER, *map(_row, keys)))}"


def _sections(types: Types) -> Iterator[str]:
    for kind in PLUGIN_KINDS:
        for name, found in sorted(types.get(kind, {}).items()):
            if isinstance(found, BrokenType):
                raise ValueError(f"the {kind.value} {name} cannot be documented: {found.reason}")
            yield _section(kind, found)


def _section(kind: SectionKind, found: SectionType) -> str:
    beginning = f"### {kind.value.capitalize()} `{found.name}`\n\n{found.help}\n"
    if not found.keys:
        return f"{beginning}This type has no keys.\n"
    rows = (
        (name, key_type, default, meaning) for name, key_type, default, _, meaning in map(_row, found.keys)
    )
    return f"{beginning}\n{_rows((_TYPE_HEADER, *rows))}"


def _rows(rows: Iterable[tuple[str, ...]]) -> str:
    header, *others = rows
    lines = (header, ("---",) * len(header), *others)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _row(key: Key) -> tuple[str, ...]:
    sections = ", ".join(f"`[{section.value}]`" for section in key.sections)
    default = "required" if key.required else f"`{key.default}`" if key.default else ""
    return f"`{key.name}`", key.type.name, default, sections, key.meaning


def inserted(text: str, types: Types) -> str:
    """Return the text with the tables between its markers.  Raises ValueError without markers."""
    before, begin, rest = text.partition("<!-- reference -->\n")
    _, end, after = rest.partition("<!-- /reference -->")
    if not end:
        raise ValueError("the markers <!-- reference --> and <!-- /reference --> are missing")
    return f"{before}{begin}{reference(types)}{end}{after}"
