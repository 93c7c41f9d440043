"""The configuration: warnings, and old names of keys."""

import pytest

from esxiproxy.core.config.loader import Severity
from tests.core.config_text import A, L, U, problems, read

ACCEPTS_EVERY_CLIENT = (
    "x.ini:6: warning: [listener a] proxy_protocol: accepts a PROXY header from every client, which "
    "can claim any address: set trusted_proxies"
)


def test_a_warning_is_no_error(folder):
    config = read(L + "proxy_protocol = yes\n")
    assert [str(warning) for warning in config.warnings] == [ACCEPTS_EVERY_CLIENT]
    assert [warning.severity for warning in config.warnings] == [Severity.WARNING]
    assert config.listeners[0].proxy_protocol


@pytest.mark.parametrize(
    "more", ["proxy_protocol = no\n", "proxy_protocol = yes\ntrusted_proxies = 10.0.0.0/8\n", ""]
)
def test_an_unambiguous_file_has_no_warning(folder, more):
    assert read(L + more).warnings == ()


@pytest.mark.parametrize(
    ("old", "new", "value", "read_value"),
    [
        ("beside", "services", "demo", lambda config: config.services),
        ("upgrade_timeout", "worker_shutdown_timeout", "8h", lambda config: config.worker_shutdown_timeout),
        ("queue", "queue_timeout", "5s", lambda config: config.connection_limits.queue_timeout),
    ],
)
def test_the_old_name_of_a_key_works_with_a_warning(folder, old, new, value, read_value):
    config = read(f"{L}[proxy]\n{old} = {value}\n")
    assert read_value(config) == read_value(read(f"{L}[proxy]\n{new} = {value}\n"))
    said = f"old name of {new}: write {new}, the next version does not know {old}"
    assert [str(warning) for warning in config.warnings] == [f"x.ini:7: warning: [proxy] {old}: {said}"]
    assert config.warnings[0].severity is Severity.WARNING
    assert config.problem("proxy", new, "x").line == 7
    assert read(f"{L}[proxy]\n{new} = {value}\n").warnings == ()


def test_an_old_name_beside_the_new_one_is_an_error(folder):
    assert problems(L + "[proxy]\nqueue = 5s\nqueue_timeout = 6s\n") == [
        "x.ini:7: [proxy] queue: given twice: this is the old name of queue_timeout, remove it"
    ]


def test_a_bad_value_is_reported_under_the_name_that_the_file_has(folder):
    assert [
        problem.split(":")[2:4] for problem in problems(U + "queue = soon\n" + A) if "warning" not in problem
    ] == [[" [upstream u] queue", " 'soon' is no duration"]]


def test_an_old_name_is_known_in_its_own_sections_only(folder):
    assert "unknown key" in problems(U + "beside = demo\n" + A)[0]


NO_CONSOLE = "leaves no connection for consoles: plain HTTP may take {} of the {} to each upstream host; "


@pytest.mark.parametrize(
    ("proxy", "upstream", "where", "part", "connections"),
    [
        ("max_connections = 1\n", "", "[proxy] max_connections", 1, 1),
        ("max_http_connections = 64\n", "", "[proxy] max_http_connections", 64, 64),
        ("max_http_connections = 9\n", "max_connections = 8\n", "[upstream u] max_connections", 9, 8),
        ("max_connections = 8\n", "max_http_connections = 8\n", "[upstream u] max_http_connections", 8, 8),
    ],
)
def test_plain_http_that_may_take_every_connection_is_a_warning(
    folder, proxy, upstream, where, part, connections
):
    text = f"[proxy]\n{proxy}{U}{upstream}{A}http = "
    [warning] = read(text + "forward\n").warnings
    said = f": warning: {where}: {NO_CONSOLE.format(part, connections)}"
    assert said in str(warning)
    assert read(text + "refuse\n").warnings == ()


@pytest.mark.parametrize(
    "upstream",
    [
        *("max_connections = 2\n", "max_http_connections = 63\n", "max_connections = off\n"),
        *("max_connections = 1\nmax_http_connections = off\n", ""),
    ],
)
def test_connections_that_are_left_for_consoles_are_no_warning(folder, upstream):
    assert read(U + upstream + A + "http = forward\n").warnings == ()


def test_a_warning_stands_among_the_errors_in_line_order(folder):
    assert problems(L + "colour = blue\nproxy_protocol = yes\nhttp = perhaps\n") == [
        "x.ini:6: [listener a] colour: unknown key in [listener NAME]",
        ACCEPTS_EVERY_CLIENT.replace("x.ini:6", "x.ini:7"),
        "x.ini:8: [listener a] http: 'perhaps' is not refuse, forward or portal",
    ]
    assert problems(L + "proxy_protocol = yes\ntrusted_proxies = nobody\n")[0].startswith(
        "x.ini:7: [listener a] t"
    )


@pytest.mark.parametrize(
    ("state", "secure"),
    [
        ("redis://r1.example.com", "rediss://"),
        ("redis://proxy@192.0.2.1/3", "rediss://"),
        ("redis+sentinel://127.0.0.1,s2/lab", "rediss+sentinel://"),
        ("rediss://r1.example.com", None),
        ("redis://127.0.0.1", None),
        ("redis://localhost", None),
        ("redis+sentinel://[::1],localhost/lab", None),
    ],
)
def test_a_password_of_redis_without_tls_is_a_warning(folder, state, secure):
    (folder / "pw").write_text("pa55word\n")
    found = [
        str(warning) for warning in read(f"{L}[proxy]\nstate = {state}\nstate_password_file = pw\n").warnings
    ]
    text = f"the password passes in plain text: write {secure} unless the network is trusted"
    assert found == ([] if secure is None else [f"x.ini:7: warning: [proxy] state: {text}"])
    assert read(f"{L}[proxy]\nstate = {state.replace('proxy@', '')}\n").warnings == ()
