"""A hook of MkDocs: the pages of the site whose files are not in docs/, and the links to them.

The texts link to files of the repository, so that the links work where the repository is read. On the site,
README.md, CHANGELOG.md and CONTRIBUTING.md are pages, and so is every file of conf/, deploy/ and examples/.
"""

from __future__ import annotations

import posixpath
import re
from functools import cache
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
TEXTS = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
FOLDERS = {
    "conf": "A configuration for each capability.",
    "deploy": "Files for systemd, containers, Kubernetes, Debian, Prometheus and Grafana.",
    "examples": "Programs that embed the proxy, and a plugin package.",
}
"""Folders whose files become pages, and the first sentence of a folder's own page."""
_LANGUAGES = {
    **{".ini": "ini", ".conf": "ini", ".service": "ini", ".socket": "ini", ".toml": "toml", ".py": "python"},
    **{".json": "json", ".yml": "yaml", ".yaml": "yaml"},
}
_LINK = re.compile(r"(\]\()([^)#\s]+)([^)]*\))")
_LEAD = re.compile(r'\A(?:"""((?:(?!""").)+)|((?:[;#] ?[^\n]*\n)+))', re.S)
"""The beginning of a file: its docstring, or the lines of its comment."""
_SENTENCE = re.compile(r".+?(?:\.(?=\s|\Z)|:(?=\s\s|\n|\Z)|(?=\n\n)|\Z)", re.S)
"""A sentence, which ends at a colon as well if a list or a command follows."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of files that are not in docs/."""
    for path, page in pages().items():
        content = (ROOT / path).read_text(encoding="utf-8") if path in TEXTS else _content(path)
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the text of a page with its links to files outside of docs/ led to their pages."""
    here = page.file.src_uri
    source = next((path for path, uri in pages().items() if uri == here), f"docs/{here}")
    if source.partition("/")[0] in FOLDERS:
        return markdown
    return _LINK.sub(lambda link: link[1] + _target(link[2], source, here) + link[3], markdown)


@cache
def pages() -> dict[str, str]:
    """Return the page of each file and folder outside of docs/: paths in the repository, and in the site."""
    found = dict(TEXTS)
    for folder in FOLDERS:
        found[folder] = f"{folder}/index.md"
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix in {*_LANGUAGES, ".csv", ".htpasswd", ".md"}:
                name = path.relative_to(ROOT).as_posix()
                found[name] = f"{name}.md"
    return found


def _target(target: str, source: str, here: str) -> str:
    """Return the target of a link on the page ``here``, whose text is the file ``source``."""
    if "://" in target:
        return target
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    uri = pages().get(path, path.removeprefix("docs/"))
    return posixpath.relpath(uri, posixpath.dirname(here) or ".")


def _content(path: str) -> str:
    """Return the page of a folder, or of a file."""
    place = ROOT / path
    if place.is_file():
        text = place.read_text(encoding="utf-8").rstrip("\n")
        language = _LANGUAGES.get(place.suffix, "text")
        return f"---\nhide:\n  - toc\n---\n# {path}\n\n~~~~{language}\n{text}\n~~~~\n"
    rows = [
        f"| [{name.partition('/')[2]}](../{page}) | {_lead(ROOT / name)} |\n"
        for name, page in pages().items()
        if name.startswith(f"{path}/")
    ]
    return f"# {path}/\n\n{FOLDERS[path]}\n\n| file | content |\n|---|---|\n{''.join(rows)}"


def _lead(file: Path) -> str:
    """Return the first sentence of a file's comment or docstring for a cell of a table, or its first line."""
    text = file.read_text(encoding="utf-8")
    match = _LEAD.match(text)
    if match is None:
        return "" if file.suffix == ".json" else f"`{text.partition(chr(10))[0]}`"
    words = match[1] or re.sub(r"(?m)^[;#] ?", "", match[2])
    sentence = _SENTENCE.match(words)
    return " ".join(sentence[0].rstrip(":").split()).replace("|", "\\|") if sentence else ""
