"""Paths of files in a configuration, with the folder of systemd's credentials as the only variable."""

from __future__ import annotations

import os
from pathlib import Path

from esxiproxy.core.config.errors import BadValue

VARIABLE = "CREDENTIALS_DIRECTORY"
"""systemd sets it for a unit with ``LoadCredential``."""
_PREFIX = "${" + VARIABLE + "}"


def path_to_write(text: str, folder: Path) -> Path:
    """Return the path of a file that is written, whose folder exists.  Raise BadValue."""
    found = file_path(text, folder)
    if found.is_dir():
        raise BadValue(f"is a folder: {text}")
    if not found.parent.is_dir():
        raise BadValue(f"no such folder: {found.parent}")
    return found


def file_path(text: str, folder: Path) -> Path:
    """Return the path for a value, which is relative to the folder of the configuration file.

    ``${CREDENTIALS_DIRECTORY}`` at the beginning is the folder of the service's credentials.  Raise
    BadValue when the environment does not name this folder.
    """
    if not text.startswith(_PREFIX):
        return folder / text
    name = text.removeprefix(_PREFIX)
    if not name.startswith("/") or not name.strip("/"):
        raise BadValue(f"names no credential: write {_PREFIX}/NAME")
    directory = os.environ.get(VARIABLE, "")
    if not directory.startswith("/"):
        problem = "is not set" if not directory else "is no absolute path"
        raise BadValue(
            f"{VARIABLE} {problem}: systemd sets it for a service whose unit has LoadCredential=; "
            "elsewhere set it to the folder of the files"
        )
    return Path(directory) / name.lstrip("/")
