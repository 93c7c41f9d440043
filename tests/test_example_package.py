"""The package in examples/ is installed into an empty folder, and its plugins serve a real proxy.

Another plugin fails or hangs: each costs its own request, and no other one.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from tests.support.config import ini, listener, upstream
from tests.support.probe import offer
from tests.support.programs import ROOT, Proxy, environment, skip, until
from tests.support.websocket import BINARY
from tests.support.websocket_peers import Client, ScriptedUpstream

PACKAGE = ROOT / "examples" / "plugin_package"
KEY = "an-api-key"
BROKEN = """\
from twisted.internet.defer import Deferred

class Router:
    def __init__(self, hangs):
        self._hangs = hangs

    async def route(self, request, principal):
        if self._hangs:
            await Deferred()
        raise RuntimeError("a bug")

class Type:
    help = "Fails."
    keys = ()

    def __init__(self, name):
        self.name = name

    def conflicts(self, settings, names):
        return ()

    def create(self, settings, context):
        return Router(self.name == "hangs")

RAISES, HANGS = Type("raises"), Type("hangs")
"""
"""A module with a router that raises and one that does not answer."""


def need_wheels() -> None:
    """Skip without a setuptools that makes wheels, or fail where everything has to be there."""
    with_wheels = tuple(map(int, _version("setuptools").split(".")[:2])) >= (70, 1)
    if with_wheels or _version("wheel") != "0":
        return
    skip("pip install 'setuptools>=77'", "the package cannot be built: ")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "0"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a folder with the installed package and nothing else."""
    need_wheels()
    source = tmp_path_factory.mktemp("source") / "plugin_package"
    shutil.copytree(PACKAGE, source)  # a build leaves files beside the sources
    folder = tmp_path_factory.mktemp("installed") / "packages"
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"),
        *("--no-deps", "--no-build-isolation", "--target", folder, source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def configuration(folder: Path, port: int, more: str = "") -> str:
    """Return the configuration of the package's README on free ports, with the file of its clients."""
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    (folder / "clients.txt").write_text(f"# the clients\n{digest} alice lab\n")
    return ini(
        listener(upstream=None, router="lab", authenticator="keys"),
        upstream(port),
        "[router lab]\ntype = team\ngroup = lab\nupstream = esxi1\n",
        f"[authenticator keys]\ntype = api_key\nfile = {folder / 'clients.txt'}\n",
        more,
        decision_timeout="2s",
    )


def esxiproxy(packages: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command with the installed packages."""
    program = "import sys; from esxiproxy.cli.main import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=environment(PYTHONPATH=f"{ROOT}:{packages}"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class PluginProxy(Proxy):
    """A proxy that finds the installed packages."""

    def __init__(self, text: str, packages: Path) -> None:
        super().__init__(text)
        self._packages = packages

    def command(self) -> Sequence[str | Path]:
        return ["env", f"PYTHONPATH={ROOT}:{self._packages}:{self.folder}", *super().command()]


class PluginProxyWithBroken(PluginProxy):
    """A proxy that finds the installed packages and the broken plugins."""

    def __init__(self, text: str, packages: Path) -> None:
        super().__init__(text, packages)
        (self.folder / "broken_plugins.py").write_text(BROKEN)
        offered = {"raises": "broken_plugins:RAISES", "hangs": "broken_plugins:HANGS"}
        offer(self.folder, {"esxiproxy.routers": offered})


@pytest.fixture
def host() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


def echoes(client: Client) -> None:
    """Send a frame through the console and receive it again."""
    client.send_frame(BINARY, b"RFB")
    assert client.recv_frame().payload == b"RFB"


def test_the_types_of_the_package_are_listed(packages: Path) -> None:
    done = esxiproxy(packages, "plugins", "team")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "router team\n    Sends the members of one group to one upstream.\n\n"
        "    group: text, required\n        Name of the group.\n\n"
        "    upstream: name, required\n        NAME of the upstream of the group.\n"
    )


def test_check_knows_the_keys_of_the_package(packages: Path, tmp_path: Path) -> None:
    file = tmp_path / "proxy.ini"
    good = configuration(tmp_path, 80)
    file.write_text(good)
    done = esxiproxy(packages, "check", file)
    assert (done.returncode, done.stderr) == (0, "")
    mistakes = {
        "group = lab": ("grup = lab", "[router lab] grup: unknown key: did you mean group?"),
        "upstream = esxi1": ("upstream = gone", "upstream: there is no [upstream gone] with a url"),
        "clients.txt": ("gone.txt", "[authenticator keys] file: cannot be read: "),
    }
    for old, (new, expected) in mistakes.items():
        file.write_text(good.replace(old, new))
        done = esxiproxy(packages, "check", file)
        assert done.returncode == 1 and expected in done.stderr, done.stderr


def test_the_configuration_of_its_readme_is_valid(packages: Path, tmp_path: Path) -> None:
    text = (PACKAGE / "README.md").read_text()
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", text, re.M)
    (block,) = (block for block in blocks if "[listener" in block)
    (tmp_path / "proxy.ini").write_text(re.sub(r"^ {4}", "", block, flags=re.M))
    (line,) = re.findall(r"^ {4}([0-9a-f]{64} \w+ \w+)$", text, re.M)
    assert line.split()[0] == hashlib.sha256(KEY.encode()).hexdigest()
    (tmp_path / "clients.txt").write_text(f"{line}\n")
    done = esxiproxy(packages, "check", tmp_path / "proxy.ini")
    assert done.returncode == 0, done.stderr


def test_a_console_opens_through_the_plugins(packages: Path, tmp_path: Path, host: ScriptedUpstream) -> None:
    with (
        PluginProxy(configuration(tmp_path, host.port), packages) as proxy,
        Client(proxy.ports["one"]) as client,
    ):
        client.open("/console", ["binary"], fields=[("X-Api-Key", KEY)])
        echoes(client)
        request = host.connection().request
        assert request is not None and request.line.split()[1] == "/console"
        assert not request.all("X-Api-Key")
        for fields in ([], [("X-Api-Key", "another-key")]):
            with Client(proxy.ports["one"]) as refused:
                assert refused.ask("/console", fields=fields).status == 401
        echoes(client)
        assert KEY not in proxy.log() and "another-key" not in proxy.log()
        assert len(host.connections) == 1


def test_a_plugin_that_fails_disturbs_no_other_request(
    packages: Path, tmp_path: Path, host: ScriptedUpstream
) -> None:
    more = "".join(
        listener(name, upstream=None, router=f"{name}1") + f"[router {name}1]\ntype = {name}\n\n"
        for name in ("raises", "hangs")
    )
    with (
        PluginProxyWithBroken(configuration(tmp_path, host.port, more), packages) as proxy,
        Client(proxy.ports["one"]) as client,
        Client(proxy.ports["hangs"]) as hanging,
        Client(proxy.ports["raises"]) as raising,
        Client(proxy.ports["one"]) as later,
    ):
        client.open("/console", fields=[("X-Api-Key", KEY)])
        hanging.send_opening("/console")
        assert raising.ask("/console").status == 500
        echoes(client)
        assert hanging.recv_head().status == 504
        until(lambda: "the router hangs1 did not answer within 2 s" in proxy.log(), "the log has its name")
        assert "the router raises1 failed in session" in proxy.log()
        assert "RuntimeError: a bug" in proxy.log()
        later.open("/console", fields=[("X-Api-Key", KEY)])
        echoes(later)
        echoes(client)


def code_blocks() -> list[str]:
    """Return the Python code on the page about plugins."""
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)


def test_the_code_of_the_page_is_that_of_the_package() -> None:
    source = (PACKAGE / "team_consoles.py").read_text()
    router, authenticator = code_blocks()[0], next(code for code in code_blocks() if "x-api-key" in code)
    assert router[router.index("@implementer") :] in source
    assert textwrap.indent(authenticator, "    ") in source


def test_the_test_of_the_page_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PACKAGE)
    names: dict[str, Any] = {}
    exec(next(code for code in code_blocks() if "def test_" in code), names)
    tests = [function for name, function in names.items() if name.startswith("test_")]
    assert tests
    for function in tests:
        function(tmp_path)
