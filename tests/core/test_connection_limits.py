"""The claims of each step, and their names."""

from dataclasses import replace

import pytest

from esxiproxy.core.http.head import NO_HEAD
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.session.claim import RateClaim, SlotClaim
from esxiproxy.core.session.connection_limits import ANONYMOUS_NAME, ConnectionLimits, client_network
from esxiproxy.core.session.record import Kind

REQUEST = Request("abc", "secure", PeerAddress("198.51.100.7", 4711), True, NO_HEAD)
EVERYTHING = ConnectionLimits(
    max_sessions=100,
    max_sessions_per_client=10,
    max_sessions_per_principal=5,
    session_rate=2.5,
)


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("198.51.100.7", "198.51.100.7/32"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::ffff:198.51.100.7", "198.51.100.7/32"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", None),
        ("", None),
    ],
)
def test_one_client_is_an_ipv4_address_or_an_ipv6_customers_network(host, network):
    assert client_network(host) == network


def test_a_session_claims_its_rate_first_then_its_listener_and_its_network():
    assert EVERYTHING.on_arrival(REQUEST) == (
        RateClaim("session_rate", "rate secure 198.51.100.7/32", 2.5, 20),
        SlotClaim("max_sessions", "listener secure", 100),
        SlotClaim("max_sessions_per_client", "client secure 198.51.100.7/32", 10),
    )


def test_a_client_has_its_own_sessions_at_each_listener():
    """The number is the listener's, so the counter is too."""
    other = replace(REQUEST, listener="plain")
    claims = {EVERYTHING.on_arrival(request)[-1] for request in (REQUEST, other)}
    assert len({claim.name for claim in claims}) == 2
    assert {claim.limit for claim in claims} == {"max_sessions_per_client"}


def test_a_client_without_an_address_counts_for_the_listener_only():
    request = Request("abc", "local", PeerAddress("unix", 0), False, NO_HEAD)
    assert [claim.limit for claim in EVERYTHING.on_arrival(request)] == ["max_sessions"]


def test_principal_and_console_are_claimed_when_they_are_known():
    assert EVERYTHING.on_decision("alice", "vm-42") == (
        SlotClaim("max_sessions_per_principal", "principal alice", 5),
        SlotClaim("max_sessions_per_console", "console vm-42", 20),
    )
    assert EVERYTHING.on_decision("alice", None) == EVERYTHING.on_decision("alice", "vm-42")[:1]


def test_clients_without_an_authenticator_are_not_one_principal():
    assert EVERYTHING.on_decision(ANONYMOUS_NAME, None) == ()


def test_plain_http_claims_connections_only():
    assert EVERYTHING.on_arrival(REQUEST, Kind.HTTP) == ()
    assert EVERYTHING.on_decision("alice", "vm-42", Kind.HTTP) == ()


@pytest.mark.parametrize("host", ["192.0.2.10", "::ffff:192.0.2.10", "::FFFF:c000:20a"])
def test_connections_count_by_the_address_that_is_dialled(host):
    assert ConnectionLimits().on_dial(host) == (SlotClaim("max_connections", "upstream 192.0.2.10", 64),)


@pytest.mark.parametrize(("connections", "part"), [(64, 32), (5, 2), (2, 1), (1, 1)])
def test_plain_http_has_half_of_the_connections_and_one_at_least(connections, part):
    connection_limits = ConnectionLimits(max_connections=connections)
    assert connection_limits.on_dial("192.0.2.10", REQUEST) == (
        SlotClaim("max_http_connections_per_client", "http client secure 198.51.100.7/32", 32),
        SlotClaim("max_http_connections", "http upstream 192.0.2.10", part),
        SlotClaim("max_connections", "upstream 192.0.2.10", connections),
    )


@pytest.mark.parametrize(
    ("overrides", "claimed"),
    [
        ({"max_http_connections": 7}, {"max_connections": 10, "max_http_connections": 7}),
        ({"max_http_connections": None}, {"max_connections": 10}),
        ({"max_connections": None}, {}),
        ({"max_connections": None, "max_http_connections": 7, "max_http_connections_per_client": 3}, {}),
        (
            {"max_http_connections_per_client": 3},
            {"max_connections": 10, "max_http_connections": 5, "max_http_connections_per_client": 3},
        ),
    ],
)
def test_the_part_of_plain_http_can_be_set_and_is_off_with_max_connections(overrides, claimed):
    connection_limits = ConnectionLimits(
        max_connections=10, max_http_connections_per_client=None
    ).overridden_by(overrides)
    claims = connection_limits.on_dial("192.0.2.10", REQUEST)
    assert {claim.limit: claim.limit_value for claim in claims} == claimed


def test_a_client_without_an_address_is_not_one_client_of_plain_http():
    request = Request("abc", "local", PeerAddress("unix", 0), False, NO_HEAD)
    claims = ConnectionLimits().on_dial("192.0.2.10", request)
    assert [claim.limit for claim in claims] == ["max_http_connections", "max_connections"]


def test_a_limit_that_is_off_claims_nothing():
    off = ConnectionLimits().overridden_by({"max_connections": None, "max_sessions_per_console": None})
    assert off.on_dial("192.0.2.10") == ()
    assert off.on_decision("alice", "vm-42") == () == off.on_arrival(REQUEST)


def test_a_refusal_names_the_limit_and_nothing_of_ours():
    slots = SlotClaim("max_connections", "upstream esxi1.secret.lan", 64)
    assert slots.refusal.public_message == "max_connections: all 64 are in use"
    assert (slots.refusal.status, slots.refusal.close_code) == (503, 1013)
    assert (
        RateClaim("session_rate", "rate x", 2.5, 20).refusal.public_message
        == "session_rate: more than 2.5 a second"
    )


def test_a_bucket_that_is_full_gives_its_burst_and_then_its_rate():
    rate, full_at, now = RateClaim("session_rate", "rate", 10.0, 5), 0.0, 1_700_000_000.0
    for _ in range(5):
        full_at = rate.spend(full_at, now)
        assert full_at is not None
    assert rate.spend(full_at, now) is None
    assert rate.spend(full_at, now + 0.09) is None
    assert rate.spend(full_at, now + 0.11) is not None


def test_a_clock_that_is_set_back_refuses_no_client():
    rate = RateClaim("session_rate", "rate", 10.0, 5)
    assert rate.spend(1_700_003_600.0, 1_700_000_000.0) is not None
