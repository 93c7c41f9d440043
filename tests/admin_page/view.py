"""The page of the admin service in Chromium, as a person uses it."""

from __future__ import annotations

import json
from typing import Any

from tests.support.admin_double import AdminDouble
from tests.support.browser import Page
from tests.support.programs import until

DESKTOP = (1280, 900)
PHONE = (320, 700)
VIEWS = ["sessions", "hosts", "failures", "listeners", "upstreams", "workers"]
VIEWS += ["drains", "links", "configuration"]
_FAULTS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Audits.issueAdded")

_IGNORED = "NavigationEntryMarkedSkippable"
"""The browser notes that a test has gone to another list without a click of a mouse."""


class View:
    """The page, with the service that it talks to."""

    def __init__(self, page: Page, double: AdminDouble) -> None:
        self.page = page
        self.double = double
        for domain in ("Runtime", "Log", "Page", "Audits"):
            page.call(f"{domain}.enable")
        page.show(*DESKTOP)

    def open(self, fragment: str = "", rows: bool = True) -> View:
        """Open the page from the beginning, and wait until it is live."""
        self.page.call("Page.navigate", url="about:blank")
        self.page.call("Page.navigate", url=f"{self.double.url}{fragment}")
        self.wait("document.querySelector('.live.live') && document.querySelector('.who')")
        if rows:
            self.wait("document.querySelector('tbody tr')")
        return self

    def wait(self, condition: str, seconds: float = 20.0) -> Any:
        """Wait until an expression is true, and return its value."""
        return until(
            lambda: self.page.evaluate(f"(() => {{ {_as_value(condition)} }})()"), condition, seconds
        )

    def evaluate(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def rows(self) -> int:
        """Return the number of rows that are drawn."""
        count: int = self.evaluate("document.querySelectorAll('tbody tr').length")
        return count

    def text(self, selector: str = "body") -> str:
        found: str = self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
        return found

    def click(self, selector: str) -> None:
        """Click on the first element that a selector finds."""
        self.wait(f"document.querySelector({json.dumps(selector)})")
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def press(self, name: str) -> None:
        """Click on the first button of this text or label, in the dialog if there is one."""
        self.wait(_button(name))
        self.evaluate(f"{_button(name)}.click()")

    def fill(self, selector: str, text: str) -> None:
        """Put a text into a field in place of the one that it has."""
        self.wait(f"document.querySelector({json.dumps(selector)})")
        self.evaluate(f"(e => {{ e.focus(); e.select(); }})(document.querySelector({json.dumps(selector)}))")
        self.page.type(text)

    def focused(self) -> str:
        """Return the label or the text of the element that has the focus, and its kind."""
        found: str = self.evaluate(
            "(e => `${e.localName} ${e.getAttribute('aria-label') || e.name || e.innerText || ''}`.trim())"
            "(document.activeElement)"
        )
        return found

    def tab_to(self, wanted: str, most: int = 80) -> None:
        """Press Tab until the element whose kind and label begin with this text has the focus."""
        for _ in range(most):
            self.page.key("Tab")
            if self.focused().startswith(wanted):
                return
        raise AssertionError(f"Tab does not reach {wanted}; it is at {self.focused()}")

    def faults(self) -> list[str]:
        """Return what the console of the browser has shown since the last call."""
        self.evaluate("1")
        found = [event for event in self.page.events if event["method"] in _FAULTS]
        self.page.events.clear()
        texts = [json.dumps(event["params"])[:500] for event in found]
        return [text for text in texts if _IGNORED not in text]


def _as_value(condition: str) -> str:
    """Return the body of a function that has no element as its value: DevTools returns values only."""
    return f"const found = {condition}; return found instanceof Node ? true : found;"


def _button(name: str) -> str:
    return (
        "[...(document.querySelector('dialog') ?? document).querySelectorAll('button')]"
        f".find(b => [b.innerText.trim(), b.getAttribute('aria-label')].includes({json.dumps(name)}))"
    )


def make_link(view: View, to: str = "esxi-03.example.com/ticket/abc") -> None:
    """Fill in the form of a link, and press its button."""
    view.press("Make a link…")
    view.wait("document.querySelector('dialog [name=router]').value === 'issued'")
    view.fill("dialog [name=to]", to)
    view.fill("dialog [name=reason]", "for a guest")
    view.press("Make the link")
