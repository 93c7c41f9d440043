"""Names of machines, users and hosts are text, whatever they contain."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.admin_page.view import VIEWS, View
from tests.support.admin_crowd import crowd
from tests.support.admin_double import AdminDouble
from tests.support.admin_figures import HOSTILE, failure, host

Show = Callable[..., View]
SIDEWAYS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
HIDDEN = "/[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}]/u"


def fill(double: AdminDouble) -> None:
    """Put the hostile names into every place that has a name."""
    double.figures = crowd(20)
    figures = double.figures
    figures.sessions.clear()
    figures.hosts.clear()
    figures.failures.clear()
    now = time.time()
    for number, name in enumerate(HOSTILE):
        names = dict.fromkeys(("principal", "console", "host", "client", "link", "machine", "worker"), name)
        figures.add(number, state="stalled", **names)
        figures.hosts.append(
            host(number, 3, host=name, address=name, health="down", last_failure=name, limit=3)
        )
        figures.failures.append(
            failure(number, now, host=name, principal=name, client=name, error=name, detail=name, help=name)
        )
    for rows, keys in (
        (figures.upstreams, ("last_failure",)),
        (figures.listeners, ("address", "public_url")),
        (figures.workers, ("machine", "worker", "version")),
        (figures.drains, ("name", "by", "reason")),
        (figures.links, ("host",)),
    ):
        for number, row in enumerate(rows):
            row.update(dict.fromkeys(keys, HOSTILE[number]))


@pytest.mark.parametrize("name", VIEWS)
def test_hostile_names_are_shown_as_text(show: Show, double: AdminDouble, name: str) -> None:
    """Names are text in a wide window and in a narrow one."""
    fill(double)
    view = show(f"#{name}", rows=name != "configuration")
    for width in (1280, 320):
        view.page.show(width, 800)
        assert_harmless(view)


def assert_harmless(view: View) -> None:
    view.wait("document.querySelectorAll('.attention li').length > 3")
    view.wait("document.querySelector('#content .name')")
    assert view.evaluate("document.title").endswith("esxiproxy")
    assert view.evaluate("document.querySelectorAll('img, script:not([src]), iframe, [onerror]').length") == 0
    assert view.evaluate("[...document.scripts].map(s => s.getAttribute('src'))") == ["start.js"]
    assert not view.evaluate(SIDEWAYS), "the page does not scroll sideways"
    shown = "document.body.textContent + [...document.querySelectorAll('*')].flatMap(e => "
    shown += "['title', 'aria-label'].map(a => e.getAttribute(a) ?? '')).join('')"
    assert not view.evaluate(f"{HIDDEN}.test(({shown}).replaceAll('\\n', ''))"), "nothing is invisible"
    links = view.evaluate("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
    assert all(link.startswith("#") for link in links)


def test_a_hostile_name_is_written_out_and_can_be_filtered(show: Show, double: AdminDouble) -> None:
    fill(double)
    view = show("#sessions?filter=gnp")
    assert "\\u{202e}gnp.exe\\u{202c} left" in view.text("tbody")
    view.click("tbody a.name")
    view.wait("document.querySelector('.pager').innerText.includes('1–1 of 1 of')")


def test_the_dialog_sends_the_name_as_it_is(show: Show, double: AdminDouble) -> None:
    names = {"principal": HOSTILE[2], "host": HOSTILE[0], "console": HOSTILE[3]}
    double.figures.add(2, link="", since=1.0, **names)
    view = show()
    view.click("tbody button")
    view.wait("document.querySelectorAll('.choice')[1].innerText.includes('1 console')")
    assert "\\u{202e}gnp.exe" in view.text("dialog")
    view.evaluate("document.querySelectorAll('.choice input')[1].click()")
    view.fill("dialog [name=reason]", "</dialog><script>document.title='owned'</script>")
    view.press("End 1 console")
    view.wait("!document.querySelector('tbody tr')")
    (seen,) = double.asked("/kill", "POST")
    assert seen.body["value"] == f"staff/{HOSTILE[2]}" and "<script>" in seen.body["reason"]
    assert view.evaluate("document.title").endswith("esxiproxy")
