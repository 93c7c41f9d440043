"""The figures and the examples of docs/security-model.md are those of the code."""

from __future__ import annotations

import re

import pytest

from esxiproxy.core.http.head import MAX_FIELDS, MAX_HEAD, MAX_TARGET
from esxiproxy.core.http.paths import ambiguous
from esxiproxy.core.redaction import HIDDEN, MAX_SHOWN, redact
from esxiproxy.core.websocket.control_budget import BURST, RATE
from esxiproxy.ops.logs.session_log import MAX_REFUSAL_LINES
from tests.support.programs import ROOT

PAGE = " ".join((ROOT / "docs" / "security-model.md").read_text(encoding="utf-8").split())
NAMES = ("one", "two", "three", "four", "five")


def section(begin: str, end: str) -> str:
    """Return the text of the page between two phrases."""
    return PAGE[PAGE.index(begin) : PAGE.index(end)]


@pytest.mark.parametrize(
    "said",
    [
        f"a target over {MAX_TARGET >> 10} KiB, a head over {MAX_HEAD >> 10} KiB",
        f"more than {MAX_FIELDS} fields",
        f"limited to {RATE:.0f} a second after the first {BURST:,.0f}",
        f"A target is cut at {MAX_SHOWN:,} bytes",
        f"limited to {NAMES[MAX_REFUSAL_LINES - 1]} a second",
    ],
)
def test_the_page_has_the_figures_of_the_code(said: str) -> None:
    assert said in PAGE


def test_the_paths_of_the_page_are_redacted() -> None:
    places = re.findall(r"`(/[\w-]+/)`", section("Targets are shown", "the value of a parameter"))
    assert len(places) >= 7
    for place in (*places, "/cst-"):
        assert redact(f"{place}52c1a6d4-77f1".encode()) == f"{place}{HIDDEN}"


def test_the_parameters_of_the_page_are_redacted() -> None:
    names = re.findall(r"`(\w+)`", section("the value of a parameter", "a signed token"))
    assert len(names) >= 12
    for name in (*names, "author"):
        assert redact(f"/ui?a=1&{name}=52c1a6d4".encode()) == f"/ui?a=1&{name}={HIDDEN}"
    assert redact(b"/ui?a=1&name=52c1a6d4") == "/ui?a=1&name=52c1a6d4"


@pytest.mark.parametrize("path", [b"/ui/../sdk", b"/ui//sdk", b"/ui\\sdk", b"/ui%2fsdk", b"/ui/%2e%2e/sdk"])
def test_the_paths_of_the_page_are_ambiguous(path: bytes) -> None:
    assert ambiguous(path)
