"""The keys of a portal, and the problems that `check` finds in a listener with a page and in its logins."""

import pytest

from esxiproxy.app.preflight import load
from esxiproxy.core.config.errors import ConfigError
from tests.support.config import authenticator, ini, listener, upstream

URL = "https://c.example.com"
USERS = "alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"


@pytest.fixture
def check(tmp_path):
    """Return the configuration, or its problems."""
    (tmp_path / "users").write_text(USERS)

    def check(*sections, session="staff", **proxy):
        staff = authenticator("staff", "htpasswd", file="users")
        login = authenticator("login", "session", providers=session) if session else ""
        (tmp_path / "x.ini").write_text(ini(*sections, upstream("ws://192.0.2.1"), staff, login, **proxy))
        try:
            return load(tmp_path / "x.ini")
        except ConfigError as error:
            return [f"{problem.key}: {problem.text}" for problem in error.problems if problem.is_error]

    return check


def portal(url=URL, **more):
    return listener(http="portal", authenticator="login", public_url=url, **more)


def test_a_portal_needs_a_master_an_admin_process_and_a_socket(check):
    config = check(portal(embed="https://a.example, https://b.example:8443"))
    assert config.has_portal and config.needs_master and config.needs_admin_process and config.workers == 1
    assert config.listeners[0].embed == ("https://a.example:443", "https://b.example:8443")
    plain = check(listener())
    assert not plain.needs_master and not plain.has_portal
    assert check(listener(), workers=2).needs_master


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"url": None}, "http: portal needs a public_url in the same section"),
        ({"url": "http://c.example.com"}, "public_url: is not https://"),
        ({"url": f"{URL}/consoles"}, "public_url: has a path"),
        ({"embed": "any"}, "embed: 'any' is no origin"),
        ({"paths": "/vm/, /c/"}, "paths: leaves out pages of the portal"),
    ],
)
def test_mistakes_of_a_listener(check, keys, problem):
    assert [text.startswith(problem) for text in check(portal(**keys))] == [True]


def test_a_page_on_this_machine_needs_no_tls(check):
    for url in ("http://localhost:8080", "http://127.0.0.1:8080"):
        assert check(portal(url)).has_portal


def test_a_state_in_memory_serves_one_process_only(check):
    assert check(portal(), state="memory:") == [
        "state: memory: serves one process only: http = portal needs sqlite:PATH, or no such key"
    ]


def test_only_a_portal_can_be_embedded(check):
    assert check(listener(embed=URL)) == ["embed: only with http = portal"]


def test_providers_exist_and_check_passwords(check):
    assert check(portal(), session="nobody, login") == [
        "providers: no [authenticator nobody]: there is login, staff",
        "providers: login is of the type session, which cannot check a password",
    ]


def test_a_session_without_a_page_is_named(check):
    config = check(listener(authenticator="login"))
    assert [warning.text for warning in config.warnings] == [
        "login: has no login form on this listener: set http = portal"
    ]
