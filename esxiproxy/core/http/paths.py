"""``paths``: the path prefixes that a listener lets through."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from esxiproxy.core.errors import RouteNotFound

# What one reader of a path resolves, decodes or cuts off and another one does not: an empty or a dot segment
# (with a Java server's ";parameter", too), a backslash, an encoded dot, slash, backslash, percent, semicolon
# or control character (with %25 everything that is encoded twice), a broken escape such as IIS's %u002e.
_AMBIGUOUS = re.compile(
    rb"(?i)//|\\|/\.{1,2}(?=[/;]|\Z)|%(?:2e|2f|5c|25|3b|[01][0-9a-f]|7f)|%(?![0-9a-f]{2})"
)
# Forms of the same characters that a best-fit mapping turns into them, and control characters.
_LOOKALIKE = re.compile(
    "[\uff0e\uff0f\uff3c\uff05\uff1b\u2024\u2025\u2044\u2215\u2216\ufe52\ufe54\ufe68\ufe6a\x80-\x9f]"
)


def ambiguous(path: bytes) -> bool:
    """Whether two readers of this path may end at two different things.

    An escape that is no UTF-8 is among that, of two, three, four or more bytes: a lenient decoder takes an
    overlong form (``%e0%80%ae``) for the character (``.``).
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


def check_path(target: bytes, prefixes: tuple[bytes, ...]) -> None:
    """Raises RouteNotFound unless the target's path lies under one of the prefixes, for every reader.

    A prefix ends between segments: ``/ui`` lets ``/ui`` and ``/ui/x`` through, and not ``/uix``.  Without
    prefixes everything passes.
    """
    if not prefixes:
        return
    path = target.partition(b"?")[0]
    if ambiguous(path):
        raise RouteNotFound("the path can be read in two ways, and only certain paths are served here")
    if not any(_under(path, prefix) for prefix in prefixes):
        raise RouteNotFound("this path is not served here")


def _under(path: bytes, prefix: bytes) -> bool:
    return path == prefix or path.startswith(prefix if prefix.endswith(b"/") else prefix + b"/")
