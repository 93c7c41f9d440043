"""The sessions of a crashed worker are recorded, with a state that the test makes up."""

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.workers.worker.crash_recovery import RETRY_INTERVAL, CrashRecorder

ENTRY = SessionEntry("5e55", "dead", "one", "[2001:db8::7]:4711", "alice", "/ticket/***", "esxi1", 90.0)


class State:
    """A shared state that may be unavailable."""

    def __init__(self):
        self.gone = False
        self.had = {"dead": [ENTRY]}

    def reclaim(self, holder):
        if self.gone:
            return fail(StateUnavailable("the shared state cannot be reached"))
        return succeed(self.had.pop(holder, []))


def test_each_session_has_its_record_once():
    clock, records = Clock(), []
    clock.advance(100)
    recorder = CrashRecorder(State().reclaim, records.append, clock, clock.seconds)
    for _ in range(2):
        done = Deferred.fromCoroutine(recorder.record_sessions("dead"))
        assert done.called
    (record,) = records
    assert (record.session, record.error, record.phases) == ("5e55", "WorkerLost", {"closed": 10.0})


def test_a_state_that_is_gone_is_asked_again_until_it_answers():
    clock, records, state = Clock(), [], State()
    state.gone = True
    done = Deferred.fromCoroutine(
        CrashRecorder(state.reclaim, records.append, clock, clock.seconds).record_sessions("dead")
    )
    clock.pump([RETRY_INTERVAL] * 100)
    assert not done.called and records == []
    state.gone = False
    clock.advance(RETRY_INTERVAL)
    assert done.called
    assert [record.session for record in records] == ["5e55"]
