"""Limits and timeouts that contradict the machine, the hosts or one another."""

from __future__ import annotations

from pathlib import Path

import pytest

from esxiproxy.app.preflight import load
from esxiproxy.doctor.configuration.limits import limit_findings
from esxiproxy.doctor.configuration.machine import ProxyMachine
from esxiproxy.doctor.configuration.result import CheckKind, CheckResult, CheckVerdict
from esxiproxy.doctor.configuration.timeouts import timeout_findings
from tests.support.config import authenticator, ini, listener, router, template, upstream

LARGE = ProxyMachine(open_files=524_288, cpus=64, ports=28_232, backlog=4096)


def findings(folder: Path, text: str, machine: ProxyMachine = LARGE) -> list[CheckResult]:
    file = folder / "proxy.ini"
    file.write_text(text)
    config = load(file)
    found = [*limit_findings(config, machine), *timeout_findings(config)]
    assert all((each.kind, each.verdict) == (CheckKind.LIMIT, CheckVerdict.WARNING) for each in found)
    return found


Case = tuple[str, str, ProxyMachine, str, str, str]
CASES: list[Case] = [
    (
        "max_connections of ESXi",
        ini(listener(), upstream(9, max_connections=128)),
        LARGE,
        "upstream esxi1",
        "max_connections",
        "128 connections, and an ESXi host accepts 128 in all",
    ),
    (
        "max_connections off for all",
        ini(listener(), upstream(9), max_connections="off"),
        LARGE,
        "proxy",
        "max_connections",
        "is off, and an ESXi host accepts 128",
    ),
    (
        "max_connections of a listener",
        ini(listener(max_connections=200), upstream(9)),
        LARGE,
        "listener one",
        "max_connections",
        "200 connections",
    ),
    (
        "max_connections of a template",
        ini(
            listener(),
            upstream(9),
            template(max_connections=500, verify="none"),
            router("tokens", "tokens", source=".", template="esxi", allow="10.0.0.0/8"),
        ),
        LARGE,
        "upstream esxi",
        "max_connections",
        "500 connections",
    ),
    (
        "ephemeral ports",
        ini(listener(), upstream(9, max_connections=100)),
        ProxyMachine(524_288, 64, ports=50),
        "upstream esxi1",
        "max_connections",
        "this machine has 50: widen net.ipv4.ip_local_port_range",
    ),
    (
        "open files for the sessions",
        ini(listener(max_sessions=600), upstream(9)),
        ProxyMachine(1024, 64),
        "proxy",
        "max_sessions",
        "the limit on open files, 1024, is enough for 479 consoles, and the listeners allow 600",
    ),
    (
        "open files for few sessions",
        ini(listener(), upstream(9)),
        ProxyMachine(256, 64),
        "proxy",
        "",
        "is enough for 95 consoles: raise it (LimitNOFILE= in systemd",
    ),
    (
        "workers and CPUs",
        ini(listener(), upstream(9), workers=8),
        ProxyMachine(524_288, 2),
        "proxy",
        "workers",
        "8 workers share 2 CPUs: write workers = auto",
    ),
    (
        "handshakes and workers",
        ini(listener(max_handshakes=3), upstream(9), workers=8),
        LARGE,
        "listener one",
        "max_handshakes",
        "3 is less than one for each of the 8 workers",
    ),
    (
        "handshakes and the system's queue",
        ini(listener(), upstream(9)),
        ProxyMachine(524_288, 64, backlog=128),
        "proxy",
        "max_handshakes",
        "queues 128 new connections of a listener (net.core.somaxconn), and the proxy asks for 512",
    ),
    (
        "connect_timeout",
        ini(listener(), upstream(9, connect_timeout="10s")),
        LARGE,
        "upstream esxi1",
        "connect_timeout",
        "10 s never pass before upstream_handshake_timeout, 10 s, which includes it",
    ),
    (
        "upstream_handshake_timeout of all",
        ini(listener(), upstream(9), upstream_handshake_timeout="3s"),
        LARGE,
        "proxy",
        "connect_timeout",
        "5 s never pass before upstream_handshake_timeout, 3 s",
    ),
    (
        "a listener and its upstream together",
        ini(listener(upstream_handshake_timeout="8s"), upstream(9, connect_timeout="9s")),
        LARGE,
        "upstream esxi1",
        "connect_timeout",
        "9 s never pass before upstream_handshake_timeout, 8 s",
    ),
    (
        "idle_timeout",
        ini(listener(idle_timeout="2h", max_lifetime="1h"), upstream(9)),
        LARGE,
        "listener one",
        "idle_timeout",
        "7200 s never pass before max_lifetime, 3600 s",
    ),
    (
        "failover_delay",
        ini(listener(), upstream("ws://10.0.0.1, ws://10.0.0.2, ws://10.0.0.3", failover_delay="5s")),
        LARGE,
        "upstream esxi1",
        "failover_delay",
        "the last of 3 addresses is tried after 10 s without an answer",
    ),
    (
        "an authenticator's service",
        ini(
            listener(authenticator="sso"),
            upstream(9),
            authenticator("sso", "forward", url="http://127.0.0.1:9/", timeout="20s"),
        ),
        LARGE,
        "authenticator sso",
        "timeout",
        "20 s never pass before decision_timeout, 10 s",
    ),
]


@pytest.mark.parametrize(
    ("text", "machine", "section", "key", "words"), [row[1:] for row in CASES], ids=[row[0] for row in CASES]
)
def test_a_contradiction(
    tmp_path: Path, text: str, machine: ProxyMachine, section: str, key: str, words: str
) -> None:
    """The finding has the section that sets the value, and the correction."""
    (found,) = findings(tmp_path, text, machine)
    assert (found.section, found.name) == (section, key)
    assert words in found.finding


@pytest.mark.parametrize(
    "text",
    [
        ini(listener(), upstream(9)),
        ini(listener(), upstream(9, max_connections=127), workers=64),
        ini(listener(max_sessions=200_000), upstream(9)),
        ini(listener(), upstream("ws://10.0.0.1, ws://10.0.0.2")),
        ini(listener(idle_timeout="1h", max_lifetime="2h"), upstream(9)),
    ],
)
def test_limits_that_fit_give_no_finding(tmp_path: Path, text: str) -> None:
    assert findings(tmp_path, text) == []


def test_a_wrong_value_of_proxy_is_one_finding_however_many_sections_have_it(tmp_path: Path) -> None:
    upstreams = [upstream(number, f"esxi{number}") for number in range(1, 30)]
    listeners = [listener(f"l{number}", f"esxi{number}") for number in range(1, 30)]
    text = ini(*listeners, *upstreams, max_connections="off", connect_timeout="1m")
    assert [each.name for each in findings(tmp_path, text)] == ["max_connections", "connect_timeout"]


def test_several_workers_share_the_sessions(tmp_path: Path) -> None:
    """Each worker has the limit on open files for itself."""
    text = ini(listener(max_sessions=1800), upstream(9), workers=4)
    assert findings(tmp_path, text, ProxyMachine(1024, 64)) == []
    text = ini(listener(max_sessions=2000), upstream(9), workers=4)
    (found,) = findings(tmp_path, text, ProxyMachine(1024, 64))
    assert "is enough for 479 consoles in each worker, and the listeners allow 2000" in found.finding


def test_the_limits_of_this_machine() -> None:
    machine = ProxyMachine.read()
    assert machine.open_files > 100 and machine.cpus >= 1


def test_the_limits_in_files_of_the_kernel(tmp_path: Path) -> None:
    """A number that is missing or that cannot be read is unknown."""
    net = tmp_path / "proc/sys/net"
    for folder in ("ipv4", "core"):
        (net / folder).mkdir(parents=True)
    assert (ProxyMachine.read(tmp_path).ports, ProxyMachine.read(tmp_path).backlog) == (None, None)
    (net / "ipv4/ip_local_port_range").write_text("32768\t60999\n")
    (net / "core/somaxconn").write_text("4096\n")
    assert (ProxyMachine.read(tmp_path).ports, ProxyMachine.read(tmp_path).backlog) == (28_232, 4096)
    (net / "core/somaxconn").write_text("many\n")
    assert ProxyMachine.read(tmp_path).backlog is None
