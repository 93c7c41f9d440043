"""The section of a router of links: its keys, conflicts and warnings."""

import shutil
from types import SimpleNamespace

import pytest
from twisted.internet.defer import maybeDeferred

from esxiproxy.core.config.errors import BadValue, ConfigError
from esxiproxy.core.config.key import SectionKind
from esxiproxy.core.config.loader import load
from esxiproxy.core.config.plugin_type import Names, settings_of
from esxiproxy.routers.links import TYPE, LinkRouter
from tests.routers.link_scene import ESXI, LinkScene
from tests.support.config import ini, listener, router, template
from tests.support.outcome import result
from tests.support.plugin_types import PluginType, types


@pytest.fixture
def scene(tmp_path):
    return LinkScene(tmp_path)


PLACES = ["path:/c/{link}", "path:/a/b.c/{link}", "query:link", "cookie:__Host-console", "subprotocol"]
BAD_PLACES = [
    *("path:/{link}", "path:c/{link}", "path:/c{link}", "path:/c/{host}", "path:/c/", "path:/c/../{link}"),
    *(
        "path://c/{link}",
        "path:/c/{link}/x",
        "path:/%63/{link}",
        "query:",
        "query:a=b",
        "query:a&b",
        "cookie:a;b",
    ),
    *("cookie:", "subprotocol:x", "host:{link}", "header:X", "link", "path:/c/{link}{link}"),
]


@pytest.mark.parametrize("text", PLACES)
def test_a_place_is_read(scene, text):
    assert scene.settings(locate=text)


@pytest.mark.parametrize("text", BAD_PLACES)
def test_an_odd_place_is_refused(scene, text):
    with pytest.raises(BadValue, match="no place of a link"):
        scene.settings(locate=text)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "any", "unix", "10.0.0.0/8,", "0x0a000000/8", "10/8"])
def test_an_odd_network_is_refused(scene, text):
    with pytest.raises(BadValue, match=r"write 10\.0\.0\.0/8"):
        scene.settings(allow=text)


@pytest.mark.parametrize("missing", ["keys", "issuer", "audience", "template", "allow"])
def test_required_keys(scene, missing):
    texts = {"keys": "keys", "issuer": "i", "audience": "a", "template": "esxi", "allow": "10.0.0.0/8"}
    del texts[missing]
    with pytest.raises(BadValue, match=missing):
        settings_of(TYPE, SectionKind.ROUTER, texts, scene.folder)


def conflicts(scene, **changed):
    return list(TYPE.conflicts(scene.settings(**changed), Names({"esxi": ESXI}, frozenset({"esxi"}))))


def test_a_good_section_has_no_conflicts(scene):
    assert conflicts(scene) == conflicts(scene, signing_key="ed") == []


CONFLICTS = {
    "template": ({"template": "gone"}, "template", "no [upstream gone]"),
    "keys": ({"keys": "gone"}, "keys", "cannot be read: No such file"),
    "signing key": ({"signing_key": "gone"}, "signing_key", "no key 'gone'"),
    "public": ({"signing_key": "pub"}, "signing_key", "is public"),
}


@pytest.mark.parametrize("case", CONFLICTS)
def test_a_conflict_names_its_key(scene, case):
    changed, key, text = CONFLICTS[case]
    ((found, told),) = conflicts(scene, **changed)
    assert found == key and text in told


def test_a_missing_package_is_named(scene, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jwt", None)
    assert conflicts(scene) == [
        ("type", "the type links needs the package PyJWT: pip install 'esxiproxy[auth]'")
    ]


def config(scene, state=""):
    text = ini(
        listener(upstream=None, router="issued"),
        router(
            "issued", "links", keys=scene.keys, issuer="i", audience="a", template="u", allow="10.0.0.0/8"
        ),
        template("u"),
        more=state,
    )
    known = types([TYPE], [PluginType("anonymous")])
    return load(scene.folder / "x.ini", text.encode(), known)


def test_a_state_that_a_restart_loses_is_a_warning(scene):
    (warning,) = config(scene).warnings
    assert (warning.section, warning.key, warning.line) == ("router issued", "type", 8)
    assert "state = sqlite:PATH" in warning.text
    assert config(scene, "state = sqlite:state.db").warnings == ()


def test_create_makes_the_router(scene):
    context = SimpleNamespace(
        section="router issued",
        state=scene.state,
        upstreams={"esxi": ESXI},
        watch=lambda *_: None,
        in_thread=maybeDeferred,
    )
    router = TYPE.create(scene.settings(), context)
    assert isinstance(router, LinkRouter)
    shutil.rmtree(scene.keys)
    with pytest.raises(ValueError, match="No such file"):
        result(router.ready())


def test_the_section_is_reported_with_its_line(scene):
    shutil.rmtree(scene.keys)
    with pytest.raises(ConfigError, match=r"x\.ini:9: \[router issued\] keys: .* cannot be read"):
        config(scene)
