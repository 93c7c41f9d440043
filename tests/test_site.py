"""The documentation becomes a web site without a warning, and the site loads nothing from elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.programs import ROOT, environment

TEXTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
FOLDERS = ("conf", "deploy", "docs", "examples", "tools")
PAGES = [*(ROOT / name for name in TEXTS), *sorted((ROOT / "docs").glob("*.md"))]


def build(source: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a checkout, as `make site` does.  With `--quiet` MkDocs would count no warnings."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site],
        cwd=source,
        env=environment(NO_MKDOCS_2_WARNING="1"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy all sources of the site."""
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*TEXTS, "mkdocs.yml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


class References(HTMLParser):
    """The links of a page, and the files that a browser loads to show it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "srcset", "data") or (name == "href" and tag == "link"):
                self.loaded.append(value or "")
            elif name == "href":
                self.links.append(value or "")


def file_of(page: Path, target: str) -> Path:
    """Return the file of a relative link as a web server finds it."""
    place = page.parent / unquote(urlsplit(target).path)
    return place / "index.html" if target.endswith("/") or place.is_dir() else place


def test_pages_load_nothing_from_other_servers(site: Path) -> None:
    pages = [page for page in site.rglob("*.html") if page.name != "404.html"]
    assert len(pages) > len(PAGES)
    for page in pages:
        loaded = References(page).loaded
        assert loaded
        assert [target for target in loaded if urlsplit(target).netloc] == []
        assert [target for target in loaded if target and not file_of(page, target).is_file()] == [], page


def test_style_sheets_load_nothing_from_other_servers(site: Path) -> None:
    sheets = list(site.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        targets = re.findall(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)", sheet.read_text())
        assert [target for target in targets if re.match(r"(?:https?:)?//", "".join(target))] == []


def test_links_of_the_site_lead_to_its_files(site: Path) -> None:
    """MkDocs checks the links of texts, this test also those to files outside of docs/."""
    for page in (page for page in site.rglob("*.html") if page.name != "404.html"):
        links = [link for link in References(page).links if not urlsplit(link).netloc and link]
        assert [link for link in links if urlsplit(link).path and not file_of(page, link).is_file()] == [], (
            page
        )


def test_files_outside_of_the_documentation_are_pages(site: Path) -> None:
    """The same link leads to the file in the repository, and to its page on the site."""
    assert "../conf/proxy.ini/" in References(site / "deployment/index.html").links
    example = (site / "conf/proxy.ini/index.html").read_text(encoding="utf-8")
    assert "esxiproxy in its simplest form" in example
    assert "../first-hour/" in References(site / "changelog/index.html").links
    examples = site / "conf/index.html"
    assert {f"{path.name}/" for path in (ROOT / "conf").iterdir() if path.is_file()} <= set(
        References(examples).links
    )
    assert "<td>Signed links: the browser sees neither the host nor the ticket.</td>" in examples.read_text()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("docs/limits.md", "[a page](no-such-page.md)", "no-such-page.md"),
        ("docs/limits.md", "[a heading](workers.md#no-such-heading)", "no-such-heading"),
        ("README.md", "[an example](conf/no-such-example.ini)", "no-such-example.ini"),
        ("docs/not-in-the-menu.md", "# A page", "not-in-the-menu.md"),
    ],
)
def test_a_warning_is_an_error(name: str, text: str, said: str, copy: Path) -> None:
    page = copy / name
    page.write_text(f"{page.read_text() if page.exists() else ''}\n{text}\n")
    done = build(copy, copy / "site")
    assert done.returncode != 0
    assert said in done.stderr


def odd_blocks(text: str) -> list[str]:
    """Return the lines that begin a list, a table or a block for one of two renderers only."""
    text = re.sub(r"^ *(```|~~~).*?^ *\1", "", text, flags=re.M | re.S)
    found = []
    in_list, before = False, ""
    for line in text.splitlines():
        item, row = re.match(r"[-*] |\d+\. ", line), line.startswith("|")
        indent = len(line) - len(line.lstrip())
        begins = (item and not in_list) or (row and not before.startswith("|"))
        if (begins and before) or (in_list and not before and indent not in (0, 4, 8, len(line))):
            found.append(line)
        if line and not indent:
            in_list = item is not None
        before = line.strip()
    return found


def test_what_only_one_renderer_takes_for_a_list_is_found() -> None:
    """Python-Markdown needs an empty line before a list, and four spaces for a block of an item."""
    assert odd_blocks("text\n- item\n") == ["- item"]
    assert odd_blocks("text\n\n- item\n  more of it\n- item\n\n    paragraph\n\ntext\n\n      code\n") == []
    assert odd_blocks("- item\n\n      code\n") == ["      code"]
    assert odd_blocks("text\n| a | b |\n") == ["| a | b |"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_both_renderers_see_the_same_lists_and_blocks(page: Path) -> None:
    """GitHub is one of them, and the other one builds the site (see CONTRIBUTING.md)."""
    assert odd_blocks(page.read_text(encoding="utf-8")) == []
