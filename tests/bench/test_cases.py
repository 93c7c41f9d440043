"""The load of each case, and its differences between peers, modes and variants of TLS."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bench.cases import cases
from bench.modes import LISTENERS, MODES, RSA, TICKETS, WARM
from bench.peers import KINDS

CASES = cases((1000,))
HTTP = ("get", "get_new", "download", "download_chunked", "upload", "upload_chunked")
SESSIONS = ("open", "drop", "resume", "rsa", "cold")
FIGURES = {"rate": 7.0, "resumed": 1.0, "cpu": 0.5, "wanted": 0.6, "load": 0.4}


class Loads:
    """A stage that keeps the loads that it is asked for."""

    def __init__(self, has_http: bool = True) -> None:
        self.programs = SimpleNamespace(has_http=has_http)
        self.asked: list[tuple[str, str, str, dict[str, float]]] = []

    def load(self, case, peer, mode, variant=WARM, **options):
        self.asked.append((case, mode.name, variant, options))
        return dict(FIGURES)


def asked(case, mode, name="nginx", has_http=True):
    """Measure one peer, check its figures, and return the loads that were asked for."""
    stage = Loads(has_http)
    peer = SimpleNamespace(name=name, raw=KINDS[name].raw)
    for measured, figures in CASES[case].measure(stage, MODES[mode], [peer]):
        assert measured is peer
        assert figures[case] == 7.0
        assert (figures["cpu"], figures["wanted"], figures["load"]) == (0.5, 0.6, 0.4)
    return stage.asked


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", SESSIONS)
def test_sessions_go_to_a_listener_that_every_peer_has(case, mode):
    listeners = {(of.name, variant) for of, variant in LISTENERS}
    for name in KINDS:
        for _case, used, variant, _options in asked(case, mode, name):
            assert (used, variant) in listeners


def test_new_sessions_are_measured_with_tickets_and_without_a_close_too():
    assert asked("open", "wss-wss") == [("open", "wss-wss", TICKETS, {"connections": 8, "resume": 0})]
    assert asked("open", "ws-ws")[0][2] == WARM
    assert asked("drop", "ws-wss")[0][3] == {"connections": 8, "resume": 0, "closing": 0}


def test_rows_on_the_clients_tls_exist_only_where_clients_have_tls():
    for case in ("resume", "rsa"):
        assert asked(case, "ws-ws") == asked(case, "ws-wss") == []
    assert asked("rsa", "wss-wss")[0][2] == RSA
    assert asked("resume", "wss-wss")[0][3]["resume"] == 1
    assert asked("cold", "ws-ws") == []


def test_without_a_proxy_the_load_resumes_as_a_proxy_does():
    assert asked("open", "ws-wss", "direct")[0][3]["resume"] == 1
    assert asked("open", "wss-wss", "direct")[0][3]["resume"] == 0
    assert asked("cold", "ws-wss", "direct")[0][3]["resume"] == 0


@pytest.mark.parametrize("case", HTTP)
def test_plain_http_is_left_out_for_websockify_and_for_a_load_in_python(case):
    assert len(asked(case, "wss-wss")) == 1
    assert asked(case, "wss-wss", "websockify") == []
    assert asked(case, "wss-wss", has_http=False) == []


def test_new_connections_without_a_proxy_have_the_clients_tls():
    assert [asked("get_new", mode, "direct")[0][1] for mode in MODES] == ["ws-ws", "ws-ws", "wss-wss"]
    assert [asked("get", mode, "direct")[0][1] for mode in MODES] == list(MODES)


@pytest.mark.parametrize(
    ("case", "load", "options"),
    [
        ("get", "get", {"connections": 20, "size": 612}),
        ("get_new", "get", {"connections": 8, "size": 612, "fresh": 1}),
        ("download", "download", {"size": 64 << 20}),
        ("download_chunked", "download", {"size": 64 << 20, "chunked": 1}),
        ("upload", "upload", {"size": 4 << 20}),
        ("upload_chunked", "upload", {"size": 4 << 20, "chunked": 1}),
    ],
)
def test_each_row_of_plain_http_has_its_load(case, load, options):
    assert asked(case, "ws-ws") == [(load, "ws-ws", WARM, options)]
