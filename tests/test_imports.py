"""Imports run one way, as docs/architecture.md draws it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "esxiproxy"

ALLOWED = {
    "core": {"core"},
    "interfaces": {"core", "interfaces"},
    "binding": {"binding", "core"},
    "net": {"core", "interfaces", "binding", "net"},
    "ops": {"core", "interfaces", "binding", "ops"},
    "state": {"core", "interfaces", "state"},
    "routers": {"core", "interfaces", "routers"},
    "authenticators": {"core", "interfaces", "authenticators"},
    "registry": {"core", "interfaces", "registry"},
    "sim": {"core", "sim"},
    "doctor": {"core", "interfaces", "net", "doctor"},
    "proxy": {"core", "interfaces", "net", "state", "authenticators", "proxy"},
    "listeners": {"core", "binding", "net", "listeners"},
    "beside": {"core", "interfaces", "ops", "registry", "beside"},
    "service": {"core", "net", "ops", "state", "registry", "listeners", "beside", "proxy", "service"},
    "preflight": {"core", "net", "registry", "state", "preflight"},
    "reload": {"core", "preflight", "reload"},
    "workers": {"binding", "core", "net", "ops", "preflight", "service", "workers"},
    "tap": {"core", "ops", "preflight", "reload", "service", "workers", "tap"},
    "nginx": {"core", "nginx"},
    "__init__": {"core", "interfaces", "net", "routers", "proxy", "service", "__init__"},
}
NOT_IN_CORE = ("twisted", "autobahn", "OpenSSL", "zope")
BANNED = {
    *("handler", "manager", "engine", "processor", "component"),
    *("helper", "util", "utils", "common", "misc", "data", "info"),
}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def room(path):
    """The part of the house that a file belongs to."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_stands_below_it(path):
    here = room(path)
    for name in imported(path):
        top, _, rest = name.partition(".")
        if here == "core":
            assert top not in NOT_IN_CORE, f"{path} imports {name}"
        if top == "esxiproxy" and here != "cli":
            assert (rest.split(".")[0] or "__init__") in ALLOWED[here], f"{path} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_is_one_noun_that_reads_in_one_sitting(path):
    assert not BANNED & set(path.stem.split("_")), path
    assert len(path.read_text().splitlines()) <= 400, f"{path} is too long for one sitting"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_names_say_something(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            words = {word.lower() for word in node.name.strip("_").split("_")}
            assert not BANNED & words, f"{path}: {node.name}"
