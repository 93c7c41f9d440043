"""The key ``paths``: the path prefixes that a listener serves."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from esxiproxy.core.errors import RouteNotFound

# Parts of a path that only some servers resolve, decode or cut off: an empty or a dot segment (also with a
# Java server's ";parameter"), a backslash, an encoded dot, slash, backslash, percent, semicolon or control
# character (%25 covers double encoding), a broken escape such as IIS's %u002e.
_AMBIGUOUS = re.compile(
    rb"(?i)//|\\|/\.{1,2}(?=[/;]|\Z)|%(?:2e|2f|5c|25|3b|[01][0-9a-f]|7f)|%(?![0-9a-f]{2})"
)
# Characters that a best-fit mapping turns into those above, and control characters.
_LOOKALIKE = re.compile(
    "[\uff0e\uff0f\uff3c\uff05\uff1b\u2024\u2025\u2044\u2215\u2216\ufe52\ufe54\ufe68\ufe6a\x80-\x9f]"
)


def ambiguous(path: bytes) -> bool:
    """Return whether two servers may resolve this path to two different resources.

    An escape that is no UTF-8 is ambiguous, since a lenient decoder takes an overlong form (``%e0%80%ae``)
    for the character (``.``).
    """
    if _AMBIGUOUS.search(path) is not None:
        return True
    plain = unquote_to_bytes(path)
    if plain.isascii():
        return False
    try:
        return _LOOKALIKE.search(plain.decode("utf-8")) is not None
    except UnicodeDecodeError:
        return True


def plain_path(path: bytes) -> bytes:
    """Return the path as the most lenient server takes it.

    Escapes are decoded twice.  Parameters behind a semicolon, empty segments and dot segments are resolved.
    """
    segments: list[bytes] = []
    for segment in unquote_to_bytes(unquote_to_bytes(path)).replace(b"\\", b"/").split(b"/"):
        name = segment.partition(b";")[0]
        if name == b"..":
            del segments[-1:]
        elif name not in (b"", b"."):
            segments.append(name)
    return b"/" + b"/".join(segments)


def check_path(target: bytes, prefixes: tuple[bytes, ...]) -> None:
    """Raise RouteNotFound unless the target's path lies under one of the prefixes, for every server.

    A prefix ends between segments: ``/ui`` covers ``/ui`` and ``/ui/x`` but not ``/uix``.  Without prefixes
    every path passes.
    """
    if not prefixes:
        return
    path = target.partition(b"?")[0]
    if ambiguous(path):
        raise RouteNotFound("the path is ambiguous, and this listener serves certain paths only")
    if not any(is_under(path, prefix) for prefix in prefixes):
        raise RouteNotFound("the listener does not serve this path")


def is_under(path: bytes, prefix: bytes) -> bool:
    """Return whether a path is the prefix, or lies under it."""
    return path == prefix or path.startswith(prefix if prefix.endswith(b"/") else prefix + b"/")
