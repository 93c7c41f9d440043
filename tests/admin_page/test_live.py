"""The page shows what runs now, and asks for no more than it shows."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.admin_page.view import View
from tests.support.admin_crowd import crowd
from tests.support.admin_double import AdminDouble
from tests.support.programs import until

Show = Callable[..., View]


def has_row(name: str) -> str:
    return f"[...document.querySelectorAll('tbody tr')].some(row => row.innerText.includes('{name}'))"


def test_a_console_appears_and_vanishes_by_the_stream(show: Show, double: AdminDouble) -> None:
    """The service sends a change within a fifth of a second, and the page asks for nothing."""
    double.figures.add(1, console="first")
    view = show()
    (stream,) = double.asked("/events")
    added = double.figures.add(2, console="dc1/2", console_name="second")
    view.wait(has_row("second"))
    assert not view.evaluate(has_row("dc1/2")), "the name is shown instead of the id"
    assert view.wait("document.title.startsWith('2 consoles')")
    double.figures.remove(added["id"])
    view.wait(f"!{has_row('second')}")
    assert view.rows() == 1
    assert double.asked("/events") == [stream] and stream.open and not double.asked("/sessions")


def test_numbers_of_a_row_change_in_place(show: Show, double: AdminDouble) -> None:
    row = double.figures.add(1, rate_down=2048.0)
    view = show()
    view.wait("document.querySelector('tbody').innerText.includes('2.0 KiB/s')")
    view.evaluate("window.kept = document.querySelector('tbody tr')")
    double.figures.sessions[row["id"]] = {**row, "rate_down": 3 * 1024 * 1024.0}
    view.wait("document.querySelector('tbody').innerText.includes('3.0 MiB/s')")
    assert view.evaluate("window.kept === document.querySelector('tbody tr')")


def test_of_5000_consoles_only_the_window_is_asked_for_and_drawn(show: Show, double: AdminDouble) -> None:
    double.figures = crowd(5000)
    view = show()
    view.wait("document.querySelector('.pager').innerText.includes('1–50 of 5,000')")
    assert view.rows() == 50
    assert view.evaluate("document.querySelectorAll('*').length") < 2500
    (stream,) = double.asked("/events")
    assert stream.query["limit"] == "50" and stream.sent < 60_000
    # The rest are small answers for the charts and for what needs attention.
    others = [seen for seen in double.seen if seen.path.startswith("/api") and seen is not stream]
    assert all(int(seen.query.get("limit", 0)) <= 10 for seen in others)
    assert not double.asked("/sessions")
    assert len(others) <= 8 and sum(seen.sent for seen in others) < 60_000
    # A change costs its row and the order of the window.
    before = stream.sent
    double.figures.add(9001, since=time.time(), console="newest")
    view.wait(has_row("newest"))
    assert stream.sent - before < 8_000


def test_a_quiet_second_costs_a_few_hundred_bytes(show: Show, double: AdminDouble) -> None:
    double.figures = crowd(5000)
    show()
    (stream,) = double.asked("/events")
    began, before, counted = time.monotonic(), stream.sent, len(double.seen)
    until(lambda: time.monotonic() > began + 3, "three seconds are over")
    assert stream.sent - before < 4 * 1000
    assert len(double.seen) - counted <= 1


def test_the_window_follows_pages_sort_order_and_filter(show: Show, double: AdminDouble) -> None:
    double.figures = crowd(5000)
    view = show()
    view.press("Last page")
    view.wait("document.querySelector('.pager').innerText.includes('4,951–5,000 of 5,000')")
    assert view.rows() == 50
    view.press("First page")
    view.press("Next page")
    view.wait("document.querySelector('.pager').innerText.includes('51–100 of 5,000')")
    view.press("User")
    view.wait("document.querySelector('[aria-sort=ascending]')?.innerText.includes('User')")
    view.wait("document.querySelector('.pager').innerText.includes('1–50 of 5,000')")
    view.fill("#filter", "host:esxi-07")
    view.wait("document.querySelector('.pager').innerText.includes('1–50 of 84 of 5,000')")
    hosts = view.evaluate("[...document.querySelectorAll('tbody tr')].map(r => r.children[2].innerText)")
    assert len(hosts) == 50 and set(hosts) == {"esxi-07.example.com"}
    wanted = {"view": "sessions", "sort": "principal", "order": "asc", "filter": "host:esxi-07"}
    asked = double.asked("/events")[-1].query
    assert asked == wanted | {"offset": "0", "limit": "50"}
    until(lambda: sum(seen.open for seen in double.asked("/events")) == 1, "one stream is open")
    assert view.evaluate("location.hash") == "#sessions?filter=host%3Aesxi-07&sort=principal&order=asc"


def test_a_page_that_is_opened_again_shows_the_same_window(show: Show, double: AdminDouble) -> None:
    double.figures = crowd(300)
    view = show("#hosts?sort=failures&order=desc&limit=25")
    assert view.rows() == 25
    assert "esxi-07" in view.text("tbody tr")
    view.click(".views a[href='#failures']")
    view.wait("document.querySelector('tbody')?.innerText.includes('UpstreamRefused')")
    view.evaluate("history.back()")
    view.wait(
        "location.hash.startsWith('#hosts') && document.querySelector('.pager')?.innerText.includes('of 60')"
    )
    assert view.rows() == 25


def test_the_last_page_that_has_emptied_gives_way_to_the_one_before(show: Show, double: AdminDouble) -> None:
    for number in range(30):
        double.figures.add(number)
    view = show("#sessions?limit=25&offset=25")
    assert view.rows() == 5
    double.figures.sessions = dict(list(double.figures.sessions.items())[:10])
    view.wait("document.querySelectorAll('tbody tr').length === 10")
    assert view.evaluate("location.hash") == "#sessions?limit=25"


def test_a_lost_connection_is_shown_and_opened_again(show: Show, double: AdminDouble) -> None:
    double.figures.add(1, console="before")
    view = show()
    double.failing = 503
    view.wait("document.querySelector('.lost p')?.innerText.includes('The state cannot be reached')")
    assert "not up to date" in view.text("div.lost") and view.rows() == 1
    double.figures.sessions.clear()
    double.figures.add(2, console="after")
    double.failing = 0
    view.wait(f"!document.querySelector('.lost p') && {has_row('after')}")
    assert not view.evaluate(has_row("before"))
    assert all("503" in fault for fault in view.faults()), "the browser notes failed requests itself"


def test_a_state_that_cannot_be_read_is_told_while_the_stream_goes_on(
    show: Show, double: AdminDouble
) -> None:
    double.figures.add(1, console="before")
    view = show()
    double.is_blind = True
    view.wait("document.querySelector('.lost p')?.innerText.includes('The shared state cannot be reached.')")
    assert "not up to date" in view.text("div.lost") and view.rows() == 1
    double.is_blind = False
    view.wait("!document.querySelector('.lost p') && document.querySelector('.live.live')")
    assert len(double.asked("/events")) == 1


def test_a_service_without_an_answer_is_reported(show: Show, double: AdminDouble) -> None:
    view = show("", rows=False)
    double.failing = -1
    view.page.call("Page.reload")
    view.wait("document.querySelector('.lost p')?.innerText.includes('cannot be reached')")
    assert "Nothing can be shown" in view.text("#content")
    double.failing = 0
    view.wait("document.querySelector('.live.live')")
    view.faults()


def test_an_empty_proxy_says_so(show: Show) -> None:
    view = show("", rows=False)
    view.wait("document.querySelector('#content').innerText.includes('No console is open.')")
    assert "Nothing needs attention." in view.text(".attention")


def test_a_hidden_tab_has_no_stream(show: Show, double: AdminDouble) -> None:
    double.figures.add(1)
    view = show()
    hide = "Object.defineProperty(document, 'hidden', {configurable: true, get: () => HIDDEN});"
    tell = "document.dispatchEvent(new Event('visibilitychange'))"
    view.evaluate(hide.replace("HIDDEN", "true") + tell)
    until(lambda: not any(seen.open for seen in double.asked("/events")), "the stream has ended")
    double.figures.add(2, console="meanwhile")
    view.evaluate(hide.replace("HIDDEN", "false") + tell)
    view.wait(has_row("meanwhile"))
    assert sum(seen.open for seen in double.asked("/events")) == 1


def test_charts_have_their_numbers_in_words(show: Show, double: AdminDouble) -> None:
    double.figures = crowd(200)
    view = show()
    view.wait("document.querySelector('.chart svg')?.getAttribute('aria-label').includes('of the last hour')")
    labels = view.evaluate(
        "[...document.querySelectorAll('.chart svg')].map(s => s.getAttribute('aria-label'))"
    )
    assert labels[0].startswith("Open consoles of the last hour: consoles now 200, lowest ")
    assert "sent now 3.1 MiB/s" in labels[1] and "received now 159 KiB/s" in labels[1]
    assert "median now 21 ms, lowest 15 ms, highest 25 ms" in labels[2]
    # The time without a measurement is a gap: two runs of the line.
    line = view.evaluate("document.querySelectorAll('.chart')[2].querySelector('.line').getAttribute('d')")
    assert line.count("M") == 2


def test_what_needs_attention_is_listed(show: Show, double: AdminDouble) -> None:
    double.figures = crowd(5000)
    view = show()
    view.wait("document.querySelectorAll('.attention li').length === 6")
    said = view.text(".attention")
    assert "The host esxi-07.example.com is down, with 84 open consoles." in said
    assert "port 443 is closed" in said
    assert "The certificate of the listener old: expired 3 days ago." in said
    assert "The certificate of the listener consoles: 9 days left." in said
    assert "The last 10 failures took" in said and "1 drain is in force." in said
    assert said.index("expired 3 days") < said.index("9 days left")


def test_hosts_come_by_how_near_they_are_to_their_limit(show: Show, double: AdminDouble) -> None:
    double.figures = crowd(60)
    for host, connections in zip(double.figures.hosts, (12, 97, 100), strict=False):
        host["connections"] = connections
    view = show("#hosts")
    first = view.evaluate("[...document.querySelectorAll('tbody tr')].slice(0, 3).map(r => r.innerText)")
    assert [row.split("\t")[2].strip() for row in first] == ["100 of 100", "97 of 100", "12 of 100"]
    view.wait("document.querySelector('.attention').innerText.includes('has 100 of 100 connections')")


def test_certificates_come_by_days_left(show: Show, double: AdminDouble) -> None:
    double.figures = crowd(10)
    view = show("#listeners")
    rows = view.evaluate("[...document.querySelectorAll('tbody tr')].map(r => r.innerText)")
    assert [row.split("\t")[0].strip() for row in rows] == ["old", "consoles", "desk", "plain"]
    assert "expired 3 days ago" in rows[0] and "9 days left" in rows[1] and "200 days left" in rows[2]


def test_failures_are_explained(show: Show, double: AdminDouble) -> None:
    double.figures = crowd(10)
    view = show("#failures")
    row = view.text("tbody tr")
    for part in (
        "UpstreamRefused",
        "The host refused the connection.",
        "Check that the host runs",
        "HTTP 502",
    ):
        assert part in row
