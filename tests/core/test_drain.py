"""Drains: their values in the state, their look-ups, and the sessions that they cover."""

import json
from dataclasses import replace
from math import inf, nan

import pytest

from esxiproxy.core.errors import Draining
from esxiproxy.core.host_name import host_key
from esxiproxy.core.http.head import parse
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.routing import Destination, Identity, Route, TCPAddress, Upstream
from esxiproxy.core.session.drain import (
    MAX_REASON,
    Drain,
    DrainKind,
    Drains,
    InvalidDrain,
    drain_key,
    in_order,
    read_drain,
)
from esxiproxy.core.session.session import Session
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.core.websocket.closing import Close

HERE = ProcessIdentity("proxy1", "run-1")
PROXY = Drain(DrainKind.PROXY, "", "proxy1", "run-1", 5.0)
LISTENER = Drain(DrainKind.LISTENER, "one", "proxy1", "run-1", 5.0, 60.0, "alice", "new certificate")
UPSTREAM = Drain(DrainKind.UPSTREAM, "esxi", since=5.0)
HOST = Drain(DrainKind.HOST, "esxi1.example.com", since=5.0, end=99.5, by="bob", reason="Wartung, 10 min ☕")
ALL = [PROXY, LISTENER, UPSTREAM, HOST]


@pytest.mark.parametrize("drain", ALL, ids=lambda drain: drain.kind.value)
def test_a_drain_is_read_as_it_was_written(drain):
    assert read_drain(drain.value) == drain


def test_fields_of_other_versions_are_ignored():
    value = {**json.loads(HOST.value), "colour": ["green"]}
    assert read_drain(json.dumps(value)) == HOST


def test_an_older_value_without_person_and_reason_is_a_drain():
    assert read_drain('{"kind": "host", "name": "a", "since": 1}') == Drain(DrainKind.HOST, "a", since=1.0)


BROKEN = {
    "no JSON": "drained",
    "no object": "[1]",
    "no kind": "{}",
    "an unknown kind": '{"kind": "cloud", "name": "a", "since": 1}',
    "a kind that is no text": '{"kind": ["host"], "name": "a", "since": 1}',
    "a name that is no text": '{"kind": "host", "name": 7, "since": 1}',
    "no time": '{"kind": "host", "name": "a"}',
    "a time that is a text": '{"kind": "host", "name": "a", "since": "1"}',
    "a time that is true": '{"kind": "host", "name": "a", "since": true}',
    "an endless time": '{"kind": "host", "name": "a", "since": Infinity}',
    "an end that is no number": '{"kind": "host", "name": "a", "since": 1, "end": "soon"}',
    "half of a surrogate pair": '{"kind": "host", "name": "\\ud800", "since": 1}',
    "a surrogate that is no UTF-8": '{"kind": "host", "name": "\ud800", "since": 1}',
    "a proxy with a name": '{"kind": "proxy", "name": "a", "machine": "m", "run": "r", "since": 1}',
    "a proxy without a machine": '{"kind": "proxy", "since": 1}',
    "a listener without a run": '{"kind": "listener", "name": "a", "machine": "m", "since": 1}',
    "a host without a name": '{"kind": "host", "since": 1}',
    "a host of a machine": '{"kind": "host", "name": "a", "machine": "m", "run": "r", "since": 1}',
    "nested too deep": "[" * 100_000,
}


@pytest.mark.parametrize("value", BROKEN.values(), ids=BROKEN)
def test_a_broken_value_is_refused_by_name(value):
    with pytest.raises(InvalidDrain):
        read_drain(value)


WRONG = {
    "a long reason": {"reason": "x" * (MAX_REASON + 1)},
    "a long name": {"name": "x" * 256},
    "a long person": {"by": "x" * 256},
    "a line feed in a reason": {"reason": "one\ntwo"},
    "an escape sequence": {"by": "\x1b[2J"},
    "a line separator": {"reason": "one\u2028two"},
    "half of a surrogate pair": {"reason": "\ud800"},
    "an end that is no number": {"end": nan},
    "an end that was always": {"end": -inf},
    "a beginning that never comes": {"since": inf},
    "a name of dots": {"name": "."},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_drain_has_bounds_and_the_error_does_not_repeat_the_value(wrong):
    with pytest.raises(InvalidDrain) as raised:
        replace(HOST, **wrong)
    assert not any(
        isinstance(text, str) and text != "." and text in str(raised.value) for text in wrong.values()
    )


SAME = [
    ("ESXi1.Example.COM", "esxi1.example.com"),
    ("esxi1.example.com.", "esxi1.example.com"),
    ("2001:DB8:0::0001", "2001:db8::1"),
    ("[2001:db8::1]", "2001:db8::1"),
    ("::ffff:192.0.2.7", "192.0.2.7"),
    ("::FFFF:C000:0207", "192.0.2.7"),
    ("fe80::1%eth0", "fe80::1"),
    ("ESX Rack 4", "esx rack 4"),
]


@pytest.mark.parametrize(("written", "compared"), SAME)
def test_names_and_addresses_of_a_host_are_compared_in_one_form(written, compared):
    assert host_key(written) == compared == host_key(compared)
    drain = Drain(DrainKind.HOST, written, since=1.0)
    assert drain.name == compared
    assert Drains(HERE, [drain]).of_host(written) == drain


def test_an_object_of_one_run_has_one_key():
    keys = {drain_key(drain) for drain in ALL}
    assert len(keys) == len(ALL)
    assert drain_key(replace(HOST, end=inf, reason="", name="ESXI1.example.com.")) == drain_key(HOST)
    assert drain_key(replace(LISTENER, run="run-2")) != drain_key(LISTENER)
    assert drain_key(replace(LISTENER, machine="PROXY1")) == drain_key(LISTENER)


def test_drains_are_sorted_by_kind_and_name():
    other = replace(HOST, name="a.example.com")
    assert in_order([HOST, other, UPSTREAM, LISTENER, PROXY]) == [PROXY, LISTENER, UPSTREAM, other, HOST]


def test_every_kind_is_looked_up():
    drains = Drains(HERE, [LISTENER, UPSTREAM, HOST])
    assert drains.of_listener("one") == LISTENER and drains.of_listener("two") is None
    assert drains.of_upstream("esxi") == UPSTREAM and drains.of_upstream("ESXI") is None
    assert drains.of_host("192.0.2.9", "ESXI1.example.com") == HOST and drains.of_host("esxi2") is None
    assert Drains(HERE, ALL).of_listener("two") == PROXY
    assert set(drains.ends) == {LISTENER, HOST}


def test_a_drained_address_is_noticed():
    assert Drains(HERE, [replace(HOST, name="[2001:db8::1]")]).has_addresses
    assert Drains(HERE, [HOST]).has_hosts and not Drains(HERE, [HOST]).has_addresses


@pytest.mark.parametrize("machine", ["proxy1", "proxy2"])
@pytest.mark.parametrize("drain", [PROXY, LISTENER], ids=["proxy", "listener"])
def test_a_drain_of_another_run_is_listed_and_does_not_hold(drain, machine):
    other = replace(drain, run="run-2", machine=machine)
    drains = Drains(HERE, [other])
    assert drains.all == (other,)
    assert drains.of_listener("one") is None and drains.ends == ()


@pytest.mark.parametrize("machine", ["PROXY1.", "renamed"])
def test_a_drain_holds_in_its_run_whatever_the_machine_is_called(machine):
    identity = ProcessIdentity(machine, "run-1")
    assert Drains(identity, [PROXY]).of_listener("any") == PROXY
    assert Drains(identity, [LISTENER]).of_listener("one") == LISTENER


def test_a_process_without_a_master_is_a_run_of_its_own():
    assert ProcessIdentity().run != ProcessIdentity().run
    assert ProcessIdentity().machine == ProcessIdentity().machine != ""


def session(is_routed=True):
    request = Request(
        "s", "one", PeerAddress("198.51.100.7", 1), True, parse(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    )
    found = Session(request, SessionLimits(), lambda: 0.0)
    if is_routed:
        addresses = TCPAddress("esxi1.example.com", 443), TCPAddress("esxi2.example.com", 443)
        template = Upstream("esxi", "", 443, True)
        found.routed(Route(Destination(addresses, True, Identity(), "Rack 4", template)))
        found.dialled = "esxi1.example.com", "192.0.2.7"
    return found


COVERED = [
    (PROXY, True),
    (LISTENER, True),
    (replace(LISTENER, name="two"), False),
    (UPSTREAM, True),
    (replace(UPSTREAM, name="other"), False),
    (replace(HOST, name="RACK 4"), True),
    (replace(HOST, name="ESXi1.example.com"), True),
    (replace(HOST, name="::ffff:192.0.2.7"), True),
    (replace(HOST, name="esxi2.example.com"), False),
    (replace(HOST, name="192.0.2.8"), False),
]


@pytest.mark.parametrize(("drain", "is_covered"), COVERED)
def test_a_drain_covers_the_sessions_that_use_what_is_drained(drain, is_covered):
    assert drain.covers(session()) is is_covered


@pytest.mark.parametrize("drain", [UPSTREAM, HOST])
def test_a_session_without_a_route_uses_no_host(drain):
    assert not drain.covers(session(is_routed=False))


def test_a_reason_is_cut_between_characters_in_the_close():
    close = Close.of(Draining("Wartung " + "☕" * 60))
    assert close.code == 1001
    assert close.reason.decode() == "Wartung " + "☕" * 38  # 8 + 3 * 38 = 122 bytes, and 123 fit
