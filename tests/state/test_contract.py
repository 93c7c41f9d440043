"""The contract of IState, tested with each implementation."""

from dataclasses import replace

from zope.interface.verify import verifyObject

from esxiproxy.core.session.claim import OnceClaim, RateClaim, SlotClaim
from esxiproxy.core.session.command import Command, CommandKind, Selector, SelectorKind
from esxiproxy.interfaces import IState
from esxiproxy.state.lease import LEASE, LOST_SESSION_RETENTION
from tests.support.outcome import result

TWO = SlotClaim("max_sessions", "listener secure", 2)
ONE = SlotClaim("max_sessions_per_console", "console vm-42", 1)
NAMES = (TWO.name, ONE.name)


class TestState:
    def in_use(self, state):
        found = result(state.in_use(NAMES))
        return tuple(found[name] for name in NAMES)

    def test_it_provides_istate(self, world):
        assert verifyObject(IState, world.new())

    def test_each_instance_has_its_own_id(self, world):
        assert world.new().instance_id != world.new().instance_id

    # Slots

    def test_a_limit_applies_to_all_processes_together(self, world):
        one, other = world.new(), world.new()
        assert result(one.take("a", [TWO])) is None
        assert result(other.take("b", [TWO])) is None
        assert result(one.take("c", [TWO])) == TWO
        assert result(other.take("c", [TWO])) == TWO
        assert self.in_use(one) == self.in_use(other) == (2, 0)

    def test_several_claims_are_all_taken_or_none(self, world):
        state = world.new()
        assert result(state.take("a", [TWO, ONE])) is None
        assert result(state.take("b", [TWO, ONE])) == ONE
        assert self.in_use(state) == (1, 1)

    def test_the_first_refused_claim_is_returned(self, world):
        state = world.new()
        result(state.take("a", [TWO, ONE])), result(state.take("b", [TWO]))
        assert result(state.take("c", [ONE, TWO])) == ONE
        assert result(state.take("c", [TWO, ONE])) == TWO

    def test_a_released_slot_can_be_taken_again(self, world):
        one, other = world.new(), world.new()
        result(one.take("a", [TWO, ONE]))
        result(one.give("a"))
        assert self.in_use(other) == (0, 0)
        assert result(other.take("b", [ONE])) is None

    def test_releasing_twice_or_an_unknown_slot_has_no_effect(self, world):
        state = world.new()
        result(state.take("a", [TWO])), result(state.take("b", [TWO]))
        result(state.give("a")), result(state.give("a")), result(state.give("never"))
        assert self.in_use(state) == (1, 0)

    def test_a_slot_may_take_more_names_and_takes_none_twice(self, world):
        state = world.new()
        result(state.take("a", [TWO]))
        assert result(state.take("a", [TWO, ONE])) is None
        assert self.in_use(state) == (1, 1)
        result(state.give("a"))
        assert self.in_use(state) == (0, 0)

    def test_a_slot_under_a_full_limit_may_take_other_names(self, world):
        state = world.new()
        result(state.take("a", [TWO])), result(state.take("b", [TWO]))
        assert result(state.take("a", [TWO, ONE])) is None

    def test_an_empty_claim_is_never_refused(self, world):
        assert result(world.new().take("a", [])) is None

    def test_each_instance_applies_its_own_limit_value(self, world):
        state = world.new()
        result(state.take("a", [ONE]))
        assert result(state.take("b", [SlotClaim("other", ONE.name, 2)])) is None
        assert result(state.take("c", [SlotClaim("other", ONE.name, 2)])) is not None

    # Rates

    def test_a_bucket_allows_one_burst_for_all_processes_and_refills(self, world):
        one, other = world.new(), world.new()
        rate = RateClaim("session_rate", "rate 198.51.100.7/32", 2.0, 3)
        takes = [result(state.take("x", [rate])) for state in (one, other, one, other)]
        assert takes == [None, None, None, rate]
        world.advance(0.5)
        assert result(one.take("x", [rate])) is None
        assert result(one.take("x", [rate])) == rate
        world.advance(60)
        assert [result(one.take("x", [rate])) for _ in range(4)] == [None, None, None, rate]

    def test_a_refused_take_spends_no_rate(self, world):
        state = world.new()
        rate = RateClaim("session_rate", "rate", 1.0, 1)
        result(state.take("a", [ONE]))
        assert [result(state.take("b", [rate, ONE])) for _ in range(3)] == [ONE] * 3
        assert result(state.take("b", [rate])) is None

    # Leases

    def test_slots_and_sessions_of_a_killed_process_are_released_after_its_lease(self, world):
        dead, alive = world.new(), world.new()
        result(dead.take("a", [TWO, ONE]))
        result(dead.publish(world.entry(dead)))
        world.kill(dead)
        world.advance(LEASE / 2)
        assert self.in_use(alive) == (1, 1)
        assert len(result(alive.sessions())) == 1
        world.advance(LEASE)
        assert self.in_use(alive) == (0, 0)
        assert result(alive.sessions()) == []

    def test_a_full_limit_releases_expired_leases(self, world):
        dead, alive = world.new(), world.new()
        result(dead.take("a", [ONE]))
        world.kill(dead)
        world.advance(LEASE - 1)
        assert result(alive.take("b", [ONE])) == ONE
        world.advance(1)
        assert result(alive.take("b", [ONE])) is None

    def test_a_running_process_keeps_its_slots_and_sessions(self, world):
        one, other = world.new(), world.new()
        result(one.take("a", [ONE]))
        world.advance(100 * LEASE)
        assert result(other.take("b", [ONE])) == ONE

    def test_a_process_that_was_stopped_gets_its_slots_and_sessions_back(self, world):
        sleepy, other = world.new(), world.new()
        entry = world.entry(sleepy)
        result(sleepy.take("a", [ONE, TWO])), result(sleepy.publish(entry))
        process = world.freeze(sleepy)
        world.advance(2 * LEASE)
        assert result(other.take("b", [ONE])) is None
        assert result(other.sessions()) == []
        world.thaw(sleepy, process)
        world.advance(LEASE)
        assert self.in_use(other) == (1, 2)  # over the limit: both processes run
        assert result(other.sessions()) == [entry]
        result(sleepy.give("a"))
        assert self.in_use(other) == (0, 1)

    def test_any_call_renews_an_expired_lease(self, world):
        sleepy, other = world.new(), world.new()
        result(sleepy.take("a", [TWO]))
        process = world.freeze(sleepy)
        world.advance(2 * LEASE)
        assert self.in_use(other) == (0, 0)
        process.rightNow = world._now  # its timers have not run yet
        result(sleepy.take("b", [TWO]))
        assert self.in_use(other) == (2, 0)

    def test_stop_releases_everything(self, world):
        one, other = world.new(), world.new()
        result(one.take("a", [TWO, ONE])), result(one.publish(world.entry(one)))
        result(one.stop())
        assert self.in_use(other) == (0, 0)
        assert result(other.sessions()) == []
        assert world.timers(one) == []

    def test_a_look_at_claims_takes_none_of_them(self, world):
        one, other = world.new(), world.new()
        once = OnceClaim("link", world.time_of_day() + 60)
        claims = [ONE, once]
        assert result(other.first_refused(claims)) is None
        assert self.in_use(other) == (0, 0)
        result(one.take("a", claims))
        assert result(other.first_refused(claims)) == ONE
        assert result(other.first_refused([once])) == once
        result(one.give("a"))
        assert result(other.first_refused([ONE])) is None

    # Sessions

    def test_the_sessions_of_all_processes_are_listed_oldest_first(self, world):
        one, other = world.new(), world.new()
        young, old = world.entry(one), world.entry(other, since=5.0)
        result(one.publish(young)), result(other.publish(old))
        assert list(result(one.sessions())) == list(result(other.sessions())) == [old, young]
        result(one.withdraw(young.session))
        assert list(result(other.sessions())) == [old]

    def test_sessions_are_listed_in_pages(self, world):
        one, other = world.new(), world.new()
        entries = [world.entry(each, since=since) for since, each in enumerate((one, other, one, other, one))]
        for entry in entries:
            result(one.publish(entry) if entry.holder == one.instance_id else other.publish(entry))
        first = list(result(one.sessions("", 2)))
        rest = list(result(one.sessions(first[-1].cursor, 9)))
        assert [*first, *rest] == entries and len(first) == 2
        assert list(result(other.sessions(entries[-1].cursor, 9))) == []

    def test_sessions_are_listed_by_selectors(self, world):
        one = world.new()
        alice = replace(
            world.entry(one),
            principal="alice",
            authenticator="authenticator sso",
            host="esx01",
            link="L1",
            login="W1",
            console="vm-1",
        )
        bob = replace(world.entry(one), principal="bob", host="esx02", upstream="other", listener="two")
        for entry in (alice, bob):
            result(one.publish(entry))
        for kind, value in (
            (SelectorKind.PRINCIPAL, "alice"),
            (SelectorKind.PRINCIPAL, "sso/alice"),
            (SelectorKind.HOST, "ESX01"),
            (SelectorKind.LINK, "L1"),
            (SelectorKind.LOGIN, "W1"),
            (SelectorKind.MACHINE, "vm-1"),
            (SelectorKind.UPSTREAM, alice.upstream),
            (SelectorKind.LISTENER, alice.listener),
            (SelectorKind.SESSION, alice.session),
        ):
            assert list(result(one.sessions(where=Selector(kind, value)))) == [alice], kind
        assert list(result(one.sessions(where=Selector(SelectorKind.PRINCIPAL, "staff/alice")))) == []
        assert len(result(one.sessions(where=Selector(SelectorKind.ALL)))) == 2

    def test_each_process_reports_its_figures(self, world):
        one, other = world.new(), world.new()
        result(one.report({"sessions": 3, "octets": 1e9})), result(other.report({"sessions": 1}))
        result(one.report({"sessions": 4}))
        found = result(other.reports())
        assert found == {one.instance_id: {"sessions": 4}, other.instance_id: {"sessions": 1}}

    def test_a_session_of_another_process_cannot_be_withdrawn(self, world):
        one, other = world.new(), world.new()
        entry = world.entry(one)
        result(one.publish(entry))
        result(other.withdraw(entry.session))
        assert list(result(other.sessions())) == [entry]

    def test_a_command_reaches_the_process_of_the_session(self, world):
        one, other = world.new(), world.new()
        mine, theirs = world.entry(one), world.entry(other)
        result(one.publish(mine)), result(other.publish(theirs))
        kill, drain = (
            Command(CommandKind.KILL, theirs.session, "at noon"),
            Command(CommandKind.DRAIN, mine.session),
        )
        assert result(one.tell(kill)) is True
        assert result(one.tell(drain)) is True
        assert world.obeyed == []
        world.advance(2)
        assert sorted(world.obeyed, key=str) == sorted(
            [(other.instance_id, kill), (one.instance_id, drain)], key=str
        )
        world.advance(10)
        assert len(world.obeyed) == 2

    def test_a_command_for_an_unknown_session_returns_false(self, world):
        one, other = world.new(), world.new()
        entry = world.entry(one)
        result(one.publish(entry))
        world.kill(one)
        world.advance(2 * LEASE)
        assert result(other.tell(Command(CommandKind.KILL, entry.session))) is False
        assert result(other.tell(Command(CommandKind.KILL, "nobody's"))) is False

    def test_commands_keep_their_order(self, world):
        one, other = world.new(), world.new()
        entries = [world.entry(one) for _ in range(5)]
        for entry in entries:
            result(one.publish(entry))
        commands = [
            Command(CommandKind.KILL, entry.session, str(number)) for number, entry in enumerate(entries)
        ]
        for command in commands:
            result(other.tell(command))
        world.advance(2)
        assert [command for _holder, command in world.obeyed] == commands

    # Reclaiming dead processes

    def test_reclaim_releases_everything_of_a_dead_process_at_once(self, world):
        one, other = world.new(), world.new()
        first, second, living = world.entry(one), world.entry(one), world.entry(other)
        for state, entry in ((one, first), (one, second), (other, living)):
            result(state.publish(entry))
        assert result(one.take("a", [TWO, ONE])) is None
        assert result(other.take("b", [TWO])) is None
        world.kill(one)
        assert list(result(other.reclaim(one.instance_id))) == [first, second]
        assert list(result(other.sessions())) == [living]
        assert self.in_use(other) == (1, 0)

    def test_sessions_of_a_dead_process_are_returned_once(self, world):
        one, other, third = world.new(), world.new(), world.new()
        result(one.publish(world.entry(one)))
        world.kill(one)
        assert len(result(other.reclaim(one.instance_id))) == 1
        assert list(result(third.reclaim(one.instance_id))) == []
        assert list(result(other.reclaim("nobody"))) == []

    def test_sessions_of_a_dead_process_are_returned_after_its_lease_expired(self, world):
        dead, one, other = world.new(), world.new(), world.new()
        first, second, living = world.entry(dead), world.entry(dead), world.entry(other)
        for state, entry in ((dead, first), (dead, second), (other, living)):
            result(state.publish(entry))
        assert result(dead.take("a", [TWO, ONE])) is None
        world.kill(dead)
        world.advance(4 * LEASE)
        assert self.in_use(one) == (0, 0)
        assert result(one.take("b", [ONE])) is None
        assert list(result(one.sessions())) == [living]
        assert result(one.tell(Command(CommandKind.KILL, first.session))) is False
        assert list(result(one.reclaim(dead.instance_id))) == [first, second]
        assert list(result(other.reclaim(dead.instance_id))) == []
        assert self.in_use(one) == (0, 1)

    def test_lost_sessions_are_deleted_after_a_day(self, world):
        dead, alive = world.new(), world.new()
        result(dead.publish(world.entry(dead)))
        world.kill(dead)
        world.advance(2 * LEASE)
        world.leap(LOST_SESSION_RETENTION)
        assert list(result(alive.reclaim(dead.instance_id))) == []

    def test_a_process_that_resumes_has_no_lost_sessions(self, world):
        sleepy, other = world.new(), world.new()
        ended, stays = world.entry(sleepy), world.entry(sleepy)
        result(sleepy.publish(ended)), result(sleepy.publish(stays))
        result(sleepy.take("a", [TWO])), result(sleepy.take("b", [TWO]))
        process = world.freeze(sleepy)
        world.advance(2 * LEASE)
        assert result(other.sessions()) == [] and self.in_use(other) == (0, 0)
        process.rightNow = world._now  # its timers have not run yet
        result(sleepy.withdraw(ended.session)), result(sleepy.give("a"))
        assert list(result(other.sessions())) == [stays]
        assert self.in_use(other) == (1, 0)
        assert list(result(other.reclaim(sleepy.instance_id))) == [stays]
        assert list(result(other.reclaim(sleepy.instance_id))) == []

    def test_a_process_that_resumes_and_stops_leaves_nothing_to_reclaim(self, world):
        sleepy, other = world.new(), world.new()
        result(sleepy.publish(world.entry(sleepy)))
        process = world.freeze(sleepy)
        world.advance(2 * LEASE)
        world.thaw(sleepy, process)
        result(sleepy.stop())
        assert list(result(other.reclaim(sleepy.instance_id))) == []

    def test_the_sessions_of_a_process_that_died_long_ago_are_returned_once(self, world):
        dead, gone, one, other = (world.new() for _ in range(4))
        first, second, theirs = world.entry(dead), world.entry(dead), world.entry(gone)
        for state, entry in ((dead, first), (dead, second), (gone, theirs), (one, world.entry(one))):
            result(state.publish(entry))
        world.kill(dead)
        world.advance(LEASE + 30)
        world.kill(gone)
        assert list(result(one.reclaim_expired(60.0))) == []
        world.advance(30)
        found = [result(state.reclaim_expired(60.0)) for state in (one, other, one)]
        assert list(map(list, found)) == [[first, second], [], []]
        assert list(result(other.reclaim(dead.instance_id))) == []
        world.advance(LEASE + 30)
        assert list(result(other.reclaim_expired(60.0))) == [theirs]
        assert list(result(one.reclaim(gone.instance_id))) == []
        assert len(result(one.sessions())) == 1

    def test_a_process_that_resumes_late_is_not_reclaimed(self, world):
        sleepy, other = world.new(), world.new()
        entry = world.entry(sleepy)
        result(sleepy.publish(entry))
        process = world.freeze(sleepy)
        world.advance(LEASE + 59)
        assert list(result(other.reclaim_expired(60.0))) == []
        world.thaw(sleepy, process)
        world.advance(30)
        assert list(result(other.reclaim_expired(60.0))) == []
        assert list(result(other.sessions())) == [entry]

    def test_sessions_that_are_reclaimed_by_name_do_not_expire(self, world):
        dead, other = world.new(), world.new()
        result(dead.publish(world.entry(dead)))
        world.kill(dead)
        assert len(result(other.reclaim(dead.instance_id))) == 1
        world.advance(LEASE + 120)
        assert list(result(other.reclaim_expired(60.0))) == []

    def test_a_reclaimed_process_that_still_runs_restores_its_slots_and_sessions(self, world):
        one, other = world.new(), world.new()
        entry = world.entry(one)
        result(one.publish(entry))
        assert result(one.take("a", [TWO])) is None
        assert list(result(other.reclaim(one.instance_id))) == [entry]
        world.advance(LEASE)
        assert list(result(other.sessions())) == [entry]
        assert self.in_use(other) == (1, 0)
