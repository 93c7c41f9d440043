"""The front-end library of the admin page and of the portal: its pinned files.

``python -m esxiproxy.admin.page_library`` fetches them, and so do ``make`` and the build of the package.
"""

from __future__ import annotations

import sys
from pathlib import Path

from esxiproxy.web import npm_files
from esxiproxy.web.npm_files import FetchError, PinnedFile, PinnedPackage

FOLDER = Path(__file__).parent / "page" / "library"
"""The folder from which the page loads the library."""
HOW = "python -m esxiproxy.admin.page_library"
"""The command that fetches the library into an installed package."""

LIBRARY = (
    PinnedPackage(
        "htm",
        "3.1.1",
        (
            PinnedFile(
                "preact/standalone.module.js",
                "htm-preact.js",
                "72284e8e9079c87817145df1110f74e8a2aa040b2fc384922e18dfcb46fc1fd7",
            ),
            PinnedFile(
                "LICENSE",
                "LICENSE.htm.txt",
                "740725f7252e750af735d0028cc534970772f513331e9f68150fede8fb3ce00f",
            ),
        ),
    ),
    # htm's file contains Preact; this is Preact's licence.
    PinnedPackage(
        "preact",
        "10.7.1",
        (
            PinnedFile(
                "LICENSE",
                "LICENSE.preact.txt",
                "1fe6958409c8c257a70c587a18b6f7f412b179b456630790d30b2ec9a8e4b7d4",
            ),
        ),
    ),
)


def missing() -> list[str]:
    """Return the names of files that are missing or differ from their pins."""
    return npm_files.missing(FOLDER, LIBRARY)


def fetch() -> None:
    """Fetch the missing files.  Raises :class:`esxiproxy.web.npm_files.FetchError`."""
    npm_files.fetch(FOLDER, LIBRARY)


def main() -> int:
    """Fetch the missing files; return 0, or 1 with a message if that fails."""
    try:
        fetch()
    except (FetchError, OSError) as error:
        print(f"the library of the admin page is missing in {FOLDER}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
