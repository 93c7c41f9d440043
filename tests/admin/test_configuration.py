"""The configuration in force is shown as it was written, without comments and without secrets."""

from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from esxiproxy.admin.api.configuration import shown_configuration
from esxiproxy.admin.api.reload import ReloadActions
from esxiproxy.admin.call import Call
from esxiproxy.admin.control import ReloadOutcome
from esxiproxy.app.preflight import load
from esxiproxy.core.config import ini as parser
from esxiproxy.core.config.model import Config
from tests.admin.scene import OPERATOR, Admin, check
from tests.state.world import MemoryWorld
from tests.support.admin_site import StandInControl
from tests.support.certificates import self_signed
from tests.support.config import ini, listener, upstream
from tests.support.outcome import result

CONF = Path(__file__).parents[2] / "conf"
SECRET = "Hunter2-Kjq8"


def shown(text):
    return {
        section["header"]: section["keys"]
        for section in shown_configuration(Config(Path("a.ini"), (), {}, content=text.encode()))["sections"]
    }


def test_the_sections_and_keys_are_shown_as_written(tmp_path):
    certificate = self_signed(tmp_path)
    path = tmp_path / "proxy.ini"
    text = ini(
        listener("secure", tls=certificate, more="# a comment with " + SECRET),
        upstream("ws://192.0.2.10", more="idle_timeout = 5m   ; another comment"),
    )
    path.write_text(text)
    admin = Admin(MemoryWorld(tmp_path), config=load(path))
    found = admin.call("configuration")
    assert found["path"] == str(path) and SECRET not in str(found)
    assert [section["header"] for section in found["sections"]] == [
        *("proxy", "listener secure", "upstream esxi1"),
    ]
    keys = {section["header"]: section["keys"] for section in found["sections"]}
    assert keys["listener secure"]["private_key"] == str(certificate.key_path)
    assert keys["upstream esxi1"] == {"url": "ws://192.0.2.10", "idle_timeout": "5m"}
    assert "PRIVATE KEY" not in str(found) and "BEGIN" not in str(found)


def test_warnings_are_shown(tmp_path):
    path = tmp_path / "proxy.ini"
    path.write_text(ini(listener(), upstream("ws://192.0.2.10"), more="state = memory:"))
    config = load(path)
    found = Admin(MemoryWorld(tmp_path), config=config).call("configuration")
    assert [each["text"] for each in found["warnings"]] == [each.text for each in config.warnings]


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("upstream a", f"url = wss://root:{SECRET}@192.0.2.1"),
        ("upstream a", f"url = wss://192.0.2.1, wss://root:{SECRET}@192.0.2.2"),
        ("upstream a", f"url = wss://192.0.2.1/ticket/{SECRET}"),
        ("upstream a", f"url = wss://192.0.2.1/?token={SECRET}"),
        ("router a", f"url = https://resolver.example/?api_key={SECRET}"),
        ("router a", f"password = {SECRET}"),
        ("router a", f"client_secret = {SECRET}"),
        ("router a", f"Secret = {SECRET}"),
        ("router a", f"bearer_token = {SECRET}"),
        ("router a", f"api_key = {SECRET}"),
        ("router a", f"psk = {SECRET}"),
        ("router a", f"field.authorization = {SECRET}"),
        ("router a", f"field.x = Authorization: Basic {SECRET}"),
        ("authenticator a", f"cookie_key = {SECRET}"),
        ("authenticator a", f"bind_pw = {SECRET}"),
        ("unknown", f"password = {SECRET}"),
    ],
)
def test_secrets_are_replaced(section, line):
    found = shown(f"[{section}]\n{line}\n")
    assert SECRET not in str(found) and "***" in str(found)


@pytest.mark.parametrize("file", sorted(CONF.glob("*.ini")), ids=lambda file: file.stem)
def test_the_examples_are_shown_as_they_are_written(file):
    sections, _problems = parser.parse(file.read_bytes(), "a.ini")
    found = shown(file.read_text())
    hidden = {
        (section.header, key)
        for section in sections
        for key, entry in section.entries.items()
        if found[section.header][key] != entry.text
    }
    # The types of plugins are not loaded here, which know that client_secret_file is a path.
    # What stands behind /ticket/ is hidden, as a ticket is.
    hidden -= {("authenticator sso", "client_secret_file"), ("router vmrc", "locate")}
    assert hidden <= {("authenticator sso", "from")}, "the name of a cookie, which says token"


def test_the_outcome_of_a_reload_has_no_secret():
    control = StandInControl(Clock())
    control.outcome = ReloadOutcome(False, ("plugin: https://joe:pa55word@h/ticket/cst-VCT-52fe is down",))
    answer = result(Deferred.fromCoroutine(ReloadActions(control).reload(Call(OPERATOR))))
    check("Reloaded", answer)
    assert answer == {"reloaded": False, "problems": ["plugin: https://***@h/ticket/*** is down"]}
