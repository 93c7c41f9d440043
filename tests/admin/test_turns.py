"""The turns of the reactor: one piece of work in each, in the order in which they were asked for."""

from twisted.internet.defer import CancelledError

from esxiproxy.admin.turns import Turns


class Loop:
    """A clock whose calls run in the next turn, as those of a reactor do."""

    def __init__(self):
        self.calls = []

    def callLater(self, seconds, call):
        assert seconds == 0
        self.calls.append(call)

    def turn(self):
        calls, self.calls = self.calls, []
        for call in calls:
            call()


def test_each_caller_has_a_turn_of_its_own():
    loop, ran = Loop(), []
    turns = Turns(loop)
    for number in range(5):
        turns.take().addCallback(lambda _, number=number: ran.append(number))
    for number in range(5):
        assert ran == list(range(number + 1))
        loop.turn()
    assert loop.calls == [], "no turn is waited for"
    turns.take().addCallback(lambda _: ran.append("later"))
    assert ran[-1] == "later", "the turn is free again"


def test_a_caller_that_leaves_takes_no_turn():
    loop, ran = Loop(), []
    turns = Turns(loop)
    _first, leaving, last = turns.take(), turns.take(), turns.take()
    leaving.addErrback(lambda failure: failure.trap(CancelledError))
    last.addCallback(lambda _: ran.append("last"))
    leaving.cancel()
    loop.turn()
    assert ran == ["last"]
