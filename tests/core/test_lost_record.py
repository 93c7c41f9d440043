"""The record of a session whose process crashed."""

from esxiproxy.core.errors import WorkerLost
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.core.session.lost_record import lost_record


def test_the_record_of_a_lost_session_says_so():
    entry = SessionEntry(
        "5e55", "holder", "one", "[2001:db8::1]:4711", "alice", "/ticket/***", "esxi1", 100.0, trace_id="4bf9"
    )
    record = lost_record(entry, WorkerLost("it crashed"), 160.5)
    assert (record.session, record.error, record.status) == ("5e55", "WorkerLost", 101)
    assert record.trace_id == "4bf9"
    assert (record.client.host, record.client.port) == ("2001:db8::1", 4711)
    assert record.phases == {"closed": 60.5}
