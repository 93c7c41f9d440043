"""Closing: from the first sign of an end to two closed connections."""

import itertools
import random

import pytest

from esxiproxy.core.errors import Killed, ProtocolViolation
from esxiproxy.core.websocket.closing import Action, Close, Closing, ClosingPhase, LegAction, Side, truncated

CLIENT, UPSTREAM = Side.CLIENT, Side.UPSTREAM
BYE = Close(4001, b"bye")
ECHO = Close(4001, b"echo")
WRONG = ProtocolViolation("RSV bits set")


def sent(actions):
    return {action.side: action.close for action in actions if action.action is LegAction.SEND_CLOSE}


@pytest.mark.parametrize("first", Side)
def test_a_close_goes_to_the_other_side_first_and_its_answer_comes_back(first):
    closing = Closing()
    assert closing.close_received(first, BYE) == [Action(LegAction.SEND_CLOSE, first.other, BYE)]
    assert closing.phase is ClosingPhase.CARRYING
    assert closing.forwards_from(first.other) and not closing.forwards_from(first)
    actions = closing.close_received(first.other, ECHO)
    assert actions[0] == Action(LegAction.SEND_CLOSE, first, ECHO)
    assert Action(LegAction.DROP, CLIENT) in actions
    assert not any(action.side is UPSTREAM and action.action is LegAction.DROP for action in actions)
    assert closing.lost(CLIENT) == [] and closing.lost(UPSTREAM) == []
    assert closing.phase is ClosingPhase.CLOSED


@pytest.mark.parametrize(("first", "told"), [(CLIENT, 1001), (UPSTREAM, 1011)])
def test_a_fault_is_answered_after_the_peer_had_its_say(first, told):
    closing = Closing()
    actions = closing.faulted(first, WRONG)
    assert sent(actions)[first.other].code == told
    assert first not in sent(actions)
    actions = closing.close_received(first.other, Close(told))
    assert sent(actions)[first] == Close(1002, b"RSV bits set")
    assert Action(LegAction.LINGER, first) in actions


@pytest.mark.parametrize(("first", "told"), [(CLIENT, 1001), (UPSTREAM, 1011)])
def test_a_lost_leg_is_closed_on_the_other_side(first, told):
    closing = Closing()
    assert sent(closing.lost(first))[first.other].code == told
    assert closing.phase is ClosingPhase.ANSWERING
    assert not closing.forwards_from(first.other)


def test_a_silent_peer_is_aborted_and_the_first_one_answered_with_its_own_code():
    closing = Closing()
    closing.close_received(CLIENT, BYE)
    actions = closing.expired()
    assert actions[0] == Action(LegAction.ABORT, UPSTREAM)
    assert sent(actions) == {CLIENT: BYE}
    assert closing.expired() == [Action(LegAction.ABORT, CLIENT), Action(LegAction.ABORT, UPSTREAM)]


def test_a_demand_closes_both_legs_and_keeps_a_close_that_has_begun():
    closing = Closing()
    actions = closing.demanded(Killed("by the operator"))
    assert sent(actions) == dict.fromkeys(Side, Close(1008, b"by the operator"))
    assert closing.demanded(Killed("again")) == []
    assert closing.close_received(CLIENT, ECHO) == [Action(LegAction.DROP, CLIENT)]
    assert closing.close_received(UPSTREAM, ECHO) == []


def test_the_other_sides_fault_while_carrying_ends_its_say():
    closing = Closing()
    closing.close_received(CLIENT, BYE)
    actions = closing.faulted(UPSTREAM, WRONG)
    assert sent(actions) == {CLIENT: BYE}
    assert Action(LegAction.LINGER, UPSTREAM) in actions


def test_a_client_that_closes_and_leaves_gets_no_answer():
    closing = Closing()
    closing.close_received(CLIENT, BYE)
    assert closing.lost(CLIENT) == []
    assert sent(closing.close_received(UPSTREAM, ECHO)) == {}


EVENTS = {
    "close": lambda c, s: c.close_received(s, BYE),
    "fault": lambda c, s: c.faulted(s, WRONG),
    "lost": lambda c, s: c.lost(s),
    "demand": lambda c, s: c.demanded(Killed("x")),
    "expired": lambda c, s: c.expired(),
}


@pytest.mark.parametrize("seed", range(200))
def test_whatever_happens_each_side_gets_at_most_one_close_and_two_timers_end_it(seed):
    chance = random.Random(seed)
    closing, told = Closing(), []
    for name, side in (chance.choice(list(itertools.product(EVENTS, Side))) for _ in range(8)):
        gone = {s for s in Side if closing.is_gone(s)}
        if side in gone:
            continue
        actions = EVENTS[name](closing, side)
        assert all(action.side not in gone for action in actions if name != "lost")
        told += list(sent(actions))
    assert len(told) == len(set(told))
    actions = closing.expired() + closing.expired()
    aborted = {action.side for action in actions if action.action is LegAction.ABORT}
    assert aborted == {side for side in Side if not closing.is_gone(side)}


def test_a_reason_is_cut_between_characters():
    assert truncated("é" * 100) == "é".encode() * 61
    assert truncated("short") == b"short"
