"""Problems outside the text of a configuration have their line as well."""

import pytest

from esxiproxy.app.preflight import load_checked
from esxiproxy.core.config.errors import ConfigError
from tests.support import config


def test_a_state_that_cannot_be_opened_ends_the_start(tmp_path):
    path = tmp_path / "proxy.ini"
    state = tmp_path / "state"
    state.write_text("no database")
    sections = config.listener(), config.upstream("ws://192.0.2.10")
    path.write_text(config.ini(*sections, state=f"sqlite:{state}", workers=2))
    with pytest.raises(ConfigError) as caught:
        load_checked(path)
    (problem,) = caught.value.problems
    assert str(problem) == f"{path}:2: [proxy] state: {state}: file is not a database"
    state.unlink()
    assert load_checked(path).state == state


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "No such file or directory"), ("\npa55word\n", "has no password in its first line")],
)
def test_the_password_of_redis_is_looked_for_before_the_start(tmp_path, content, text):
    path, password = tmp_path / "proxy.ini", tmp_path / "password"
    if content is not None:
        password.write_text(content)
    sections = config.listener(), config.upstream("ws://192.0.2.10")
    path.write_text(config.ini(*sections, state="redis://proxy@r1", state_password_file=password))
    with pytest.raises(ConfigError, match=text) as caught:
        load_checked(path)
    assert "pa55word" not in str(caught.value)


def test_the_authorities_of_redis_are_looked_at_before_the_start(tmp_path):
    path, authorities = tmp_path / "proxy.ini", tmp_path / "ca.pem"
    authorities.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    sections = config.listener(), config.upstream("ws://192.0.2.10")
    path.write_text(config.ini(*sections, state="rediss://r1", state_ca=authorities))
    with pytest.raises(ConfigError, match="has a certificate that cannot be read"):
        load_checked(path)


def test_the_authorities_of_vcenter_are_looked_at_before_the_start(tmp_path):
    path, authorities = tmp_path / "proxy.ini", tmp_path / "ca.pem"
    (tmp_path / "vc.password").write_text("pa55word")
    authorities.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    section = (
        "[vsphere dc1]\nurl = https://vc\nuser = u\npassword_file = vc.password\nverify = ca\nca = ca.pem\n"
    )
    path.write_text(config.ini(config.listener(), config.upstream("ws://192.0.2.10")) + section)
    with pytest.raises(ConfigError) as caught:
        load_checked(path)
    (problem,) = caught.value.problems
    assert (problem.section, problem.key) == ("vsphere dc1", "ca") and "ca.pem" in problem.text


def test_a_rule_that_gives_no_right_is_warned_of(tmp_path):
    path = tmp_path / "proxy.ini"
    (tmp_path / "vc.password").write_text("secret\n")
    sections = (
        "[access users]\nwho = alice\nwhat = tag:console\nmay = open\n\n"
        "[access spare]\nwho = bob\nwhat = name:*\nmay = open\n\n"
    )
    vcenter = "[vsphere dc1]\nurl = https://vc\nuser = u\npassword_file = vc.password\ntags = {}\n\n"
    text = sections + config.ini(
        config.listener(upstream=None, router="vms"),
        config.router("vms", "vsphere", vsphere="dc1", access="users", template="esxi"),
        config.template(),
    )
    path.write_text(vcenter.format("no") + text)
    assert [str(each).removeprefix(f"{path}:") for each in load_checked(path).warnings] == [
        "9: warning: [access users] what: no tags are read, so tag: fits no machine: "
        "set tags = yes in [vsphere NAME]",
        "12: warning: [access spare]: no router names this rule in access, so it gives no right",
    ]
    path.write_text(vcenter.format("yes") + text)
    assert [problem.section for problem in load_checked(path).warnings] == ["access spare"]
