"""The files of the portal's pages: nothing inline, nothing from elsewhere, and imports that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.programs import ROOT

PAGE = ROOT / "esxiproxy" / "portal" / "page"
FILES = sorted(path for path in PAGE.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PAGE).as_posix())
def test_a_file_fits_the_policy(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert not re.search(r"\w+://|url\(|@import|TODO", text), "it loads nothing from elsewhere"
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text
    )
    if path.suffix == ".html":
        assert set(re.findall(r"<script[^>]*>(.*?)</script>", text, re.S)) <= {""}
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text)
    for name in re.findall(r"(?:from|import)\s*\(?\s*\"([^\"]+)\"", text) if path.suffix == ".js" else ():
        target = (path.parent / name).resolve()
        assert target.is_file() or "library" in target.parts, name


def test_one_place_asks_and_one_opens_a_stream_and_both_by_the_admin_page() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in FILES if path.suffix == ".js"}
    assert [name for name, text in texts.items() if "fetch(" in text] == []
    assert [name for name, text in texts.items() if "new Api(" in text] == ["api.js"]
    assert [name for name, text in texts.items() if "new EventSource" in text] == []
    assert [name for name, text in texts.items() if "new LiveStream(" in text] == ["app.js"]
