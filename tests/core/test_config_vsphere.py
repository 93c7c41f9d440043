"""The sections [vsphere NAME]: their values, their mistakes, and the processes that they need."""

import pytest

from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.loader import ConfigError, load
from esxiproxy.core.routing import Identity, Verify
from esxiproxy.core.thumbprint import Pin
from tests.support.config import ini, listener, upstream

SECTION = (
    "[vsphere dc1]\nurl = https://VC.example:8443\nuser = svc@vsphere.local\npassword_file = vc.password\n"
)
PIN = "ab" * 32


@pytest.fixture
def loaded(tmp_path):
    (tmp_path / "vc.password").write_bytes(b"p\xc3\xa4ss word\r\nmore\n")

    def load_text(section, **proxy):
        (tmp_path / "x.ini").write_text(ini(listener(), upstream("ws://h"), **proxy) + section)
        return load(tmp_path / "x.ini")

    return load_text


def problems(loaded, section, **proxy):
    with pytest.raises(ConfigError) as caught:
        loaded(section, **proxy)
    return [f"{problem.section} {problem.key}: {problem.text}" for problem in caught.value.problems]


def test_a_section_is_a_server_with_its_account(loaded, tmp_path):
    config = loaded(SECTION)
    found = config.vspheres["dc1"]
    assert (found.name, found.url, found.user, found.tags) == (
        "dc1",
        "https://vc.example:8443",
        "svc@vsphere.local",
        False,
    )
    assert (found.identity, found.password()) == (Identity(), "päss word")
    assert found.password_file == tmp_path / "vc.password"
    assert "päss" not in repr(config)


def test_the_default_port_and_an_ipv6_address_stand_in_the_url(loaded):
    section = SECTION.replace("VC.example:8443", "[2001:DB8::1]:443/")
    assert loaded(section).vspheres["dc1"].url == "https://[2001:db8::1]"


def test_the_certificate_is_verified_as_that_of_an_upstream(loaded):
    config = loaded(f"{SECTION}verify = pin\npin = sha256:{PIN}\n")
    assert config.vspheres["dc1"].identity == Identity(Verify.PIN, (Pin("sha256", PIN),))
    assert config.vspheres["dc1"].upstream.identity == config.vspheres["dc1"].identity


def test_a_section_starts_a_master_with_an_admin_process_also_with_one_worker(loaded):
    config = loaded(SECTION)
    assert config.workers == 1 and config.needs_master and config.needs_admin_process
    assert not loaded("").needs_master


def test_no_verification_is_a_warning(loaded):
    (warning,) = loaded(f"{SECTION}verify = none\n").warnings
    assert "the password is sent to every server that answers" in str(warning)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("[vsphere dc1]\n", ["url: missing", "user: missing", "password_file: missing"]),
        (SECTION.replace("https", "http"), ["url: 'http://VC.example:8443' is no URL of vCenter"]),
        (SECTION.replace("8443", "8443/sdk"), ["url: 'https://VC.example:8443/sdk' is no URL of vCenter"]),
        (SECTION.replace("VC", "a@VC"), ["url: 'https://***@VC.example:8443' is no URL of vCenter"]),
        (SECTION.replace("vc.password", "none"), ["password_file: no such file: "]),
        (f"{SECTION}verify = pin\n", ["verify: verify = pin needs a key named pin"]),
        (f"{SECTION}pin = sha256:{PIN}\n", ["pin: only with verify = pin"]),
        (f"{SECTION}tags = maybe\n", ["tags: 'maybe'"]),
    ],
)
def test_mistakes_are_reported(loaded, section, expected):
    found = problems(loaded, section)
    assert len(found) == len(expected)
    for problem, beginning in zip(found, expected, strict=True):
        assert problem.startswith(f"vsphere dc1 {beginning}")


def test_a_state_in_memory_is_a_mistake_beside_an_admin_process(loaded):
    (problem,) = problems(loaded, SECTION, state="memory:")
    assert problem.startswith("proxy state: memory: serves one process only: with [vsphere NAME]")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "has no password in its first line"),
        (b"\nsecret\n", "has no password in its first line"),
        (b"secret\x07\n", "has a control character in its first line"),
        (b"secret\xff\n", "is no text in UTF-8"),
        (b"s" * 5000, "has no password in its first line"),
    ],
)
def test_a_password_that_cannot_be_used_is_a_mistake_that_does_not_show_it(loaded, tmp_path, content, text):
    config = loaded(SECTION)
    (tmp_path / "vc.password").write_bytes(content)
    with pytest.raises(BadValue, match=text) as caught:
        config.vspheres["dc1"].password()
    assert "secret" not in str(caught.value)
    assert any(text in problem for problem in problems(loaded, SECTION))
