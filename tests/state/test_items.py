"""Values that the processes share, and tasks that one of them leads, with each implementation."""

from contextlib import closing

import pytest
from twisted.internet.defer import Deferred

from esxiproxy.authenticators.login_throttle import LoginThrottle
from esxiproxy.core.sealing import key_of
from esxiproxy.state.lease import LEASE
from tests.state.world import SqliteWorld
from tests.support.outcome import result

EVER = float("inf")


def test_a_value_is_there_for_all_processes_until_it_expires(world):
    one, other = world.new(), world.new()
    assert result(one.put("tickets", "a", "vm-42 \u00fc", world.time_of_day() + 60)) is True
    world.advance(59)
    assert result(other.get("tickets", "a")) == "vm-42 \u00fc"
    world.advance(1)
    assert result(other.get("tickets", "a")) is result(other.pop("tickets", "a")) is None
    assert result(other.items("tickets", "", 9)) == []


def test_spaces_do_not_share_keys(world):
    state = world.new()
    result(state.put("hosts", "a", "drained", EVER))
    assert result(state.get("links", "a")) is None
    assert result(state.items("links", "", 9)) == []


def test_a_value_is_replaced_unless_it_is_to_be_new(world):
    one, other = world.new(), world.new()
    ends = world.time_of_day() + 10
    assert result(one.put("s", "a", "first", ends, new=True)) is True
    assert result(other.put("s", "a", "second", ends, new=True)) is False
    assert result(one.get("s", "a")) == "first"
    assert result(other.put("s", "a", "third", ends)) is True
    assert result(one.get("s", "a")) == "third"
    world.advance(10)
    assert result(other.put("s", "a", "fourth", EVER, new=True)) is True


def test_a_value_is_replaced_only_if_it_is_the_one_that_was_read(world):
    one, other = world.new(), world.new()
    ends = world.time_of_day() + 60
    assert result(one.put("s", "a", "1", ends, before="0")) is False, "there is none"
    assert result(one.put("s", "a", "1", ends)) is True
    assert result(other.put("s", "a", "2 \u00fc", ends, before="1")) is True
    assert result(one.put("s", "a", "3", ends, before="1")) is False
    assert result(one.get("s", "a")) == "2 \u00fc"
    assert result(one.put("s", "a", "", ends, before="2 \u00fc")) is True
    assert result(other.put("s", "a", "4", ends, before="")) is True
    world.advance(61)
    assert result(one.put("s", "a", "5", EVER, before="4")) is False, "it has expired"


def test_one_caller_gets_a_popped_item(world):
    one, other = world.new(), world.new()
    result(one.put("s", "a", "vm-42", EVER))
    assert result(other.pop("s", "a")) == "vm-42"
    assert result(one.pop("s", "a")) is result(one.get("s", "a")) is None


def test_removing_a_value_twice_or_an_unknown_one_has_no_effect(world):
    state = world.new()
    result(state.put("s", "a", "1", EVER)), result(state.put("s", "b", "2", EVER))
    for key in ("a", "a", "never"):
        assert result(state.remove("s", key)) is None
    assert list(result(state.items("s", "", 9))) == [("b", "2")]


def test_items_come_in_pages_in_the_order_of_their_keys(world):
    state = world.new()
    for key in ("c", "a", "d", "b"):
        result(state.put("s", key, key.upper(), EVER))
    result(state.put("s", "aa", "gone", world.time_of_day()))
    assert list(result(state.items("s", "", 2))) == [("a", "A"), ("b", "B")]
    assert list(result(state.items("s", "b", 9))) == [("c", "C"), ("d", "D")]
    assert list(result(state.items("s", "d", 9))) == list(result(state.items("s", "", 0))) == []


def test_a_value_outlives_its_process(world):
    one, other = world.new(), world.new()
    result(one.put("s", "a", "1", EVER))
    world.kill(one)
    world.advance(2 * LEASE)
    assert result(other.get("s", "a")) == "1"


def test_an_expiry_that_is_no_time_is_refused(world):
    state = world.new()
    with pytest.raises(ValueError, match="no time of day"):
        result(state.put("s", "a", "1", float("nan")))
    assert result(state.get("s", "a")) is None


# Leaders


def test_one_process_of_all_leads_a_task(world):
    one, other = world.new(), world.new()
    assert result(one.lead("health")) is True
    assert result(other.lead("health")) is False
    assert result(other.lead("watch")) is True
    world.advance(10 * LEASE)
    assert (result(one.lead("health")), result(other.lead("health"))) == (True, False)


@pytest.mark.parametrize("end", ["stop", "kill", "reclaim"])
def test_another_process_leads_after_the_end_of_the_first(world, end):
    one, other = world.new(), world.new()
    assert result(one.lead("health")) is True
    if end == "stop":
        result(one.stop())
    else:
        world.kill(one)
        assert result(other.lead("health")) is False
    if end == "reclaim":
        result(other.reclaim(one.instance_id))
    elif end == "kill":
        world.advance(LEASE)
    assert result(other.lead("health")) is True


def test_a_process_that_was_stopped_leads_no_more_when_another_does(world):
    sleepy, other = world.new(), world.new()
    assert result(sleepy.lead("health")) is True
    process = world.freeze(sleepy)
    world.advance(LEASE)
    assert result(other.lead("health")) is True
    world.thaw(sleepy, process)
    assert result(sleepy.lead("health")) is False
    assert result(other.lead("health")) is True


# SQLite


def test_values_survive_a_reboot(tmp_path):
    world = SqliteWorld(tmp_path)
    state = world.new()
    result(state.put("s", key_of("secret"), "1", world.time_of_day() + 600))
    world.kill(state)
    world.restart(seconds=60)
    assert result(world.new().get("s", key_of("secret"))) == "1"


def test_a_leader_that_an_older_version_deleted_is_replaced(tmp_path):
    world = SqliteWorld(tmp_path)
    dead, alive = world.new(), world.new()
    assert result(dead.lead("health")) is True
    world.kill(dead)
    with closing(world.another_program()) as other:
        other.execute("DELETE FROM holders WHERE holder = ?", (dead.instance_id,))
    assert result(alive.lead("health")) is True


@pytest.mark.parametrize("skew", [-3600.0, 65.0])
def test_an_item_of_a_redis_whose_clock_differs_lives_as_long(redis_world, skew):
    redis_world.skew = skew
    one, other = redis_world.new(), redis_world.new()
    ends = redis_world.time_of_day() + 60
    assert result(one.put("s", "a", "1", ends)) is True
    assert result(one.put("s", "ever", "1", EVER)) is True
    assert result(one.put("s", "over", "1", redis_world.time_of_day() - 1)) is True
    redis_world.advance(59)
    assert result(other.items("s", "", 9)) == [("a", "1"), ("ever", "1")]
    assert result(other.put("s", "a", "2", ends, before="1")) is True
    redis_world.advance(1)
    assert result(other.items("s", "", 9)) == [("ever", "1")]


def test_failed_logins_slow_a_network_down_whatever_the_clock_of_redis_is(redis_world):
    redis_world.skew = 65.0
    throttle = LoginThrottle(redis_world.new(), "login", redis_world.time_of_day)
    waits = [result(Deferred.fromCoroutine(throttle.failed("192.0.2.0/24"))) for _ in range(7)]
    assert waits == [0.0] * 4 + [2.0, 4.0, 8.0]
