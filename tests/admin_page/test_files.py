"""The files of the page: nothing inline, nothing from elsewhere, and all of them in a package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from esxiproxy.cli import status
from esxiproxy.doctor.configuration.expiry import WARN_DAYS
from tests.support.admin_double import PAGE, page_files

FILES = page_files()
SCRIPTS = [path for path in FILES if path.suffix == ".js"]


def names(path: Path) -> str:
    return path.relative_to(PAGE).as_posix()


def test_the_page_has_a_frame_its_style_and_scripts() -> None:
    assert {"index.html", "page.css", "table.css", "icon.svg", "start.js", "app.js"} <= {
        names(each) for each in FILES
    }
    assert {path.suffix for path in FILES} == {".html", ".css", ".svg", ".js"}


@pytest.mark.parametrize("path", FILES, ids=names)
def test_a_file_fits_the_policy_and_loads_nothing_from_elsewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    found = set(re.findall(r"\w+://[^\s\"'<>)]+", text))
    assert found <= ({"http://www.w3.org/2000/svg"} if path.suffix == ".svg" else set())
    assert not re.search(r"url\(|@import", text), "styles load nothing"
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text
    )
    assert "TODO" not in text


def test_the_frame_has_no_inline_script_and_no_inline_style() -> None:
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script[^>]*>(.*?)</script>", text, re.S) == [""]
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text)
    assert "<noscript>" in text


@pytest.mark.parametrize("path", SCRIPTS, ids=names)
def test_a_script_imports_files_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"(?:from|import)\s*\(?\s*\"([^\"]+)\"", text):
        target = (path.parent / name).resolve()
        assert name.startswith((".", "..")) and (target in FILES or "library" in target.parts), name


def test_every_script_is_used() -> None:
    used = {
        (path.parent / name).resolve()
        for path in SCRIPTS
        for name in re.findall(r"(?:from|import)\s*\(?\s*\"([^\"]+)\"", path.read_text(encoding="utf-8"))
    }
    assert set(SCRIPTS) - used == {PAGE / "start.js"}


def test_only_one_place_sends_actions_and_one_opens_the_stream() -> None:
    texts = {names(path): path.read_text(encoding="utf-8") for path in SCRIPTS}
    assert [name for name, text in texts.items() if "fetch(" in text] == ["requests.js"]
    assert [name for name, text in texts.items() if "new EventSource" in text] == ["live.js"]
    assert [name for name, text in texts.items() if "X-Esxiproxy" in text] == ["api.js"]


def test_a_certificate_ends_soon_from_the_same_day_on_everywhere() -> None:
    """The page, `esxiproxy status` and `esxiproxy doctor` mark the same certificates."""
    script = (PAGE / "views" / "lists.js").read_text(encoding="utf-8")
    assert re.findall(r"export const SOON = (\d+);", script) == [str(WARN_DAYS)]
    assert status._SOON == WARN_DAYS
