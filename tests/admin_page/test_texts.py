"""Texts that the page makes of numbers, times and names, and the addresses of its lists."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.admin_page.view import View
from tests.support.admin_double import AdminDouble, admin_double
from tests.support.browser import Chromium


@pytest.fixture(scope="module")
def view(chromium: Chromium) -> Iterator[View]:
    with admin_double(AdminDouble()) as double:
        view = View(chromium.open("about:blank"), double).open("", rows=False)
        yield view
        view.page.close()


def call(view: View, module: str, function: str, *arguments: Any) -> Any:
    """Return what a function of a module of the page returns."""
    texts = ", ".join(json.dumps(each) for each in arguments)
    return view.evaluate(f"import('/{module}').then(m => m.{function}({texts}))")


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        ("bytes", None, "–"),
        ("bytes", 0, "0 B"),
        ("bytes", 1023, "1023 B"),
        ("bytes", 1024, "1.0 KiB"),
        ("bytes", 10 * 1024 - 1, "10 KiB"),
        ("bytes", 1024**2 - 1, "1.0 MiB"),
        ("bytes", 5 * 1024**4, "5.0 TiB"),
        ("bytes", 3000 * 1024**5, "3000 PiB"),
        ("rate", 2048.4, "2.0 KiB/s"),
        ("rate", None, "–"),
        ("duration", 0, "0 s"),
        ("duration", -3, "0 s"),
        ("duration", 59.9, "59 s"),
        ("duration", 61, "1 min 1 s"),
        ("duration", 3599, "59 min"),
        ("duration", 3600, "1 h 0 min"),
        ("duration", 90000, "1 d 1 h"),
        ("duration", None, "–"),
        ("short", 0.00042, "0.4 ms"),
        ("short", 0.0211, "21 ms"),
        ("short", 9.9999, "10 s"),
        ("short", None, "–"),
        ("count", 1234567, "1,234,567"),
        ("daysLeft", -1, "expired 1 day ago"),
        ("daysLeft", 0, "expires today"),
        ("daysLeft", 1, "1 day left"),
        ("visible", "plain – ünïcode 漢字 🖥", "plain – ünïcode 漢字 🖥"),
        ("visible", "a\u202eb\u0000\u200b\u2028", "a\\u{202e}b\\u{0}\\u{200b}\\u{2028}"),
    ],
)
def test_values_have_a_text(view: View, function: str, value: Any, text: str) -> None:
    assert call(view, "format.js", function, value) == text


@pytest.mark.parametrize(
    ("fragment", "changed"),
    [
        ("", {"view": "sessions", "sort": "since", "order": "desc"}),
        (
            "#nonsense?sort=1;drop&limit=99999&offset=-3&order=up",
            {"limit": 500, "offset": 0, "sort": "since"},
        ),
        ("#__proto__", {"view": "sessions"}),
        (
            "#hosts?filter=a%20b&offset=100&limit=25",
            {"view": "hosts", "filter": "a b", "offset": 100, "limit": 25},
        ),
        (f"#hosts?filter={'x' * 999}", {"filter": "x" * 200}),
    ],
)
def test_a_fragment_is_a_route_or_the_nearest_one(view: View, fragment: str, changed: dict[str, Any]) -> None:
    route = call(view, "route.js", "parse", fragment)
    assert {name: route[name] for name in changed} == changed
    assert call(view, "route.js", "parse", call(view, "route.js", "fragment", route)) == route


def test_a_filter_looks_for_the_words_of_a_name_in_its_column(view: View) -> None:
    assert call(view, "route.js", "within", "host", "a  b c") == "host:a host:b host:c"
