"""Parity with nginx: requests and frames pass esxiproxy as they pass nginx, except for the listed cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from tests.integration import parity_frames, parity_handshakes
from tests.integration.parity_run import CASES, Run
from tests.support.certificates import Certificate
from tests.support.listeners import KINDS, Listeners, Upstreams, esxiproxy, nginx
from tests.support.programs import TICKET, dead_port
from tests.support.websocket_peers import ScriptedUpstream

MODULES = parity_frames, parity_handshakes
"""The modules that enter their cases into the table."""


@dataclass(frozen=True)
class Difference:
    """Why esxiproxy does it in another way than nginx, and the facts that are others because of it."""

    reason: str
    ours: Mapping[str, object]


_HOP = "pings and pongs are hop by hop: a leg is alive by itself, and ESXi sees none that it cannot answer"
_NAMED = "a refusal names its cause in a Proxy-Status field (RFC 9209)"
_CHECKED = "a 101 is taken only if it answers our request (RFC 6455 4.1); nginx does not look"
_LOST = "a lost upstream is a Close 1011 for the client, which knows then that the host went away"
_GONE = "a lost client is a Close 1001 for the upstream, so that ESXi frees the console at once"
_BROKEN = "a broken frame ends with its sender: 1002 for him, 1001 or 1011 for the other side"
_BEST = [
    "host: the upstream",
    "sec-websocket-protocol: binary",
    "sec-websocket-version: 13",
    "upgrade: websocket",
]
_INVALID: dict[str, object] = {"Proxy-Status": ["esxiproxy; error=http_protocol_error"]}
_NO_UPGRADE = _INVALID | {"status": 502, "Upgrade": None, "body": "the proxy's"}
_OPENED = {
    "status": 101,
    "Upgrade": ["websocket"],
    "Sec-WebSocket-Protocol": ["binary"],
    "client got": ["CLOSE 1000 done", "end"],
    "upstream got": ["CLOSE 1000 done"],
    "upstream's frames are masked": True,
    "upstream's stream": "done",
}


def _refused(status: int) -> Difference:
    value = f"esxiproxy; error=http_upgrade_failed; received-status={status}"
    return Difference(_NAMED, {"Proxy-Status": [value]})


DIFFERENCES: dict[str, Difference] = {
    "no_subprotocol_offered": Difference(
        "ESXi wants `binary`, and noVNC offers nothing: it is offered upstream and kept from the client",
        {"request fields": _BEST},
    ),
    "subprotocols_in_two_fields": Difference(
        "the offers go on as one list, which means the same (RFC 6455 11.3.4)",
        {"request fields": [_BEST[0], "sec-websocket-protocol: binary, vmware-vvc", *_BEST[2:]]},
    ),
    "unoffered_subprotocol_chosen": Difference(_CHECKED, _NO_UPGRADE | {"Sec-WebSocket-Protocol": None}),
    "deflate_offered": Difference(
        "a console's pictures are compressed already: permessage-deflate is not offered",
        {"request fields": _BEST},
    ),
    "forwarded_fields_of_a_stranger": Difference(
        "what a stranger says about where he comes from is not passed on; where he does come from is",
        {"forwarded": [["127.0.0.1"], [], []]},
    ),
    "target_odd_escape": Difference(
        "a target is the upstream's to understand: it passes as it is, also where it is no right escape",
        _OPENED
        | {"body": None, "request line": f"GET /ticket/{TICKET}%?x=%zz HTTP/1.1", "request fields": _BEST},
    ),
    "early_hints_before_the_101": Difference(
        "an interim answer is skipped (RFC 9110 15.2); nginx takes it for the answer and hangs",
        _OPENED | {"answer": None},
    ),
    "ping_from_the_client": Difference(_HOP, {"upstream got": ["CLOSE 1000 done"]}),
    "ping_between_fragments": Difference(
        _HOP, {"upstream got": ["TEXT+ one", "CONT two", "CLOSE 1000 done"]}
    ),
    "ping_from_the_upstream": Difference(_HOP, {"echoes": ["TEXT after"]}),
    "unsolicited_pong_from_the_client": Difference(_HOP, {"upstream got": ["TEXT after", "CLOSE 1000 done"]}),
    "unsolicited_pong_from_the_upstream": Difference(
        _HOP, {"client got": ["TEXT after", "CLOSE 1000 done", "end"]}
    ),
    "upstream_stays_after_close": Difference(
        "after a Close both legs end within close_timeout, whatever the host does",
        {"client got": ["CLOSE 1000 done", "end"]},
    ),
    "refused_403": _refused(403),
    "refused_404": _refused(404),
    "refused_302": Difference(
        "clients follow a redirect of an opening handshake, ticket and all: none leads past the proxy",
        {
            "status": 502,
            "Location": None,
            "body": "the proxy's",
            "Proxy-Status": ["esxiproxy; error=http_upgrade_failed"],
        },
    ),
    "refused_401": _refused(401),
    "refused_503": _refused(503),
    "answered_200": _refused(200),
    "wrong_accept_value": Difference(_CHECKED, _NO_UPGRADE),
    "answer_is_not_http": Difference(
        "what is no HTTP is not passed on as if it were",
        _INVALID | {"answer": None, "status": 502, "body": "the proxy's"},
    ),
    "answer_has_no_end": Difference(_NAMED, _INVALID),
    "nobody_listens": Difference(_NAMED, {"Proxy-Status": ["esxiproxy; error=connection_refused"]}),
    "upstream_drops_before_the_answer": Difference(
        _NAMED, {"Proxy-Status": ["esxiproxy; error=connection_terminated"]}
    ),
    "upstream_drops_after_the_101": Difference(_LOST, {"client got": ["CLOSE 1011 the host is gone", "end"]}),
    "upstream_drops_after_a_frame": Difference(
        _LOST, {"client got": ["TEXT last words", "CLOSE 1011 the host is gone", "end"]}
    ),
    "client_drops": Difference(_GONE, {"upstream got": ["TEXT last words", "CLOSE 1001 the client is gone"]}),
    "client_resets": Difference(
        _GONE, {"upstream got": ["TEXT last words", "CLOSE 1001 the client is gone"]}
    ),
    "client_frame_unmasked": Difference(
        _BROKEN,
        {
            "client got": ["CLOSE 1002 unmasked client frame", "end"],
            "upstream got": ["CLOSE 1001 unmasked client frame"],
            "upstream's frames are masked": True,
        },
    ),
    "client_frame_with_a_reserved_bit": Difference(
        _BROKEN,
        {
            "client got": ["CLOSE 1002 RSV bits set, and no extension was negotiated", "end"],
            "upstream got": ["CLOSE 1001 RSV bits set, and no extension was negotiated"],
        },
    ),
    "upstream_frame_with_a_reserved_opcode": Difference(
        _BROKEN,
        {
            "client got": ["CLOSE 1011 reserved opcode 3", "end"],
            "upstream got": ["CLOSE 1002 reserved opcode 3"],
        },
    ),
}


@dataclass(frozen=True)
class Bench:
    """Both proxies in front of the same two upstreams."""

    plain: ScriptedUpstream
    secure: ScriptedUpstream
    nginx: Listeners
    esxiproxy: Listeners

    def observed(self, listeners: Listeners, name: str, case: str) -> dict[str, object]:
        """Return the facts that one case observes through one listener."""
        run = Run(listeners, name, self.plain if name == "one" else self.secure)
        run.upstream.forget()
        try:
            CASES[case](run)
        finally:
            run.stop()
        return run.observed


@pytest.fixture(scope="module")
def upstreams(upstream_certificate: Certificate) -> Iterator[tuple[ScriptedUpstream, ScriptedUpstream]]:
    with ScriptedUpstream() as plain, ScriptedUpstream(tls=upstream_certificate.server_context()) as secure:
        yield plain, secure


@pytest.fixture(scope="module")
def reference(
    upstreams: tuple[ScriptedUpstream, ScriptedUpstream],
    upstream_certificate: Certificate,
    listener_certificate: Certificate,
) -> Iterator[tuple[Upstreams, Listeners]]:
    """Run nginx, and return its ports and its upstreams."""
    plain, secure = upstreams
    with dead_port() as nobody:
        leads = Upstreams(plain.port, secure.port, upstream_certificate, nobody)
        with nginx(leads, listener_certificate) as listeners:
            yield leads, listeners


@pytest.fixture(scope="module")
def bench(
    upstreams: tuple[ScriptedUpstream, ScriptedUpstream],
    reference: tuple[Upstreams, Listeners],
    listener_certificate: Certificate,
) -> Iterator[Bench]:
    leads, theirs = reference
    with esxiproxy(leads, listener_certificate) as ours:
        yield Bench(*upstreams, theirs, ours)


@pytest.mark.parametrize("case", CASES)
def test_harness_is_steady(
    case: str,
    upstreams: tuple[ScriptedUpstream, ScriptedUpstream],
    reference: tuple[Upstreams, Listeners],
) -> None:
    """A check of the harness: a case through nginx has the same facts twice."""
    listeners = reference[1]
    both = Bench(*upstreams, listeners, listeners)
    assert both.observed(listeners, "one", case) == both.observed(listeners, "one", case)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_parity(case: str, name: str, bench: Bench) -> None:
    """esxiproxy does what nginx does, and differs just where and just as it is listed."""
    theirs = bench.observed(bench.nginx, name, case)
    ours = bench.observed(bench.esxiproxy, name, case)
    different = {key: ours.get(key) for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)}
    listed = DIFFERENCES.get(case)
    assert different == (dict(listed.ours) if listed else {}), {key: theirs.get(key) for key in different}


def test_differences_are_of_cases() -> None:
    """Every listed difference belongs to a case, and says why and where."""
    assert set(DIFFERENCES) <= set(CASES)
    assert all(listed.reason and listed.ours for listed in DIFFERENCES.values())
