"""The event stream sends the status and the changes of one window, and no more than that."""

import json

import pytest
from twisted.internet.defer import CancelledError

from esxiproxy.admin.api.sessions import SessionReads
from esxiproxy.admin.call import ApiError
from esxiproxy.admin.events import open_stream
from esxiproxy.admin.openapi.operations import EVENTS
from esxiproxy.core.errors import StateUnavailable
from tests.admin.scene import OPERATOR, Admin, Worker, check, defaults
from tests.state.world import MemoryWorld
from tests.support.outcome import result

ROWS = {"sessions": "Session", "hosts": "Host", "failures": "Failure"}


class Reader:
    """A reader of a stream, which applies the events as a page does."""

    def __init__(self, admin, **parameters):
        self.stream = open_stream(admin.live, OPERATOR, {**defaults(EVENTS), **parameters})
        self.received, self.windows, self.statuses, self.rows = b"", [], [], {}
        self.errors = []
        self.reads_on = True
        self.read()

    def read(self):
        self.stream.next().addCallbacks(self._got, self.errors.append)

    def _got(self, octets):
        self.received += octets
        for block in octets.decode("ascii").split("\n\n"):
            lines = dict(line.split(":", 1) for line in block.split("\n") if line)
            if lines.get("event") == " window":
                self._apply(json.loads(lines["data"]))
            elif lines.get("event") == " status":
                self.statuses.append(json.loads(lines["data"]))
                check("Status", self.statuses[-1])
        if self.reads_on:
            self.read()

    def _apply(self, content):
        assert sorted(content) == ["changed", "matching", "offset", "order", "total", "view"]
        for row in content["changed"].values():
            check(ROWS[content["view"]], row)
        known = {**self.rows, **content["changed"]}
        self.rows = {key: known[key] for key in content["order"]}
        self.windows.append(content)


@pytest.fixture
def world(tmp_path):
    return MemoryWorld(tmp_path)


def test_it_begins_with_the_time_to_reconnect_the_status_and_the_window(world):
    worker, admin = Worker(world), Admin(world)
    session = worker.open()
    reader = Reader(admin)
    assert reader.received.startswith(b"retry: 2000\n\nevent: status\ndata: {")
    (content,) = reader.windows
    assert content["order"] == [session.id] and list(content["changed"]) == [session.id]
    assert (content["view"], content["total"], content["offset"]) == ("sessions", 1, 0)


def test_sessions_appear_and_vanish_within_2_s(world):
    worker, admin = Worker(world), Admin(world)
    reader = Reader(admin)
    session = worker.open("bob")
    world.advance(2)
    assert reader.rows[session.id]["principal"] == "bob" and reader.statuses[-1]["sessions"] == 1
    worker.close(session)
    world.advance(2)
    assert reader.rows == {} and reader.statuses[-1]["sessions"] == 0
    assert reader.windows[-1]["changed"] == {}


def test_only_rows_that_changed_are_sent(world):
    worker, admin = Worker(world), Admin(world)
    sessions = [worker.open() for _ in range(20)]
    reader = Reader(admin)
    world.advance(12)
    reader.windows.clear()
    for session in sessions:
        session.traffic.idle = lambda: 1.0  # all of them idle as long as before
    world.advance(6)
    reader.windows.clear()
    worker.relay(sessions[3], 0, 7000)
    world.advance(6)
    assert {key for content in reader.windows for key in content["changed"]} == {sessions[3].id}
    assert reader.rows[sessions[3].id]["bytes_down"] == 7000


def test_the_idle_time_is_sent_again_when_it_has_grown_by_a_tenth(world):
    worker, admin = Worker(world), Admin(world)
    session = worker.open()
    reader = Reader(admin)
    world.advance(600)
    assert 545 <= reader.rows[session.id]["idle"] <= 600
    assert 20 <= len(reader.windows) <= 60
    reader.windows.clear()
    worker.relay(session, 1, 0)
    world.advance(4)
    assert reader.rows[session.id]["idle"] <= 4


def test_nothing_but_a_ping_is_sent_while_nothing_changes(world):
    reader = Reader(Admin(world))
    world.advance(3)
    before = len(reader.received)
    world.advance(62)
    assert set(reader.received[before:].split(b"\n\n")) == {b"event: ping\ndata: {}", b""}
    assert reader.received[before:].count(b"event: ping") == 4


def test_a_window_has_its_rows_only(world):
    worker, admin = Worker(world), Admin(world)
    for number in range(5000):
        worker.open(f"user{number % 50}", console=f"vm-{number:04}")
    reader = Reader(admin, sort="console", order="desc", limit=30, offset=10, filter="principal:user7")
    (content,) = reader.windows
    assert (content["total"], content["matching"], len(content["order"])) == (5000, 100, 30)
    assert list(content["changed"]) == content["order"]
    assert reader.rows[content["order"][0]]["console"] == "vm-4457"
    assert len(reader.received) < 30 * 600
    before = len(reader.received)
    world.advance(30)
    assert len(reader.received) - before < 25 * 30 * 600, "at most its window for each change of figures"


def test_streams_share_what_is_read(world):
    worker, admin = Worker(world), Admin(world)
    worker.open()
    calls = []
    sessions = admin.state.sessions
    admin.state.sessions = lambda *arguments: calls.append(arguments) or sessions(*arguments)
    readers = [Reader(admin) for _ in range(10)]
    world.advance(10)
    assert len(calls) <= 11 and all(len(reader.rows) == 1 for reader in readers)


def test_a_slow_reader_gets_the_difference_to_what_it_has(world):
    worker, admin = Worker(world), Admin(world)
    gone, stays = worker.open("gone"), worker.open("stays")
    reader = Reader(admin)
    reader.reads_on = False
    world.advance(6)
    passing = worker.open("passing")
    world.advance(6)
    worker.close(passing), worker.close(gone)
    new = worker.open("new")
    world.advance(30)
    reader.reads_on = True
    reader.read()
    world.advance(2)
    assert list(reader.rows) == [stays.id, new.id]
    assert passing.id not in reader.received.decode()


def test_hosts_and_failures_can_be_watched(world):
    worker, admin = Worker(world), Admin(world)
    worker.open(host="esx7.example")
    hosts, failures = Reader(admin, view="hosts"), Reader(admin, view="failures", order="desc")
    assert list(hosts.rows) == ["esxi1 esx7.example"]
    worker.fail("UpstreamTimeout", "esx7.example")
    world.advance(8)
    (failure,) = failures.rows.values()
    assert failure["error"] == "UpstreamTimeout" and failures.windows[-1]["order"] == [failure["session"]]
    assert hosts.rows["esxi1 esx7.example"]["failures"] == 1


@pytest.mark.parametrize(
    ("view", "sort"), [("sessions", "usage"), ("hosts", "since"), ("failures", "__init__")]
)
def test_a_column_of_another_list_is_refused(world, view, sort):
    with pytest.raises(ApiError, match="has the columns") as refused:
        Reader(Admin(world), view=view, sort=sort)
    assert refused.value.status == 404


def test_hostile_names_stay_within_their_event(world):
    worker, admin = Worker(world), Admin(world)
    name = "eve\r\n\r\nevent: status\ndata: {}\n\n\u2028\u202e<script>\x00"
    worker.open(name)
    reader = Reader(admin)
    (row,) = reader.rows.values()
    assert row["principal"] == name and reader.received.count(b"\nevent: status") == 1


def test_an_unreachable_state_is_told_and_waited_for(world):
    worker, admin = Worker(world), Admin(world)
    worker.open()
    reader = Reader(admin)
    sessions = admin.state.sessions

    async def unavailable(*_arguments):
        raise StateUnavailable("the password of the state is pa55word")

    def events():
        found = [line for line in reader.received.decode().splitlines() if line.startswith(("event", "data"))]
        return [line.partition(": ")[2] for line in found if line.startswith("event")]

    admin.state.sessions = unavailable
    world.advance(5)
    assert events() == ["status", "window", "unavailable"]
    assert b'data: {"error":"The shared state cannot be reached."}' in reader.received
    world.advance(40)
    assert events()[2:] == ["unavailable"] * 3, "once, and then in place of each ping"
    assert b"pa55word" not in reader.received
    admin.state.sessions = sessions
    world.advance(2)
    assert events()[5:6] in (["ping"], ["status"]), "also if nothing has changed meanwhile"
    worker.open()
    world.advance(2)
    assert len(reader.rows) == 2 and not reader.errors


def test_a_closed_stream_ends_and_leaves_no_timer(world):
    admin = Admin(world)
    reader = Reader(admin)
    timers = len(world.timers(admin.state))
    reader.stream.close()
    assert reader.errors[0].check(CancelledError) and len(world.timers(admin.state)) == timers - 1
    with pytest.raises(CancelledError):
        result(reader.stream.next())


def test_without_readers_only_the_totals_are_read(world):
    worker, admin = Worker(world), Admin(world)
    for _ in range(100):
        worker.open()
    assert isinstance(admin.handlers["list_sessions"].__self__, SessionReads)
    admin.state.sessions = None  # a call would fail
    world.advance(60)
    assert len(admin.call("history")["points"]) == 12
