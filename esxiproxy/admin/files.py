"""The files of the page, which are read once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from esxiproxy.admin.site import StaticFile

FOLDER = Path(__file__).parent / "page"
"""The folder of the page."""
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


def page_files(folder: Path = FOLDER) -> Mapping[bytes, StaticFile]:
    """Return the files of the page by their paths; ``/`` is index.html."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content_type = _TYPES.get(path.suffix)
        if content_type is not None and path.is_file():
            content = path.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            name = "/" + path.relative_to(folder).as_posix()
            found[name.encode()] = StaticFile(content_type, content, etag)
    if b"/index.html" in found:
        found[b"/"] = found[b"/index.html"]
    return MappingProxyType(found)
