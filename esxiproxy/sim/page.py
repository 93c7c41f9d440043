"""The demo's page, which shows a console through each listener."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template

NOVNC = (
    Path(__file__).parents[1] / "portal" / "viewer" / "novnc",
    Path("/usr/share/novnc"),
)
"""Folders of the viewer: that of the portal, which ``make run`` fetches, and Debian's package."""

_MISSING = """<p class="missing">The consoles need <b>noVNC</b>, which is not installed. Install it with
<code>python -m esxiproxy.portal.viewer_library</code> or <code>apt-get install novnc</code>, then start
again.</p>"""

_PORTAL = Template(
    """<h1>A dozen virtual machines by name</h1>
<p>A simulated vCenter has them on three simulated hosts. Log in to <a id="portal" href="$url">$url</a> as
<code>$user</code> with the password <code>$password</code>, and open a console by the machine's name.</p>"""
)

_PAGE = Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class PageConsole:
    """One console on the page: its title, and the listener's URL without a path."""

    title: str
    url: str


@dataclass(frozen=True, slots=True)
class PagePortal:
    """The portal that the page links to, and the login that ``conf/demo.htpasswd`` has."""

    url: str
    user: str = "demo"
    password: str = "demo"


def novnc(places: Sequence[Path] = NOVNC) -> Path | None:
    """Return the folder of the viewer, or None.  ``ESXIPROXY_NOVNC`` overrides ``places``."""
    named = os.environ.get("ESXIPROXY_NOVNC")
    candidates = [Path(named)] if named else list(places)
    return next((place.resolve() for place in candidates if (place / "core" / "rfb.js").is_file()), None)


def render(consoles: Sequence[PageConsole], portal: PagePortal | None, viewer: bool) -> str:
    """Return the page.  Without a viewer it says how to install one."""
    listed = [{"title": console.title, "url": console.url} for console in consoles]
    return _PAGE.substitute(
        consoles=json.dumps(listed).replace("<", "\\u003c"),
        missing="" if viewer else _MISSING,
        portal="" if portal is None else _PORTAL.substitute(asdict(portal)),
        viewer=json.dumps(viewer),
        count=f"{len(consoles)} listener{'' if len(consoles) == 1 else 's'}",
    )
