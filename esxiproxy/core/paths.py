"""``paths``: the path prefixes that a listener lets through."""

from __future__ import annotations

import re

from esxiproxy.core.errors import RouteNotFound

# What one reader of a path resolves, decodes or cuts off and another one does not: an empty or a dot segment
# (with a Java server's ";parameter", too), a backslash, an encoded dot, slash, backslash, percent, semicolon
# or control character, an overlong or a broken encoding.
_AMBIGUOUS = re.compile(
    rb"(?i)//|\\|/\.{1,2}(?=[/;]|\Z)|%(?:2e|2f|5c|25|3b|[01][0-9a-f]|7f|c0|c1)|%(?![0-9a-f]{2})"
)


def ambiguous(path: bytes) -> bool:
    """Whether two readers of this path may end at two different things."""
    return _AMBIGUOUS.search(path) is not None


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
