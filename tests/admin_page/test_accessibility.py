"""axe-core finds nothing: in light and dark, with dialogs, and on a phone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from esxiproxy.web.npm_files import FetchError, PinnedFile, PinnedPackage, fetch
from tests.admin_page.view import DESKTOP, PHONE, VIEWS, View, make_link
from tests.support.admin_crowd import crowd
from tests.support.admin_double import AdminDouble
from tests.support.programs import ROOT, need

Show = Callable[..., View]
AXE = PinnedPackage(
    "axe-core",
    "4.14.1",
    (
        PinnedFile(
            "axe.min.js", "axe.min.js", "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
        ),
    ),
)
FOLDER = ROOT / ".cache" / "axe"
RUN = (
    "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map("
    "v => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map(n => n.html.slice(0, 200)).join(' | ')}`))"
)


@pytest.fixture(scope="module")
def axe() -> str:
    """Return the source of axe-core, fetched once."""
    try:
        fetch(FOLDER, [AXE])
    except FetchError:
        need("axe-core", "npm, and a way to its registry")
    return (FOLDER / "axe.min.js").read_text(encoding="utf-8")


def violations(view: View, axe: str) -> list[str]:
    if not view.evaluate("Boolean(window.axe)"):
        view.evaluate(f"{axe}; true")
    found: list[str] = view.evaluate(RUN)
    return found


def sizes_and_schemes(view: View) -> Iterator[tuple[tuple[int, int], str]]:
    """Show the page on a desktop and on a phone, in light and dark colours."""
    for size in (DESKTOP, PHONE):
        for scheme in ("light", "dark"):
            view.page.show(*size, scheme)
            yield size, scheme


@pytest.mark.parametrize("name", VIEWS)
def test_axe_finds_nothing(show: Show, double: AdminDouble, axe: str, name: str) -> None:
    double.figures = crowd(300)
    view = show(f"#{name}?limit=25", rows=name != "configuration")
    for _, scheme in sizes_and_schemes(view):
        view.wait("document.querySelector('.attention li')")
        view.wait("document.querySelector('#content .name')")
        assert violations(view, axe) == []
        assert not view.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )
        dark = view.evaluate("getComputedStyle(document.body).backgroundColor")
        assert dark == {"light": "rgb(244, 246, 248)", "dark": "rgb(17, 21, 26)"}[scheme]


@pytest.mark.parametrize(
    ("name", "button"),
    [
        ("sessions", "tbody button"),
        ("hosts", "tbody button"),
        ("links", "tbody button"),
        ("links", "#content .buttons button"),
        ("configuration", "#content .buttons button"),
        ("configuration", "#content .buttons button + button"),
    ],
)
def test_axe_finds_nothing_in_a_dialog(
    show: Show, double: AdminDouble, axe: str, name: str, button: str
) -> None:
    double.figures = crowd(100)
    view = show(f"#{name}?limit=25", rows=name != "configuration")
    view.click(button)
    view.wait("document.querySelector('dialog[open]')")
    view.wait("!document.querySelector('dialog').innerText.includes('…')")
    for size, _ in sizes_and_schemes(view):
        assert violations(view, axe) == []
        box = view.evaluate(
            "(b => [b.left, b.right])(document.querySelector('dialog').getBoundingClientRect())"
        )
        assert 0 <= box[0] < box[1] <= size[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_where_a_link_is_shown(
    show: Show, double: AdminDouble, axe: str, scheme: str
) -> None:
    view = show("#links", rows=False)
    view.page.show(*PHONE, scheme)
    make_link(view)
    view.wait("document.querySelector('dialog [name=url]')")
    assert violations(view, axe) == []


def test_axe_finds_nothing_when_the_service_is_lost_or_idle(
    show: Show, double: AdminDouble, axe: str
) -> None:
    view = show("", rows=False)
    view.wait("document.querySelector('.empty')")
    assert violations(view, axe) == []
    double.failing = 503
    view.wait("document.querySelector('div.lost')")
    assert violations(view, axe) == []
    double.failing = 0
    view.wait("document.querySelector('.live.live')")
    assert all("503" in fault for fault in view.faults()), "it tried again meanwhile"


def test_axe_finds_nothing_where_the_library_is_missing(show: Show, double: AdminDouble, axe: str) -> None:
    view = show("", rows=False)
    double.has_library = False
    view.page.call("Page.reload", ignoreCache=True)
    view.wait("document.getElementById('missing')?.hidden === false")
    assert "python -m esxiproxy.admin.page_library" in view.text()
    assert violations(view, axe) == []
    assert all(json.loads(fault)["entry"]["source"] == "network" for fault in view.faults())
