"""The table of the keys, and the reference that is generated from it."""

from dataclasses import fields
from pathlib import Path

import pytest

from esxiproxy.core.config.key import DURATION, NAME, ROUTER, Key, SectionKind
from esxiproxy.core.config.plugin_type import BrokenType
from esxiproxy.core.config.reference import TOPICS, reference, topic_of
from esxiproxy.core.config.schema import KEYS, keys_of
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session_limits import SessionLimits
from tests.core.config_text import A, L, U, problems, read
from tests.support.plugin_types import PluginType, types


def test_every_limit_is_a_key_with_its_default():
    table = {key.name: key for key in KEYS}
    places = [(key.name, section) for key in KEYS for section in key.sections]
    assert len(set(places)) == len(places)
    for field in (*fields(SessionLimits), *fields(ConnectionLimits)):
        key = table[field.name]
        assert key.type.parse(key.default, Path()) == field.default
        alone = field.name == "drain_timeout"  # the proxy drains as a whole
        assert alone == (SectionKind.LISTENER not in key.sections)
        assert SectionKind.PROXY in key.sections


@pytest.mark.parametrize("key", [key for key in KEYS if key.default], ids=lambda key: key.name)
def test_every_default_can_be_written(folder, key):
    Path("password").write_text("secret\n")
    section = {
        SectionKind.PROXY: "[proxy]\n",
        SectionKind.LISTENER: A,
        SectionKind.UPSTREAM: U,
        SectionKind.VSPHERE: "[vsphere v]\nurl = https://h\nuser = u\npassword_file = password\n",
    }[key.sections[0]]
    # These need a certificate, or a Redis server.
    refused = key.name in ("tls_minimum", "client_certificates", "state_down")
    text = f"{L.replace(section, '')}{section}{key.name} = {key.default}\n"
    anonymous = types(authenticators=[PluginType("anonymous")])
    assert len(problems(text, anonymous)) == 1 if refused else read(text, anonymous)


def test_the_reference_has_a_row_for_every_key():
    rows = [line for line in reference({}).splitlines() if line.startswith("|")]
    names = [row.split(" | ")[0].strip("|` ") for row in rows if row.startswith("| `")]
    assert sorted(names) == sorted(key.name for key in KEYS)
    assert {row.count("|") for row in rows} == {6}
    assert "| `close_timeout` | duration | `5s` | `[proxy]`, `[listener]`, `[upstream]` |" in reference({})


def test_the_reference_has_a_table_for_every_topic():
    assert {topic_of(key) for key in KEYS} == set(TOPICS)
    headings = [line.removeprefix("### ") for line in reference({}).splitlines() if line.startswith("### ")]
    assert headings == list(TOPICS)


def test_the_reference_has_the_keys_of_types_after_the_topics():
    fleet = PluginType(
        "fleet",
        Key("file", ROUTER, NAME, None, "The list.", required=True),
        Key("interval", ROUTER, DURATION, "30s", "Time between two looks."),
    )
    installed = types([PluginType("zone"), fleet], [PluginType("anonymous")])
    assert reference(installed).removeprefix(reference({})) == (
        "\n### Router `fleet`\n\nA type of a test.\n\n"
        "| key | type | default | meaning |\n"
        "| --- | --- | --- | --- |\n"
        "| `file` | name | required | The list. |\n"
        "| `interval` | duration | `30s` | Time between two looks. |\n"
        "\n### Router `zone`\n\nA type of a test.\nThis type has no keys.\n"
        "\n### Authenticator `anonymous`\n\nA type of a test.\nThis type has no keys.\n"
    )


def test_the_reference_lacks_no_type_that_cannot_be_imported():
    with pytest.raises(ValueError, match="the router fleet cannot be documented: it is gone"):
        reference(types([BrokenType("fleet", "it is gone")]))


def test_an_upstream_has_the_limits_that_are_its_own():
    limits = {field.name for field in fields(SessionLimits)}
    assert limits - set(keys_of(SectionKind.UPSTREAM)) == {
        "head_timeout",
        "tls_handshake_timeout",
        "decision_timeout",
        "keepalive_timeout",
        "drain_timeout",
        "max_body",
        "min_body_rate",
    }
