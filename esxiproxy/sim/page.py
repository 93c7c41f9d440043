"""The demo's page: a console through each listener, in one browser window."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

NOVNC = (
    Path("var/novnc/node_modules/@novnc/novnc"),
    Path("/usr/share/novnc"),
)
"""Where the viewer may be: what ``make run`` fetched, or Debian's package."""

_MISSING = """<p class="missing">The consoles need <b>noVNC</b>, and it is not here. Install it with
<code>npm install --prefix var/novnc @novnc/novnc</code> or <code>apt-get install novnc</code>, then start
again.</p>"""

_PAGE = Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class PageConsole:
    """One console on the page: what it shows, and the listener's own URL without a path."""

    title: str
    url: str


def novnc(places: Sequence[Path] = NOVNC) -> Path | None:
    """The folder of the viewer, or None where there is none.  ``ESXIPROXY_NOVNC`` names another one."""
    named = os.environ.get("ESXIPROXY_NOVNC")
    candidates = [Path(named)] if named else list(places)
    return next((place.resolve() for place in candidates if (place / "core" / "rfb.js").is_file()), None)


def render(consoles: Sequence[PageConsole], viewer: bool) -> str:
    """The page.  Without a viewer it says what to install."""
    listed = [{"title": console.title, "url": console.url} for console in consoles]
    return _PAGE.substitute(
        consoles=json.dumps(listed).replace("<", "\\u003c"),
        missing="" if viewer else _MISSING,
        viewer=json.dumps(viewer),
        count=f"{len(consoles)} listener{'' if len(consoles) == 1 else 's'}",
    )
