"""Check what README and docs say of the project."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from esxiproxy.app.preflight import load
from esxiproxy.sim.certificate import load_or_make
from tools.document_keys import PATH, built_in_types, document

ROOT = Path(__file__).resolve().parents[1]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = ("bench", "conf", "deploy", "docs", "esxiproxy", "examples", "tests", "twisted", ".ci")
MADE = {"conf/tls/9-rui.crt", "conf/tls/9-rui.key"}
"""Paths that the reader makes."""

_QUOTED = re.compile(r"`([^`\n]+)`|\]\(([^)#\s]+)[^)]*\)")
_PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)+/?|[\w-]+\.(?:md|ini|cfg|toml|py)")


def paths(text: Path) -> set[str]:
    """Return the paths of this project in backquotes, in links and in indented commands."""
    content = text.read_text(encoding="utf-8")
    spans = [quoted or linked for quoted, linked in _QUOTED.findall(content)]
    spans += [line for line in content.splitlines() if line.startswith("    ")]
    found: set[str] = set()
    for span in spans:
        if "://" in span:
            found.update(word for word in _PATH.findall(re.sub(r"\S+://\S+", "", span)))
        else:
            found.update(_PATH.findall(span))
    return {path for path in found if path.partition("/")[0] in FOLDERS}


def exists(path: str, text: Path) -> bool:
    """Return whether a path exists in the root, in the text's own folder, or inside the package."""
    places = (ROOT, text.parent, ROOT / "esxiproxy")
    return path in MADE or any((place / path).exists() for place in places)


def test_the_reference_of_the_configuration_is_the_table_in_code() -> None:
    """The tables between the markers are made of the table of keys and of those of the types."""
    assert PATH.read_text(encoding="utf-8") == document(), "run: python -m tools.document_keys"


def test_the_reference_has_the_types_of_this_package() -> None:
    """A type that is declared in setup.cfg has a heading."""
    content = PATH.read_text(encoding="utf-8")
    for kind, types in built_in_types().items():
        assert types
        assert all(f"\n### {kind.value.capitalize()} `{name}`\n" in content for name in types)


def test_the_reference_needs_no_optional_package() -> None:
    """The keys of a type are in the reference where the package is missing that the type needs to run."""
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('jwt', 'bcrypt', 'argon2')))\n"
        "from tools.document_keys import PATH, document\n"
        "sys.exit(document() != PATH.read_text(encoding='utf-8'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.name)
def test_every_path_that_is_mentioned_exists(text: Path) -> None:
    """A file that moved takes its mention along."""
    assert {path for path in paths(text) if not exists(path, text)} == set()


def test_the_architecture_names_files_of_the_package() -> None:
    """`net/console/relay.py` there is `esxiproxy/net/console/relay.py`."""
    content = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    named = set(
        re.findall(r"`((?:core|net|ops|sim|doctor|cli|routers|authenticators|vsphere)/[\w./]+)`", content)
    )
    assert named
    assert {path for path in named if not (ROOT / "esxiproxy" / path).exists()} == set()


def test_the_page_on_workers_names_files_of_the_package() -> None:
    """`master/sockets.py` there is `esxiproxy/workers/master/sockets.py`."""
    table = (ROOT / "docs/workers.md").read_text(encoding="utf-8").partition("## Files")[2]
    named = set(re.findall(r"`([\w/]+\.py)`", table))
    assert len(named) > 10
    assert {path for path in named if not (ROOT / "esxiproxy/workers" / path).exists()} == set()


def test_links_lead_somewhere() -> None:
    """A link within the repository, from the file in which it stands."""
    broken = []
    for text in TEXTS:
        for target in re.findall(r"\]\(([^)#\s]+)", text.read_text(encoding="utf-8")):
            if "://" not in target and not (text.parent / target).exists():
                broken.append(f"{text.name}: {target}")
    assert broken == []


def test_the_readme_is_short() -> None:
    """Details are on the pages of docs/."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_every_page_is_in_the_table_of_the_readme() -> None:
    """A page that is not linked is not found."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in TEXTS[1:] if f"(docs/{page.name})" not in readme] == []


@pytest.mark.parametrize("text", [*TEXTS, ROOT / "CHANGELOG.md"], ids=lambda text: text.name)
def test_the_prose_names_its_subjects(text: Path) -> None:
    """The words replace a missing subject, or treat a process as a person (see CONTRIBUTING.md)."""
    words = r"\b(?:whoever|nobody|somebody|anybody|heard|told|buried|deaf)\b"
    prose = re.sub(r"`[^`\n]*`|^    .*$", "", text.read_text(encoding="utf-8"), flags=re.M)
    assert re.findall(words, prose, re.I) == []


@pytest.mark.parametrize("page", ["README.md", "docs/configuration.md"])
def test_the_first_configuration_is_valid(page: str, tmp_path: Path) -> None:
    """The reader copies it into a file and makes a certificate."""
    content = (ROOT / page).read_text(encoding="utf-8")
    block = re.search(r"(?:^    (?:\[|[a-z_]+ = ).*\n|^\n)+", content[content.index("    [") :], re.M)
    assert block is not None
    file = tmp_path / "proxy.ini"
    file.write_text(textwrap.dedent(block.group()), encoding="utf-8")
    (tmp_path / "tls").mkdir()
    load_or_make(tmp_path / "tls" / "console.crt")
    config = load(file)
    assert [listener.upstream for listener in config.listeners] == ["esxi1"]
