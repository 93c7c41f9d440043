"""Imports run one way, as docs/architecture.md draws it."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "esxiproxy"

NET_BELOW = {"net.admission", "net.tls", "net.sockets", "net.transport", "net.sessions", "net.coroutines"}
ALLOWED = {
    # core: values, rules and state machines.
    "core": {"core"},
    "core.http": {"core", "core.http"},
    "core.websocket": {"core", "core.http", "core.websocket"},
    "core.session": {"core", "core.http", "core.session"},
    # values that are read from requests and from files of routers, with the types of keys.
    "core.locate": {"core", "core.http", "core.config"},
    "core.inventory": {"core", "core.config", "core.inventory_rows"},
    "core.inventory_rows": {"core", "core.config"},
    "core.websockify_tokens": {"core", "core.config"},
    "core.resolver_answer": {"core", "core.config"},
    "core.config": {"core", "core.http", "core.session", "core.websocket", "core.config"},
    "interfaces": {"core", "core.http", "core.session", "interfaces"},
    "binding": {"core", "core.config", "binding"},
    # net: the way of a connection, from the top.
    "net.listener": {"net", "core", "interfaces", "binding"},
    "net.console": NET_BELOW | {"net.upstream", "net.console", "core", "interfaces"},
    "net.http": NET_BELOW | {"net.upstream", "net.http", "core", "interfaces"},
    "net.upstream": NET_BELOW | {"net.upstream", "net.logins", "core", "interfaces"},
    "net.logins": {"net.sessions", "core", "interfaces"},
    "net.admission": {"net.admission", "net.sockets", "net.transport", "core", "interfaces"},
    "net.tls": {"net.tls", "net.transport", "core"},
    "net.session_publisher": {"net.sessions", "core", "interfaces"},
    "net.sessions": {"core", "interfaces"},
    "net.coroutines": set(),
    "net.sockets": {"net.sockets", "core"},
    "net.transport": {"net.transport", "core"},
    # ops: rooms that know nothing of each other.
    "ops.logs": {"ops.logs", "core", "interfaces"},
    "ops.manhole": {"ops.manhole", "core", "interfaces", "binding"},
    "ops.metrics": {"ops.metrics", "core", "interfaces"},
    "ops.process": {"ops.process", "core"},
    "state": {"state", "core", "interfaces"},
    "routers": {"routers", "plugins", "core", "interfaces"},
    "authenticators": {"authenticators", "plugins", "core", "interfaces"},
    "web": {"web", "net.tls", "core", "interfaces"},
    "plugins": {"plugins", "core", "interfaces"},
    "admin": {"admin", "routers", "plugins", "state", "binding", "web", "vsphere", "core", "interfaces"},
    "vsphere": {"vsphere", "core", "interfaces"},
    "ticket_rewriting": {"ticket_rewriting", "core", "interfaces"},
    "portal": {
        *("portal", "admin", "authenticators", "plugins", "state", "web", "vsphere", "core", "interfaces"),
    },
    "sim": {"sim", "core"},
    "sim.screen": {"sim.screen", "core"},
    "doctor": {"doctor", "net.tls", "core", "interfaces"},
    "doctor.configuration": {"doctor", "net.tls", "ops.process", "core"},
    "nginx": {"nginx", "core"},
    "proxy": {"proxy", "net", "state", "authenticators", "core", "interfaces"},
    "app": {
        *("app", "proxy", "net", "ops", "state", "web", "admin", "vsphere", "plugins", "binding", "core"),
        "ticket_rewriting",
        *("interfaces", "portal", "authenticators"),
    },
    "workers": {"workers", "app", "net", "ops", "binding", "core"},
    "workers.master": {
        "workers.master",
        "workers.shared",
        "workers.plan",
        "ops",
        "binding",
        "core",
    },
    "workers.worker": {"workers.worker", "workers.shared", "workers.plan", "app", "net", "ops", "core"},
    "workers.admin": {
        "workers.admin",
        "workers.shared",
        "workers.plan",
        "workers.worker.report_pipe",
        "app",
        "ops",
        "core",
        "interfaces",
    },
    "workers.shared": {"workers.shared", "workers.plan", "core"},
    "workers.plan": {"workers.plan", "app", "core"},
    "tap": {"tap", "app", "workers", "ops", "core"},
    "__init__": {"app", "proxy", "net", "routers", "core", "interfaces"},
}
"""What a file of each room may import: rooms with all below them, or single files."""
NOT_IN_CORE = ("twisted", "autobahn", "OpenSSL", "zope")
BANNED = {
    *("handler", "manager", "engine", "processor", "component"),
    *("helper", "util", "utils", "common", "misc", "data"),
}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


DEFINITIONS = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Source:
    """The parts of a file that the rules are about, without its syntax tree, which is large."""

    def __init__(self, path):
        text = path.read_text()
        self.lines = len(text.splitlines())
        self.imported, self.full_names, self.names, self.docstrings = [], [], [], []
        self.public_classes = []
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                self.imported += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                self.imported.append(node.module)
                # Names of packages' members are resolved to modules where they are.
                self.full_names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            if isinstance(node, DEFINITIONS | ast.Module):
                self.docstrings.append(ast.get_docstring(node) or "")
            if isinstance(node, DEFINITIONS):
                self.names.append(node.name)
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                bases = {getattr(base, "id", getattr(base, "attr", "")) for base in node.bases}
                if "Protocol" not in bases:
                    self.public_classes.append(node.name)


source = cache(Source)


def dotted(path):
    """Return the name of a file's module within the package."""
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name if name == "__init__" else name.removesuffix(".__init__")


def room(module):
    """Return the room of a module: the longest beginning of its name that has rules."""
    while module not in ALLOWED and "." in module:
        module = module.rpartition(".")[0]
    return module


FOLDERS = {}
for _path in modules():
    FOLDERS.setdefault(_path.parent.relative_to(PACKAGE).as_posix(), []).append(_path)
each_folder = pytest.mark.parametrize("paths", FOLDERS.values(), ids=FOLDERS)


def lies_in(module, allowed):
    """Return whether a module is one of these, or lies below one of them."""
    return any(module == each or module.startswith(f"{each}.") for each in allowed)


@each_folder
def test_a_file_imports_only_lower_rooms(paths):
    for path in paths:
        here = room(dotted(path))
        exact = {"core"} if here.startswith("core") else set()
        for name in source(path).imported:
            top, _, rest = name.partition(".")
            if here.startswith("core"):
                assert top not in NOT_IN_CORE, f"{path} imports {name}"
            if top == "esxiproxy" and here != "cli":
                target = room(rest or "__init__") if here.startswith("core") else rest or "__init__"
                allowed = ALLOWED[here]
                fits = target in allowed if exact else lies_in(target, allowed)
                assert fits, f"{path} imports {name}"


def test_no_module_imports_itself_by_way_of_others():
    """The import graph has no circle, imports for type checking included."""
    names = {dotted(path): path for path in modules()}
    graph = {
        module: {
            name.removeprefix("esxiproxy.")
            for name in source(path).full_names
            if name.removeprefix("esxiproxy.") in names
        }
        for module, path in names.items()
    }
    while ends := {module for module, targets in graph.items() if not targets & graph.keys()}:
        graph = {module: targets - ends for module, targets in graph.items() if module not in ends}
    assert not graph, f"a circle among {sorted(graph)}"


TABLES = {"core/config/schema.py", "core/errors.py"}
"""Files that hold a table and nothing else."""


@each_folder
def test_a_file_is_one_noun_that_reads_in_one_sitting(paths):
    for path in paths:
        assert not BANNED & set(path.stem.split("_")), path
        if path.relative_to(PACKAGE).as_posix() not in TABLES:
            assert source(path).lines <= 400, f"{path} is too long for one sitting"


@each_folder
def test_no_name_has_a_banned_word(paths):
    for path in paths:
        for name in source(path).names:
            words = {word.lower() for word in name.strip("_").split("_")}
            assert not BANNED & words, f"{path}: {name}"


def test_a_public_class_has_a_name_of_its_own():
    """Protocol classes are named for what they want of another class, and may share its name."""
    found = {}
    for path in modules():
        for name in source(path).public_classes:
            found.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


VAGUE = re.compile(r"\b(whoever|nobody|somebody|anybody)\b", re.IGNORECASE)


@each_folder
def test_a_docstring_names_its_subject(paths):
    for path in paths:
        for text in source(path).docstrings:
            assert not VAGUE.search(text), f"{path}: {text}"
            assert not re.match(r"(What|Who|Whoever|Where)\b", text), f"{path}: {text}"
