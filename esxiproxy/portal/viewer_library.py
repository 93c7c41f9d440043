"""noVNC, the RFB client of the viewer: its pinned files.

``python -m esxiproxy.portal.viewer_library`` fetches them into an installed package.  The packages of
``make wheel`` have them.  Without them the portal works, and the page of a console names this command.
"""

from __future__ import annotations

import sys
from pathlib import Path

from esxiproxy.web import npm_files
from esxiproxy.web.npm_files import FetchError, pinned_by

VERSION = "1.7.0"
FOLDER = Path(__file__).parent / "viewer" / "novnc"
"""The folder from which the viewer loads noVNC."""
HOW = "python -m esxiproxy.portal.viewer_library"
"""The command that fetches noVNC into an installed package."""

NOVNC = pinned_by(Path(__file__).with_name("novnc.sha256"), "@novnc/novnc", VERSION)


def missing() -> list[str]:
    """Return the names of files that are missing or differ from their pins."""
    return npm_files.missing(FOLDER, [NOVNC])


def fetch() -> None:
    """Fetch the missing files.  Raises :class:`esxiproxy.web.npm_files.FetchError`."""
    npm_files.fetch(FOLDER, [NOVNC])


def main() -> int:
    """Fetch the missing files; return 0, or 1 with a message if that fails."""
    try:
        fetch()
    except (FetchError, OSError) as error:
        print(f"noVNC is missing in {FOLDER}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
