"""Paths of files and path prefixes of locations."""

from __future__ import annotations

import os

from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.values import paths


def absolute(path: str, folder: str) -> str:
    """Return an absolute path.  nginx resolves paths relative to the folder of its configuration."""
    return os.path.normpath(os.path.join(folder, path))


def prefix_problem(prefix: str) -> str | None:
    """Return why a location's prefix cannot be written in ``paths``; None if it can."""
    if "," in prefix or "%" in prefix:
        return f"{prefix!r} cannot be written in paths"
    try:
        paths(prefix)
    except BadValue as error:
        return str(error)
    return None


def lies_under(path: str, prefix: str) -> bool:
    """Return whether ``paths = prefix`` matches requests for this path."""
    return path.startswith(prefix if prefix.endswith("/") else prefix + "/") or path == prefix
