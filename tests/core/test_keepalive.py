"""The profiles set known limits, and their probes fit into the promised time."""

from dataclasses import fields

import pytest

from esxiproxy.core.keepalive import PROFILES, Profile, probes
from esxiproxy.core.session_limits import SessionLimits


def test_every_profile_sets_limits_that_there_are():
    names = {field.name for field in fields(SessionLimits)} | {"tcp_keepalive"}
    assert set(PROFILES) == set(Profile)
    for overrides in PROFILES.values():
        assert set(overrides) <= names


def test_the_profile_console_is_the_default_of_every_limit():
    for name, value in PROFILES[Profile.CONSOLE].items():
        assert getattr(SessionLimits(), name, 60.0) == value


def test_off_sends_nothing():
    assert set(PROFILES[Profile.OFF].values()) == {None}


@pytest.mark.parametrize("within", [5, 6, 7.5, 10, 30, 60, 61, 90, 600, 30000])
def test_a_dead_peer_is_found_in_time(within):
    found = probes(within)
    assert min(found.idle, found.interval, found.count) >= 1
    assert found.idle + found.interval * found.count <= within


def test_no_value_is_beyond_the_limits_of_linux():
    found = probes(365 * 86400.0)
    assert max(found.idle, found.interval) <= 32767
