"""``esxiproxy plugins``."""

import pytest

from esxiproxy.cli import plugins
from esxiproxy.cli.main import main
from esxiproxy.core.config.key import AUTHENTICATOR, DURATION, ROUTER, Key, path
from esxiproxy.core.config.plugin_type import BrokenType
from esxiproxy.plugins import installed_types
from tests.support.plugin_types import PluginType, types

FLEET = PluginType(
    "fleet",
    Key("file", ROUTER, path("file"), None, "The list of hosts.", required=True),
    Key("interval", ROUTER, DURATION, "30s", "Time between two looks."),
    Key("note", ROUTER, path("text"), None, "word " * 40),
)
DOOR = PluginType("door", Key("word", AUTHENTICATOR, path("text"), None, "The word."))
BROKEN = BrokenType("broken", "broken:TYPE of the package broken cannot be loaded: no module named gone")


@pytest.fixture
def installed(monkeypatch):
    """Install these types."""

    def install(routers=(), authenticators=()):
        monkeypatch.setattr(plugins, "installed_types", lambda: types(routers, authenticators))

    return install


def test_types_are_listed_with_their_keys(installed, capsys):
    installed([PluginType("plain"), FLEET], [DOOR])
    assert main(["plugins"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.replace(f"{('word ' * 18).strip()}\n        ", "word... ").splitlines() == [
        "router fleet",
        "    A type of a test.",
        "",
        "    file: file, required",
        "        The list of hosts.",
        "",
        "    interval: duration, default 30s",
        "        Time between two looks.",
        "",
        "    note: text",
        "        word... word... word word word word",
        "",
        "router plain",
        "    A type of a test.",
        "",
        "authenticator door",
        "    A type of a test.",
        "",
        "    word: text",
        "        The word.",
    ]


def test_one_type_is_shown(installed, capsys):
    installed([FLEET, BROKEN], [DOOR])
    assert main(["plugins", "door"]) == 0
    assert capsys.readouterr() == (
        "authenticator door\n    A type of a test.\n\n    word: text\n        The word.\n",
        "",
    )


def test_a_name_of_both_kinds_shows_both(installed, capsys):
    installed([PluginType("same")], [PluginType("same")])
    assert main(["plugins", "same"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.endswith("same")] == [
        "router same",
        "authenticator same",
    ]


def test_a_broken_type_is_listed_with_its_reason(installed, capsys):
    installed([BROKEN, PluginType("plain")], [])
    assert main(["plugins"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith(f"router broken cannot be used: {BROKEN.reason} router plain")
    assert main(["plugins", "broken"]) == 1
    assert "no module named gone" in " ".join(capsys.readouterr().out.split())


def test_an_object_that_is_no_type_is_listed_with_its_reason(installed, capsys):
    wrong = PluginType("wrong")
    wrong.keys = ("file",)
    installed([wrong, PluginType("plain")], [])
    assert main(["plugins"]) == 0
    out = capsys.readouterr().out
    assert "router wrong\n    cannot be used: its help or its keys are wrong: 'str' object has no" in out
    assert "router plain\n    A type of a test.\n" in out
    assert main(["plugins", "wrong"]) == 1


def test_an_unknown_type_is_an_error(installed, capsys):
    installed([FLEET], [DOOR])
    assert main(["plugins", "fleat"]) == 1
    assert capsys.readouterr() == (
        "",
        "esxiproxy plugins: 'fleat' is no type of router: did you mean fleet? installed types are fleet\n"
        "esxiproxy plugins: 'fleat' is no type of authenticator: installed types are door\n",
    )


def test_the_types_of_this_package_are_listed(capsys):
    assert main(["plugins"]) == 0
    out = capsys.readouterr().out
    keys = [key for each in installed_types().values() for found in each.values() for key in found.keys]
    assert len(keys) > 20 and all(f"\n    {key.name}: " in out for key in keys)
    assert "router static\n" in out and "authenticator anonymous\n" in out
