"""The lines of the access log: JSON, the combined format, and no part of a ticket."""

import json
import re
import string
from dataclasses import replace
from types import MappingProxyType

from hypothesis import given
from hypothesis import strategies as st

from esxiproxy.core.config.access_log import AccessLogFormat
from esxiproxy.core.http.head import RequestHead
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.redaction import redact_text
from esxiproxy.core.session.session import Session
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.ops.logs.access_line import as_combined, as_json
from esxiproxy.ops.logs.datagram_sink import JournalSink, SyslogSink
from tests.ops.records import NOON, PAGE, RECORD
from tests.support.logs import ScriptedSink
from tests.support.reactor import FakeReactor

# --- formats


def test_the_json_line_of_a_console_has_every_key():
    assert json.loads(as_json(RECORD, NOON - 60)) == {
        "time": "2026-01-01T11:59:00.000Z",
        "kind": "console",
        "session": "5e55101d",
        "trace_id": None,
        "listener": "secure",
        "client": "192.0.2.77",
        "client_port": 50123,
        "principal": "anonymous",
        "method": "GET",
        "target": "/ticket/***",
        "upstream": "esxi1",
        "host": "esxi1.example.com",
        "console": None,
        "console_name": None,
        "status": 101,
        "close_code": 1000,
        "ended_by": "client",
        "error": None,
        "detail": None,
        "timeout": None,
        "octets_up": 123,
        "octets_down": 45678,
        "round_trip": 0.018,
        "seconds": 60.0,
        "phases": {"authenticated": 0.001, "routed": 0.0005, "opened": 0.05, "closed": 59.9485},
    }


def test_the_json_line_has_the_console():
    record = replace(RECORD, console="dc1/5012a4ab", console_name="web \u202e01")
    text = as_json(record, NOON)
    assert text.isascii()
    line = json.loads(text)
    assert (line["console"], line["console_name"]) == ("dc1/5012a4ab", "web \u202e01")


def test_the_json_line_has_the_trace_of_the_client():
    line = json.loads(as_json(replace(RECORD, trace_id="4bf92f3577b34da6a3ce929d0e0e4736"), NOON))
    assert line["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_failed_request_has_its_error_and_no_close_code():
    line = json.loads(as_json(PAGE, NOON))
    assert (line["kind"], line["method"], line["status"], line["close_code"]) == ("http", "HEAD", 502, None)
    assert (line["error"], line["detail"]) == ("UpstreamRefused", "192.0.2.10:443 refused the connection")
    late = json.loads(as_json(replace(PAGE, timeout="connect_timeout"), NOON))
    assert late["timeout"] == "connect_timeout"


def test_times_are_numbers_with_six_places_and_the_beginning_has_milliseconds():
    phases = MappingProxyType({"routed": 2e-7, "authenticated": 1e-7, "closed": 1e5})
    line = as_json(replace(RECORD, round_trip=None, phases=phases), NOON + 0.12399)
    assert json.loads(line)["time"] == "2026-01-01T12:00:00.123Z"
    assert '"round_trip":null,"seconds":100000.000000,' in line
    assert list(json.loads(line)["phases"].items())[-1] == ("closed", 100000.0)
    assert json.loads(as_json(RECORD, NOON - 0.0004))["time"] == "2026-01-01T11:59:59.999Z"


def test_missing_values_are_null():
    empty = replace(
        RECORD, client=PeerAddress("unix", 0), principal="", target="", upstream="", host="", status=0,
        ended_by="",        method="", phases=MappingProxyType({}),
    )  # fmt: skip
    line = json.loads(as_json(empty, NOON))
    names = ("client_port", "principal", "target", "upstream", "status", "ended_by", "method", "error")
    assert [line[name] for name in names] == [None] * len(names)
    assert (line["client"], line["seconds"], line["phases"]) == ("unix", 0.0, {})


def test_combined_is_the_format_of_apache_and_nginx():
    assert as_combined(RECORD, NOON - 60) == (
        '192.0.2.77 - anonymous [01/Jan/2026:11:59:00 +0000] "GET /ticket/*** HTTP/1.1" 101 45678 "-" "-"'
    )


def test_the_combined_line_of_an_unreadable_head_has_a_dash():
    line = as_combined(replace(RECORD, method="", target="", principal="", status=400), NOON)
    assert line == '192.0.2.77 - - [01/Jan/2026:12:00:00 +0000] "-" 400 45678 "-" "-"'


def test_a_combined_line_has_nine_parts_for_any_principal():
    line = as_combined(replace(RECORD, principal='a "b"\n\\c Å'), NOON)
    assert line.startswith(r"192.0.2.77 - a\x20\x22b\x22\x0A\x5Cc\x20\xC3\x85 [")
    assert re.fullmatch(r'\S+ - \S+ \[[^]]+\] "[^"]*" \d{3} \d+ "-" "-"', line)


@given(st.text(), st.text(), st.text())
def test_a_line_is_one_line_of_ascii_and_its_json_can_be_parsed(principal, target, detail):
    record = replace(RECORD, principal=principal, target=target, detail=detail)
    for line in (as_json(record, NOON), as_combined(record, NOON)):
        assert line.isascii() and line.isprintable()
    if redact_text(principal) == principal and redact_text(detail) == detail:
        read = json.loads(as_json(record, NOON))
        assert (read["principal"] or "", read["detail"] or "") == (
            principal.encode("utf-8", "surrogateescape").decode(),
            detail.encode("utf-8", "surrogateescape").decode(),
        )


# --- no ticket

_TICKET = st.text("QXZJKVWY0123456789", min_size=8, max_size=40)
_PLACES = st.sampled_from(
    [
        "/ticket/{}",
        "/TICKET/{}",
        "/a/../ticket/{}/",
        "/ticket/{};x=1?y=2",
        "/tick%65t/{}",
        "/tick%2565t/{}",
        "/%74icket%2F{}",
        "/ui/?ticket={}",
        "/ui/?a=b&mksTicket={}&c=d",
        "/ui/?sessionTicket={}",
        "/vsphere?cst-{}",
        "/?token={}&x",
        "/ticket/{}?ticket={}",
        "http://esxi/ticket/{}",
    ]
)


@given(_TICKET, _PLACES, st.sampled_from(AccessLogFormat), st.booleans())
def test_a_line_has_no_part_of_a_ticket(ticket, place, form, raw):
    target = place.replace("{}", ticket)
    head = RequestHead(b"", b"GET", target.encode(), (1, 1), ())
    session = Session(
        Request("5e55", "secure", PeerAddress("::1", 5), True, head), SessionLimits(), lambda: 0.0
    )
    session.error, session.detail = "Internal", f"a plugin that raised at {target}"
    record = session.record()
    if raw:  # an observer of an embedding application that redacts nothing
        record = replace(record, target=target, principal=f"who asked for {target}")
    if "%" in target:
        record = replace(record, detail="", principal="")
    clock = FakeReactor(NOON)
    sink = ScriptedSink(clock)
    for wrap in (sink, SyslogSink(clock), JournalSink(clock)):
        line = {AccessLogFormat.JSON: as_json, AccessLogFormat.COMBINED: as_combined}[form](record, NOON)
        octets = wrap.encode(line, record, NOON)
        parts = {ticket[i : i + 6].encode() for i in range(len(ticket) - 5)}
        if set(ticket) - set(string.digits):
            parts = {part for part in parts if not part.isdigit()}
            assert not [part for part in parts if part in octets]
