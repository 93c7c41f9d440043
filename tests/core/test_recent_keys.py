"""Keys that are remembered for some seconds."""

from twisted.internet.task import Clock

from esxiproxy.core.recent_keys import RecentKeys


def test_a_key_is_remembered_from_its_last_addition_on():
    clock = Clock()
    keys = RecentKeys(10.0, clock.seconds)
    keys.add("a")
    clock.advance(6)
    keys.add("b")
    keys.add("a")
    clock.advance(9.5)
    assert "a" in keys and "b" in keys and "c" not in keys
    clock.advance(0.5)
    assert "a" not in keys and "b" not in keys


def test_a_discarded_key_is_forgotten_at_once():
    keys = RecentKeys(10.0, Clock().seconds)
    keys.add("a")
    keys.discard("a")
    keys.discard("never added")
    assert "a" not in keys


def test_keys_that_are_only_added_take_no_lasting_memory():
    clock = Clock()
    keys = RecentKeys(10.0, clock.seconds)
    for number in range(1000):
        keys.add(str(number))
        clock.advance(1)
    assert len(keys._added) <= 10
