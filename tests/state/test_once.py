"""Marks of links that work once, with each implementation of the state."""

from contextlib import closing

import pytest

from esxiproxy.core.errors import LinkUsed
from esxiproxy.core.session.claim import MARK_LEEWAY, OnceClaim, Outcome, SlotClaim
from esxiproxy.state.lease import LEASE
from tests.state.racers import race
from tests.state.world import SqliteWorld
from tests.support.outcome import result

ONE = SlotClaim("max_sessions_per_console", "console vm-42", 1)


def once(world, seconds=3600.0, **changed):
    return OnceClaim("links: secret-id", world.time_of_day() + seconds, **changed)


def test_a_link_works_once_for_all_processes(world):
    one, other = world.new(), world.new()
    link = once(world)
    assert result(one.take("a", [link])) is None
    assert result(other.take("b", [link])) == result(one.take("c", [link])) == link
    result(one.give("a"))
    assert result(other.take("b", [link])) == link
    assert isinstance(link.refusal, LinkUsed) and "secret" not in str(link.refusal)


def test_the_client_does_not_learn_that_a_link_was_used():
    shown = OnceClaim("x", 1.0).refusal
    assert shown.name == "LinkUsed"
    assert (shown.public_name, shown.status_code) == ("RouteNotFound", 404)
    assert "used" not in shown.public_message


def test_a_slot_does_not_take_its_own_mark_twice(world):
    state, link = world.new(), once(world, reuse=60.0, most=2)
    assert result(state.take("a", [link])) is None
    assert result(state.take("a", [link, ONE])) is None
    result(state.give("a"))
    assert result(state.take("b", [link])) is None


def test_a_mark_and_a_slot_are_both_taken_or_none(world):
    state, link = world.new(), once(world)
    result(state.take("a", [ONE]))
    assert result(state.take("b", [link, ONE])) == ONE
    result(state.give("a"))
    assert result(state.take("b", [link, ONE])) is None
    result(state.give("b"))
    assert result(state.take("c", [ONE, link])) == link
    assert result(state.in_use([ONE.name])) == {ONE.name: 0}


def test_an_unused_mark_is_returned(world):
    one, other = world.new(), world.new()
    link = once(world)
    for number in range(3):
        assert result(one.take(f"a{number}", [link])) is None
        result(one.give(f"a{number}", Outcome.UNUSED))
    assert result(other.take("b", [link])) is None


def test_a_link_works_again_after_a_disconnect_for_its_seconds_of_reuse(world):
    one, other = world.new(), world.new()
    link = once(world, reuse=60.0, most=3)
    assert result(one.take("a", [link])) is None
    assert result(other.take("b", [link])) == link, "the first console is open"
    result(one.give("a"))
    world.advance(59)
    assert result(other.take("b", [link])) is None
    result(other.give("b", Outcome.UNUSED))
    assert result(other.take("c", [link])) is None, "within the seconds of the first disconnect"
    result(other.give("c"))
    world.advance(61)
    assert result(one.take("d", [link])) == link


def test_a_link_works_no_more_often_than_its_most(world):
    state, link = world.new(), once(world, reuse=60.0, most=3)
    for slot in "abc":
        assert result(state.take(slot, [link])) is None
        result(state.give(slot))
    assert result(state.take("d", [link])) == link


def test_a_spent_mark_is_never_taken_again(world):
    state, link = world.new(), once(world, reuse=60.0, most=3)
    result(state.take("a", [link]))
    result(state.give("a", Outcome.SPENT))
    result(state.give("a", Outcome.UNUSED))
    assert result(state.take("b", [link])) == link


@pytest.mark.parametrize(("reuse", "works"), [(0.0, False), (60.0, True)])
def test_the_end_of_a_lease_is_a_disconnect(world, reuse, works):
    dead, alive = world.new(), world.new()
    link = once(world, reuse=reuse, most=2)
    result(dead.take("a", [link]))
    world.kill(dead)
    world.advance(LEASE - 1)
    assert result(alive.take("b", [link])) == link
    world.advance(1)
    assert (result(alive.take("b", [link])) is None) is works


@pytest.mark.parametrize("end", ["stop", "reclaim"])
def test_a_process_that_ends_has_disconnected(world, end):
    one, other = world.new(), world.new()
    single, again = once(world), OnceClaim("again", world.time_of_day() + 600, reuse=60.0, most=2)
    result(one.take("a", [single, again]))
    if end == "stop":
        result(one.stop())
    else:
        world.kill(one)
        result(other.reclaim(one.instance_id))
    assert result(other.take("b", [single])) == single
    assert result(other.take("b", [again])) is None


def test_a_process_that_resumes_has_its_mark_again_unless_another_took_it(world):
    sleepy, other = world.new(), world.new()
    taken, free = (OnceClaim(name, world.time_of_day() + 600, reuse=60.0, most=3) for name in ("t", "f"))
    result(sleepy.take("a", [taken, free]))
    process = world.freeze(sleepy)
    world.advance(2 * LEASE)
    assert result(other.take("b", [taken])) is None
    world.thaw(sleepy, process)
    world.advance(1)
    assert result(other.take("c", [free])) == free, "its console is open"
    result(sleepy.give("a", Outcome.SPENT))
    assert result(other.take("c", [free])) == free
    result(other.give("b"))
    assert result(other.take("c", [taken])) is None, "the other's disconnect counts"


def test_a_process_that_resumes_can_say_how_its_console_ended(world):
    sleepy, other = world.new(), world.new()
    link = once(world, reuse=60.0, most=3)
    result(sleepy.take("a", [link]))
    process = world.freeze(sleepy)
    world.advance(2 * LEASE)
    result(other.in_use([]))
    process.rightNow = world._now  # its timers have not run yet
    result(sleepy.give("a", Outcome.SPENT))
    assert result(other.take("b", [link])) == link


def test_a_mark_is_stored_until_its_link_has_expired(world):
    state, link = world.new(), once(world, 100.0)
    result(state.take("a", [link])), result(state.give("a"))
    world.advance(100 + MARK_LEEWAY - 1)
    assert result(state.take("b", [link])) == link
    world.advance(2 * LEASE)
    assert result(state.take("b", [link])) == link, "no mark is left, so the time decides"
    assert result(state.take("b", [once(world, -MARK_LEEWAY)])) is not None


def test_the_processes_agree_on_the_time_since_which_marks_are_complete(world):
    before = world.time_of_day()
    one = world.new()
    world.advance(5)
    assert one.since == world.new().since == before


@pytest.mark.parametrize("fields", [{"expires": float("nan")}, {"reuse": -1.0}, {"most": 0}])
def test_a_claim_with_senseless_values_is_refused(fields):
    with pytest.raises(ValueError):
        OnceClaim(**{"name": "x", "expires": 1.0, **fields})


# SQLite


@pytest.fixture
def file(tmp_path):
    return SqliteWorld(tmp_path)


def test_the_file_has_no_link(file):
    result(file.new().take("a", [once(file)]))
    assert b"secret" not in b"".join(path.read_bytes() for path in file.path.parent.iterdir())


def test_marks_survive_a_reboot(file):
    state = file.new()
    single, again = once(file), OnceClaim("again", file.time_of_day() + 600, reuse=60.0, most=2)
    result(state.take("a", [single, again]))
    since = state.since
    file.kill(state)
    file.restart(seconds=30)
    state = file.new()
    assert result(state.take("b", [single])) == single
    assert result(state.take("b", [again])) is None
    assert state.since == since


def test_a_mark_of_a_process_that_an_older_version_deleted_is_released(file):
    dead, alive = file.new(), file.new()
    link = once(file, reuse=60.0, most=2)
    result(dead.take("a", [link]))
    file.kill(dead)
    with closing(file.another_program()) as other:
        for table in ("slots", "holders", "sessions"):
            other.execute(f"DELETE FROM {table} WHERE holder = ?", (dead.instance_id,))
    file.advance(LEASE)
    assert result(alive.take("b", [link])) is None


def test_an_outcome_is_written_when_a_locked_database_is_unlocked(file, monkeypatch):
    monkeypatch.setattr("esxiproxy.state.tables.BUSY_TIMEOUT", 0.02)
    state, link = file.new(), once(file)
    result(state.take("a", [link]))
    with closing(file.another_program()) as other:
        other.execute("BEGIN IMMEDIATE")
        result(state.give("a", Outcome.UNUSED))
        other.execute("ROLLBACK")
    file.advance(LEASE)
    assert result(file.new().take("b", [link])) is None


def test_a_new_file_says_that_earlier_marks_are_missing(file):
    state = file.new()
    before = state.since
    for path in file.path.parent.iterdir():
        path.unlink()
    file.advance(LEASE)
    assert state.since > before


_RACER = """
import sys
from pathlib import Path
from esxiproxy.core.session.claim import OnceClaim
from esxiproxy.state import tables
from esxiproxy.state.sqlite_store import SqliteStore
from esxiproxy.state.times import Times

tables.BUSY_TIMEOUT = 60.0  # every attempt gets its turn, however busy the machine is
times = Times.of_this_machine()
store = SqliteStore(Path(sys.argv[1]), sys.argv[2], times)
link = OnceClaim("link", times.wall_clock() + 600)
sys.stdin.readline()
print(sum(store.take(f"{sys.argv[2]}-{number}", [link])[0] is None for number in range(500)))
sys.stdin.readline()
"""


def test_a_thousand_attempts_of_two_processes_have_one_winner(tmp_path):
    won = race(_RACER, tmp_path / "state.sqlite", 2)
    assert sum(won) == 1
