"""Sections of routers and authenticators: their values, and their mistakes with file and line."""

from pathlib import Path

import pytest

from esxiproxy.core.config.errors import BadValue, ConfigError
from esxiproxy.core.config.key import DURATION, NAME, ROUTER, TEMPLATE, Key, SectionKind, path, plain
from esxiproxy.core.config.loader import load
from esxiproxy.core.config.plugin_type import BrokenType, settings_of
from tests.support.plugin_types import PluginType, types

UPSTREAM = "[upstream u]\nurl = wss://192.0.2.10\n"
FLEET = PluginType(
    "fleet",
    Key("file", ROUTER, path("file"), None, "The list.", required=True),
    Key("template", ROUTER, TEMPLATE, None, "The settings."),
    Key("interval", ROUTER, DURATION, "30s", "Time between two looks."),
    Key("match.*", ROUTER, plain("name", str.upper), None, "Names."),
    conflicts=lambda settings, _names: [("file", "is empty")] if settings["file"].name == "empty" else [],
)
STATIC = PluginType("static", Key("upstream", ROUTER, NAME, None, "The upstream."))
TYPES = types(
    [FLEET, STATIC, PluginType("own"), BrokenType("broken", "its package is missing")],
    [PluginType("anonymous"), PluginType("basic")],
)


def read(text):
    return load("x.ini", text.encode(), TYPES)


def listener(keys):
    return f"[listener one]\nlisten = :80\n{keys}"


def problems(text):
    with pytest.raises(ConfigError) as caught:
        read(text)
    return [str(problem).removeprefix("x.ini:") for problem in caught.value.problems]


def test_a_section_has_the_keys_of_its_type():
    config = read(
        listener("router = hosts\n")
        + "[router hosts]\ntype = fleet\nfile = hosts.csv\nmatch.b = x\nmatch.a = y\n"
    )
    (router,) = config.listeners[0].routers
    assert (router.section, router.type) == ("router hosts", FLEET)
    assert router.settings["file"] == Path("hosts.csv").absolute()
    assert (router.settings["interval"], router.settings["template"]) == (30.0, None)
    assert list(router.settings.family("match").items()) == [("b", "X"), ("a", "Y")]
    assert config.routers["hosts"] is router


def test_several_are_kept_in_the_order_in_which_they_are_named():
    (one,) = read(
        listener("router = b, own\nauthenticator = two, basic\n")
        + "[router b]\ntype = own\n[authenticator two]\ntype = basic\n"
    ).listeners
    assert [router.section for router in one.routers] == ["router b", "router own"]
    assert [each.section for each in one.authenticators] == ["authenticator two", "authenticator basic"]


def test_a_listener_with_an_upstream_has_a_router_of_its_own():
    (one,) = read(listener("upstream = u\n") + UPSTREAM).listeners
    (router,) = one.routers
    assert (router.section, router.type, router.settings["upstream"]) == ("listener one", STATIC, "u")
    assert [each.section for each in one.authenticators] == ["authenticator anonymous"]


def test_the_upstream_of_a_listener_can_come_after_other_routers():
    (one,) = read(listener("router = own, static\nupstream = u\n") + UPSTREAM).listeners
    assert [router.section for router in one.routers] == ["router own", "listener one"]


def test_a_template_needs_neither_a_url_nor_a_pin():
    section = "[router hosts]\ntype = fleet\nfile = hosts.csv\ntemplate = u\n"
    config = read(listener("router = hosts\n") + section + "[upstream u]\nverify = pin\n")
    assert config.upstreams["u"].host == ""


BAD = {
    listener("router = hosts\n"): [
        "3: [listener one] router: no [router hosts]: 'hosts' is no type of router: "
        "installed types are broken, fleet, own, static"
    ],
    listener("router = flet\n"): [
        "3: [listener one] router: no [router flet]: 'flet' is no type of router: did you mean fleet? "
        "installed types are broken, fleet, own, static"
    ],
    listener("router = fleet\n"): [
        "3: [listener one] router: no [router fleet]: the type fleet needs file: "
        "write a section [router NAME] with type = fleet"
    ],
    listener("router = broken\n"): [
        "3: [listener one] router: no [router broken]: the type broken cannot be used: its package is missing"
    ],
    listener("router = own\nupstream = u\n") + UPSTREAM: [
        "4: [listener one] upstream: not used: add static to `router`, "
        "or remove it and let the routers choose"
    ],
    listener("router = hosts\n") + "[router hosts]\nfile = x\n": [
        "4: [router hosts] type: missing: installed types are broken, fleet, own, static"
    ],
    listener("router = hosts\n") + "[router hosts]\ntype = stattic\n": [
        "5: [router hosts] type: 'stattic' is no type of router: did you mean static? "
        "installed types are broken, fleet, own, static"
    ],
    listener("router = hosts\n") + "[router hosts]\ntype = basic\n": [
        "5: [router hosts] type: 'basic' is no type of router: installed types are broken, fleet, own, static"
    ],
    listener("router = hosts\n") + "[router hosts]\ntype = broken\n": [
        "5: [router hosts] type: the type broken cannot be used: its package is missing"
    ],
    listener("router = hosts\n") + "[router hosts]\ntype = fleet\n": ["4: [router hosts] file: missing"],
    listener("router = hosts\n") + "[router hosts]\ntype = fleet\nfiel = x\ninterval = 5\n": [
        "6: [router hosts] fiel: unknown key: did you mean file?",
        "7: [router hosts] interval: '5' is no duration: write 500ms, 30s, 10m, 1h or 2d",
    ],
    listener("router = hosts\n") + "[router hosts]\ntype = fleet\nfile = x\nmatch. = y\n": [
        "7: [router hosts] match.: unknown key in [router NAME]"
    ],
    listener("router = hosts\n") + "[router hosts]\ntype = fleet\nfile = empty\n": [
        "6: [router hosts] file: is empty"
    ],
    listener("router = hosts\n") + "[router]\ntype = own\n": [
        "3: [listener one] router: no [router hosts]: 'hosts' is no type of router: "
        "installed types are broken, fleet, own, static",
        "4: [router]: has no name: write [router NAME]",
    ],
    listener("upstream = u\n") + "[upstream u]\nverify = pin\n": [
        "4: [upstream u] url: missing",
        "5: [upstream u] verify: verify = pin needs a key named pin",
    ],
    listener("upstream = u\n") + "[upstream u]\n[router x]\ntype = fleet\nfile = y\ntemplate = u\n": [
        "3: [listener one] upstream: [upstream u] has no url to connect to"
    ],
}


@pytest.mark.parametrize(("text", "expected"), BAD.items(), ids=map(str, range(len(BAD))))
def test_a_mistake_has_its_line(text, expected):
    assert problems(text) == expected


def test_a_type_that_fails_is_a_problem_of_its_section():
    def raises(_settings, _names):
        raise RuntimeError("a bug")

    with pytest.raises(ConfigError) as caught:
        load(
            "x.ini",
            (listener("router = a\n") + "[router a]\ntype = bad\n").encode(),
            types([PluginType("bad", conflicts=raises)], [PluginType("anonymous")]),
        )
    (problem,) = caught.value.problems
    assert str(problem) == (
        "x.ini:5: [router a] type: the type bad failed to check the section: RuntimeError: a bug"
    )


def test_settings_can_be_made_without_a_file(tmp_path):
    settings = settings_of(FLEET, SectionKind.ROUTER, {"file": "a.csv"}, tmp_path)
    assert (settings["file"], settings["interval"]) == (tmp_path / "a.csv", 30.0)
    with pytest.raises(BadValue, match="fiel is no key of the type fleet"):
        settings_of(FLEET, SectionKind.ROUTER, {"fiel": "a.csv"}, tmp_path)


def test_a_type_may_warn_of_a_listener():
    warning = PluginType("warns")
    warning.listener_warnings = lambda _settings, listener: [f"http is {listener['http'].value}"]
    config = load(
        "x.ini",
        (listener("router = a\n") + "[router a]\ntype = warns\n").encode(),
        types([warning], [PluginType("anonymous")]),
    )
    (problem,) = config.warnings
    assert str(problem) == "x.ini:3: warning: [listener one] router: a: http is refuse"
