"""``esxiproxy status``: the proxy, its workers and listeners, and above all what is broken."""

from __future__ import annotations

from typing import Any

import pytest

from esxiproxy.cli import status as status_command
from esxiproxy.cli.main import main
from tests.support import admin_rows as rows
from tests.support.running_admin import RunningAdmin, paged

Capture = pytest.CaptureFixture[str]
HELP = "See whether the host runs."


def set_answers(admin: RunningAdmin, **changed: Any) -> None:
    """Set the answers of a proxy where everything is in order, with some in their place."""

    def hosts(call: Any) -> Any:
        found = changed.get("down", []) if call.parameters.get("filter") else changed.get("used", [])
        return paged("hosts", found)(call)

    admin.answers = {
        "status": rows.status(**changed.get("status", {})),
        "list_workers": {"workers": changed.get("workers", [rows.worker(0), rows.worker(1)])},
        "list_listeners": {"listeners": changed.get("listeners", [rows.listener()])},
        "list_hosts": hosts,
        "list_failures": paged("failures", changed.get("failures", [])),
    }


def shown(admin: RunningAdmin, capsys: Capture, expected: int = 0) -> list[str]:
    """Return what the command prints."""
    assert main(["status", "--socket", str(admin.path)]) == expected
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


def test_a_proxy_where_everything_is_in_order(admin: RunningAdmin, capsys: Capture) -> None:
    set_answers(admin)
    assert shown(admin, capsys) == [
        "esxiproxy 9.9 on gate1, up 2h 05m, ready",
        "2 open consoles, 512/s up, 20 KiB/s down, ping 12.4 ms",
        "",
        "worker  machine   pid  generation      up  consoles  accepts   lag",
        "0       gate1    4000           1  1h 01m         1  yes      2 ms",
        "1       gate1    4001           1  1h 01m         1  yes      2 ms",
        "",
        "listener  address  consoles  drained  certificate",
        "public    :443            2  no       200 days left",
    ]


def test_a_proxy_that_admits_no_consoles_has_the_status_1(admin: RunningAdmin, capsys: Capture) -> None:
    """The first line says why; so does --json."""
    reasons = ["the proxy is drained", "the shared state is unavailable"]
    set_answers(admin, status={"ready": False, "reasons": reasons, "drains": 1, "machines": ["a", "b"]})
    lines = shown(admin, capsys, 1)
    assert lines[0].endswith(", NOT READY: the proxy is drained; the shared state is unavailable")
    assert lines[2:4] == ["machines: a, b", "1 drain, see esxiproxy drain"]
    assert main(["status", "--json", "--socket", str(admin.path)]) == 1
    assert '"ready": false' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("days", "text"),
    [(None, "-"), (200, "200 days left"), (30, "30 days left"), (29, "EXPIRES IN 29 DAYS"),
     (1, "EXPIRES IN 1 DAY"), (0, "EXPIRES TODAY"), (-1, "EXPIRED")],
)  # fmt: skip
def test_certificates_that_end_soon_are_marked(
    days: int | None, text: str, admin: RunningAdmin, capsys: Capture
) -> None:
    set_answers(admin, listeners=[rows.listener(days=days, limit=100)])
    assert shown(admin, capsys)[-1] == f"public    :443     2 of 100  no       {text}"


def test_hosts_that_are_down_or_nearly_full_are_named(admin: RunningAdmin, capsys: Capture) -> None:
    down = [rows.host(f"esx{number}", health="down") for number in range(1, 8)]
    used = [
        rows.host("esx20", connections=64),
        rows.host("esx21", connections=52),
        rows.host("esx22", connections=51),
        rows.host("esx23", connections=9, limit=None),
        rows.host("esx24", connections=None),
    ]
    set_answers(admin, down=down, used=used)
    assert shown(admin, capsys)[-2:] == [
        "DOWN: esx1, esx2, esx3, esx4, esx5 and 2 more",
        "NEARLY FULL: esx20 (64 of 64), esx21 (52 of 64)",
    ]


def test_many_full_hosts_are_cut_short(admin: RunningAdmin, capsys: Capture) -> None:
    set_answers(admin, used=[rows.host(f"e{number}", connections=64) for number in range(9)])
    assert shown(admin, capsys)[-1].endswith("e4 (64 of 64), ...")


def test_a_failure_that_repeats_does_not_hide_others(admin: RunningAdmin, capsys: Capture) -> None:
    """The newest of each error and host, how often it was, and once for each error what to do."""
    failures = [
        *[rows.failure(seconds_ago=5 + number) for number in range(40)],
        rows.failure(seconds_ago=70, host="esx2"),
        rows.failure("AccessDenied", 3700, host="", principal="", detail="no\x1b[0m login", help="Log in."),
    ]
    set_answers(admin, failures=failures)
    assert shown(admin, capsys)[-6:] == [
        "42 failures, the newest of each kind:",
        "     5s ago  UpstreamRefused (40), bob, esx1: 192.0.2.10:443 refused the connection",
        f"             {HELP}",
        " 1m 10s ago  UpstreamRefused, bob, esx2: 192.0.2.10:443 refused the connection",
        r" 1h 01m ago  AccessDenied, public: no\x1b[0m login",
        "             Log in.",
    ]


def test_only_some_kinds_of_failures_are_shown(admin: RunningAdmin, capsys: Capture) -> None:
    set_answers(admin, failures=[rows.failure(host=f"esx{number}") for number in range(20)])
    lines = shown(admin, capsys)
    assert sum("UpstreamRefused" in line for line in lines) == 5


def test_a_narrow_terminal_gets_wrapped_sentences(
    admin: RunningAdmin, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_command, "terminal_width", lambda: 50)
    set_answers(
        admin,
        down=[rows.host(f"esx{number}.example.com", health="down") for number in range(4)],
        failures=[rows.failure()],
    )
    lines = shown(admin, capsys)
    assert max(map(len, lines[3:])) <= 50
    assert lines[-3:] == [
        "     5s ago  UpstreamRefused, bob, esx1:",
        "             192.0.2.10:443 refused the connection",
        f"             {HELP}",
    ]
