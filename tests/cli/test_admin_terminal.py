"""The commands on a real terminal: widths, `top` with Ctrl-C and a change of the size."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest

from esxiproxy.admin.call import ApiError
from esxiproxy.cli import top
from esxiproxy.cli.columns import display_width
from tests.support import admin_rows as rows
from tests.support.commands import CommandOnTerminal
from tests.support.programs import until
from tests.support.running_admin import RunningAdmin, paged

BEGIN, END, CLEAR = "\x1b[?1049h\x1b[?25l", "\x1b[?1049l\x1b[?25h", "\x1b[H\x1b[J"


@pytest.fixture(autouse=True)
def answers(admin: RunningAdmin) -> None:
    """Return answers with long names, of many consoles."""
    many = [
        rows.session(
            number, principal="maximiliane.von.hohenstein@example.com", client="[2001:db8::17]:50000"
        )
        for number in range(1, 101)
    ]
    admin.answers |= {
        "status": rows.status(),
        "list_workers": {"workers": [rows.worker(machine="gate1.consoles.example.com")]},
        "list_listeners": {"listeners": [rows.listener("the-public-listener", address="[2001:db8::1]:443")]},
        "list_sessions": paged("sessions", many),
        "list_hosts": paged("hosts", [rows.host(last_failure="UpstreamRefused: it refused " + "x" * 80)]),
        "list_failures": paged("failures", [rows.failure(detail="word " * 40)]),
        "list_drains": {"drains": [rows.drain(reason="word " * 40)]},
        "list_links": {"links": [rows.link(principals=["alice", "bob", "carol"] * 20)]},
    }


def lines_of(text: str) -> list[str]:
    return text.replace("\r", "").rstrip("\n").split("\n")


@pytest.mark.parametrize("name", ["status", "sessions", "hosts", "drain", "links"])
@pytest.mark.parametrize("width", [80, 60])
def test_a_list_fits_the_terminal(name: str, width: int, admin: RunningAdmin) -> None:
    with CommandOnTerminal(name, "--socket", admin.path, width=width) as terminal:
        assert terminal.status() == 0
        lines = lines_of(terminal.output())
    assert max(map(display_width, lines)) <= width, lines
    if name == "sessions":
        assert (
            lines[0].split()
            == {
                80: ["session", "user", "client", "host", "age", "idle", "down"],
                60: ["session", "user", "host", "age"],
            }[width]
        )
        assert lines[1].split()[0] == "0000000000000001"


def screens(text: str) -> list[list[str]]:
    """Return the lines of each whole screen."""
    shown = text.partition(BEGIN)[2].partition(END)[0]
    return [lines_of(screen) for screen in shown.split(CLEAR)[1:]]


def test_top_fills_the_terminal_and_no_more(admin: RunningAdmin) -> None:
    """The command asks for the rows that it shows, and leaves its last screen in the terminal."""
    arguments = ("top", "--interval", "0.2", "--count", "3", "--socket", admin.path)
    with CommandOnTerminal(*arguments, width=80, height=24) as terminal:
        assert terminal.status() == 0
        text = terminal.output()
    found = screens(text)
    assert len(found) == 3
    for screen in found:
        assert len(screen) == 24 and max(map(display_width, screen)) <= 80
        assert screen[0] == "esxiproxy 9.9 on gate1, up 2h 05m, ready"
    assert {call.parameters["limit"] for call in admin.calls("list_sessions")} == {20}
    assert lines_of(text.partition(END)[2]) == found[-1]


def test_top_follows_a_change_of_the_size_at_once(admin: RunningAdmin) -> None:
    with CommandOnTerminal(
        "top", "--interval", "3600", "--socket", admin.path, width=80, height=24
    ) as terminal:
        terminal.writes("0000000000000014")
        terminal.resize(10, 50)
        terminal.writes("2 open consoles, 512/s up, 20 KiB/s down, ping 12…")
        until(
            lambda: "0000000000000006" in terminal.output().rpartition(CLEAR)[2], "the second screen is whole"
        )
        (first, second) = screens(terminal.output())
        assert (len(first), len(second)) == (24, 10)
        assert max(map(display_width, second)) <= 50
        terminal.signal(signal.SIGINT)
        assert terminal.status() == 0


def test_ctrl_c_ends_top_and_gives_the_terminal_back(admin: RunningAdmin) -> None:
    with CommandOnTerminal("top", "--socket", admin.path) as terminal:
        terminal.writes("0000000000000001")
        terminal.signal(signal.SIGINT)
        assert terminal.status() == 0
        text = terminal.output()
    assert "Traceback" not in text
    after = text.partition(END)[2]
    assert "0000000000000001" in after and "\x1b" not in after


def test_ctrl_c_just_before_the_wait_of_top_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    wait, pending = signal.sigtimedwait, []

    def late(signals: list[signal.Signals], seconds: float) -> Any:
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        pending.append(signal.sigpending())
        return wait(signals, seconds)

    monkeypatch.setattr(signal, "sigtimedwait", late)
    with pytest.raises(KeyboardInterrupt):
        top._wait(20.0)
    assert pending == [{signal.SIGINT}], "it is kept for the wait"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_top_survives_a_proxy_that_is_away_for_a_while(admin: RunningAdmin) -> None:
    """The first line shows the reason meanwhile, and the rest of the screen stays."""
    with CommandOnTerminal("top", "--interval", "0.2", "--socket", admin.path) as terminal:
        terminal.writes("0000000000000001")
        admin.answers["status"] = ApiError(503, "the state cannot be reached")
        terminal.writes(CLEAR + "the state cannot be reached\r\n2 open consoles")
        admin.answers["status"] = rows.status(sessions=77)
        terminal.writes("77 open consoles")
        terminal.signal(signal.SIGINT)
        assert terminal.status() == 0


def test_top_ends_at_once_if_it_cannot_begin(admin: RunningAdmin) -> None:
    with CommandOnTerminal("top", "--socket", f"{admin.path}x") as terminal:
        assert terminal.status() == 3
        text = terminal.output()
    assert "\x1b" not in text and "does not exist" in text


def test_a_list_that_waits_for_figures_says_so(admin: RunningAdmin) -> None:
    unmeasured: Any = rows.session(bytes_up=None)
    answers = iter([unmeasured] * 2)
    admin.answers["list_sessions"] = lambda call: paged("sessions", [next(answers, rows.session())])(call)
    with CommandOnTerminal("sessions", "--socket", admin.path) as terminal:
        assert terminal.status() == 0
        text = terminal.output()
    assert text.startswith("measuring...\r\x1b[Ksession")


def test_ctrl_c_ends_every_command(admin: RunningAdmin) -> None:
    admin.answers["list_sessions"] = paged("sessions", [rows.session(bytes_up=None)])
    with CommandOnTerminal("sessions", "--socket", admin.path) as terminal:
        terminal.writes("measuring...")
        terminal.signal(signal.SIGINT)
        assert terminal.status() == 130
        assert "Traceback" not in terminal.output()


@pytest.mark.parametrize(("width", "height"), [(10, 3), (1, 1), (300, 100)])
def test_top_in_an_odd_terminal(width: int, height: int, admin: RunningAdmin) -> None:
    arguments = ("top", "--count", "1", "--socket", admin.path)
    with CommandOnTerminal(*arguments, width=width, height=height) as terminal:
        assert terminal.status() == 0
        (screen,) = screens(terminal.output())
    assert len(screen) <= height and max(map(display_width, screen)) <= width
