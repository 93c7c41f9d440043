"""Chromium, the stand-in of the service, and the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from esxiproxy.admin import page_library
from tests.admin_page.view import View
from tests.support.admin_double import AdminDouble, admin_double
from tests.support.browser import Chromium
from tests.support.programs import need


@pytest.fixture(scope="session")
def library() -> None:
    """Return the front-end library, which is fetched if it is missing."""
    try:
        page_library.fetch()
    except page_library.FetchError:
        need("htm", "npm, and a way to its registry")


@pytest.fixture(scope="package")
def chromium(library: None) -> Iterator[Chromium]:
    with Chromium() as running:
        yield running


@pytest.fixture
def double() -> Iterator[AdminDouble]:
    """Run the stand-in for the service, and check at the end that the page made no mistake."""
    with admin_double(AdminDouble()) as running:
        yield running
        assert not running.problems, running.problems


@pytest.fixture
def show(chromium: Chromium, double: AdminDouble) -> Iterator[Callable[..., View]]:
    """Return a function that opens the page; check at the end that the browser's console is empty."""
    views: list[View] = []

    def open_page(fragment: str = "", rows: bool = True) -> View:
        views.append(View(chromium.open("about:blank"), double))
        return views[-1].open(fragment, rows)

    yield open_page
    faults = [fault for view in views for fault in view.faults()]
    for view in views:
        view.page.close()
    assert not faults, faults
