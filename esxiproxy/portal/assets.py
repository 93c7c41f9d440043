"""The files that the pages of the portal load, under a path that changes with their content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from esxiproxy.admin.files import page_files
from esxiproxy.admin.site import StaticFile

_PACKAGE = Path(__file__).parents[1]
_FOLDERS = ("admin/page", "portal/page", "portal/viewer")
"""Folders below the package with files of pages; the portal uses parts of the admin page."""
_PREFIX = b"/assets/"
_ICON = b"/favicon.ico"


class Assets:
    """The files by their paths, and the HTML of the pages."""

    def __init__(self, package: Path = _PACKAGE) -> None:
        found = {
            f"{folder}{name.decode()}": file
            for folder in _FOLDERS
            for name, file in page_files(package / folder).items()
            if name != b"/" and not name.endswith(b".html")
        }
        digest = hashlib.sha256("".join(f"{name} {file.etag}\n" for name, file in found.items()).encode())
        self.root = f"/assets/{digest.hexdigest()[:16]}/"
        """The path that all files begin with."""
        self._files: Mapping[bytes, StaticFile] = {
            f"{self.root}{name}".encode(): found[name] for name in found
        }
        self._icon = f"{self.root}admin/page/icon.svg".encode()
        self._pages = package / "portal"

    def find(self, path: bytes) -> StaticFile | None:
        """Return the file of a path, if there is one."""
        return self._files.get(self._icon if path == _ICON else path)

    def page(self, name: str) -> str:
        """Return the HTML of a page in a folder of the portal, with the path of the files."""
        text = (self._pages / name).read_text(encoding="utf-8")
        return text.replace("/assets/", self.root).replace('"/viewer/', f'"{self.root}portal/viewer/')


def is_asset(path: bytes) -> bool:
    """Return whether a path is one of the files, whether it exists or not."""
    return path.startswith(_PREFIX) or path == _ICON
