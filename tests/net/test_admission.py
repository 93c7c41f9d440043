"""The limits; every slot that is acquired is released."""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol

from esxiproxy.core.errors import LimitReached, OutOfDescriptors, StateUnavailable
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session.record import Kind
from esxiproxy.net.admission.slot import SlotOwner
from tests.net.admission_scene import Door
from tests.net.memory import Wire


@pytest.mark.parametrize(
    ("key", "others"),
    [
        ("max_sessions", {"host": "203.0.113.1"}),
        ("max_sessions_per_client", {"host": "198.51.100.7"}),
    ],
)
def test_sessions_are_limited_as_they_arrive(key, others):
    door = Door(**{key: 2})
    assert [door.arrive(name).refused for name in "ab"] == [None, None]
    assert door.arrive("c", **others).refused == f"{key}: all 2 are in use"
    assert door.admission.refusals == {key: 1}
    door.end("a")
    assert door.arrive("d", **others).refused is None


def test_the_clients_of_one_ipv6_network_are_one():
    door = Door(max_sessions_per_client=1)
    door.arrive("a", host="2001:db8::1")
    assert door.arrive("b", host="2001:db8::2").refused
    assert door.arrive("c", host="2001:db8:0:1::1").refused is None


def test_a_principal_and_a_console_are_limited_when_they_are_known():
    door = Door(max_sessions_per_principal=1, max_sessions_per_console=1)
    door.arrive("a"), door.decide("a", "vm-1")
    door.arrive("b")
    assert door.decide("b", "vm-2").refused == "max_sessions_per_principal: all 1 are in use"
    assert door.decide("b", "vm-1", principal="bob").refused == "max_sessions_per_console: all 1 are in use"
    assert door.decide("b", "vm-2", principal="bob").refused is None


def test_a_refused_session_releases_its_claims():
    door = Door(max_sessions=1, max_sessions_per_console=1)
    other = Door(max_sessions_per_console=1, memory=door.state._memory, clock=door.clock)
    other.arrive("x"), other.decide("x", "vm-1")
    door.arrive("a")
    assert door.decide("a", "vm-1").refused
    assert door.arrive("b").refused == "max_sessions: all 1 are in use"
    door.end("a"), door.end("b")
    assert door.arrive("c").refused is None


def test_new_sessions_of_one_client_come_at_a_rate():
    door = Door(session_rate=1.0, session_burst=2, queue_timeout=5.0)
    assert [door.arrive(name).refused for name in "abc"] == [
        None,
        None,
        "session_rate: more than 1 a second",  # at once: a rate limit has no queue
    ]
    assert door.arrive("d", host="203.0.113.1").refused is None
    door.advance(1.1)
    assert door.arrive("e").refused is None


def test_plain_http_is_limited_by_its_connections_only():
    door = Door(max_sessions=1, session_rate=1.0, session_burst=1)
    assert [door.arrive(name, kind=Kind.HTTP).outcome for name in "abc"] == [None] * 3


def test_without_a_descriptor_a_connection_is_refused():
    seen = []
    door = Door(room=lambda dials: seen.append(dials) or dials < 2)
    door.arrive("a"), door.arrive("b")
    assert isinstance(door.arrive("c").outcome, OutOfDescriptors)
    assert door.admission.refusals == {"descriptors": 1}
    door.admission.opened(door.sessions["a"])  # it has the descriptor of its upstream
    assert door.arrive("d").outcome is None
    door.end("b"), door.end("d"), door.end("c")
    door.arrive("e")
    assert seen == [0, 1, 2, 1, 0]


def test_a_state_that_is_away_refuses():
    door = Door(max_sessions=1)
    door.state.take = lambda slot, claims: _failing(StateUnavailable("gone"))
    assert isinstance(door.arrive("a").outcome, StateUnavailable)
    assert not door.admission.refusals


def _failing(error):
    failing = Deferred()
    failing.errback(error)
    return failing


# Connections in the opening handshake


def test_connections_in_the_opening_handshake_are_limited():
    door = Door(max_handshakes=2)
    first = door.admission.take_handshake_slot("secure", door.connection_limits)
    door.admission.take_handshake_slot("secure", door.connection_limits)
    with pytest.raises(LimitReached, match="max_handshakes: all 2 are in use"):
        door.admission.take_handshake_slot("secure", door.connection_limits)
    assert door.admission.refusals == {"max_handshakes": 1}
    first.release(), first.release()
    assert door.admission.handshakes == 1
    door.admission.take_handshake_slot("secure", door.connection_limits)


@pytest.mark.parametrize(("most", "part"), [(9, 2), (8, 2), (4, 1), (1, 1)])
def test_each_of_several_processes_has_its_part_of_them_and_one_at_least(most, part):
    door = Door(processes=4, max_handshakes=most)
    for _ in range(part):
        door.admission.take_handshake_slot("secure", door.connection_limits)
    with pytest.raises(LimitReached, match=f"max_handshakes: all {most} are in use"):
        door.admission.take_handshake_slot("secure", door.connection_limits)


def test_each_listener_has_its_own_count_of_handshakes():
    """Silent connections at a public listener must not block an internal listener."""
    door, inner = Door(max_handshakes=20), ConnectionLimits(max_handshakes=2)
    slots = [door.admission.take_handshake_slot("public", door.connection_limits) for _ in range(20)]
    door.admission.take_handshake_slot("inner", inner), door.admission.take_handshake_slot("inner", inner)
    for name, connection_limits in ("public", door.connection_limits), ("inner", inner):
        with pytest.raises(LimitReached):
            door.admission.take_handshake_slot(name, connection_limits)
    assert door.admission.handshakes == 22
    for slot in slots:
        slot.release()
    assert door.admission.handshakes == 2 and list(door.admission._handshakes) == ["inner"]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_lenient_listener_pays_no_debt_at_a_strict_one(processes):
    """A client that alternates between two listeners is limited at both."""
    strict = [Door(session_rate=1.0, session_burst=2)]
    strict += [
        Door(session_rate=1.0, session_burst=2, memory=strict[0].state._memory, clock=strict[0].clock)
        for _ in range(processes - 1)
    ]
    refused = []
    for number in range(6):
        door = strict[number % processes]
        refused.append(door.arrive(f"{number}").refused is not None)
        strict_limits, door.connection_limits = (
            door.connection_limits,
            ConnectionLimits(session_rate=1000.0, session_burst=2000),
        )
        assert door.arrive(f"lenient {number}", listener="lenient").refused is None
        door.connection_limits = strict_limits
    assert refused == [False] * 2 + [True] * 4


# Connections to an upstream


def test_connections_to_a_host_are_limited():
    door = Door(max_connections=2)
    slots = [door.dial().outcome, door.dial().outcome]
    assert door.dial().refused == "max_connections: all 2 are in use"
    slots[0].release(), slots[0].release()
    assert door.dial().refused is None
    assert door.dial().refused


class Counted(SlotOwner, Protocol):
    """A protocol with a slot."""


def dialling(door, name=None):
    """Return the protocol of an upstream connection, which releases its slot."""
    protocol = Counted()
    protocol.slot = door.dial(name).outcome
    return protocol


def test_a_connection_counts_until_its_descriptor_is_closed():
    door = Door(max_connections=1)
    protocol = dialling(door)
    wire = Wire(protocol)
    assert door.dial().refused
    protocol.transport.abortConnection()
    assert door.dial().refused
    wire.pump()
    assert wire.ended and door.dial().refused is None


def test_a_session_that_has_dialled_needs_no_more_descriptors():
    seen = []
    door = Door(room=lambda dials: seen.append(dials) or True)
    door.arrive("a"), door.arrive("b")
    protocol = dialling(door, "a")
    door.arrive("c")
    Wire(protocol)
    door.arrive("d")
    assert seen == [0, 1, 2, 2]


# Connections for plain HTTP


def http(door, name, host="198.51.100.7"):
    """Acquire a connection slot for a plain HTTP request of this client."""
    door.session(name, host=host, kind=Kind.HTTP)
    return door.dial(name)


def test_plain_http_leaves_connections_of_a_host_to_consoles():
    """One client with slow request bodies must not acquire all connections."""
    door = Door(max_connections=8)
    requests = [http(door, f"h{number}", f"198.51.100.{number}") for number in range(6)]
    assert [step.refused for step in requests[:4]] == [None] * 4
    assert {step.refused for step in requests[4:]} == {"max_http_connections: all 4 are in use"}
    assert [door.dial().refused for _ in range(4)] == [None] * 4, "the consoles"
    assert door.dial().refused == "max_connections: all 8 are in use"
    requests[0].outcome.release()
    assert door.dial().refused is None, "a console may have what HTTP leaves"
    assert http(door, "h9").refused == "max_connections: all 8 are in use"


def test_the_part_of_plain_http_holds_over_all_processes():
    door = Door(max_connections=4)
    other = Door(max_connections=4, memory=door.state._memory, clock=door.clock)
    assert [http(door, "a").refused, http(other, "b").refused] == [None, None]
    for each in (door, other):
        assert http(each, "c", "192.0.2.9").refused == "max_http_connections: all 2 are in use"


def test_connections_for_plain_http_are_limited_per_client():
    door = Door(max_http_connections_per_client=2)
    first = [http(door, name) for name in "ab"]
    assert http(door, "c").refused == "max_http_connections_per_client: all 2 are in use"
    assert http(door, "d", "203.0.113.1").refused is None
    assert door.dial().refused is None, "a console is not one of them"
    first[0].outcome.release()
    assert http(door, "e").refused is None
    assert door.admission.refusals == {"max_http_connections_per_client": 1}


class Idle:
    """An idle HTTP connection."""

    lost = False

    def __init__(self, slot):
        self.slot, self.claim_names = slot, slot.names

    def abort(self):
        self.lost = True
        self.slot.release()


def kept(door, name, **kwargs):
    idle = Idle(http(door, name, **kwargs).outcome)
    door.admission.mark_idle(idle)
    return idle


def test_an_idle_connection_makes_room_for_whom_it_is_in_the_way_of():
    door = Door(max_connections=4, max_http_connections_per_client=1)
    mine, other = kept(door, "a"), kept(door, "b", host="203.0.113.1")
    step = http(door, "c", "203.0.113.1")
    door.advance(0.3)
    assert step.outcome and other.lost and not mine.lost, "the limit of one client: its own is closed"
    step = http(door, "d", "192.0.2.1")
    door.advance(0.3)
    assert step.outcome and mine.lost, "the limit of plain HTTP: any of these"


def test_a_console_closes_an_idle_connection_of_its_host():
    door = Door(max_connections=2)
    idle = kept(door, "a")
    assert door.dial().refused is None
    step = door.dial()
    door.advance(0.3)
    assert step.outcome and idle.lost


def test_consoles_are_the_first_in_a_queue_for_connections():
    door = Door(max_connections=2, max_http_connections=2, queue_timeout=5.0)
    slots = [door.dial().outcome, door.dial().outcome]
    requests = [http(door, name) for name in "ab"]
    console = door.dial()
    assert console.waits
    slots[0].release()
    door.advance(0.5)
    assert console.outcome and all(step.waits for step in requests)
    slots[1].release()
    door.advance(0.5)
    assert [step.waits for step in requests] == [False, True]


def test_plain_http_in_a_queue_of_its_own_overtakes_no_console():
    door = Door(max_connections=2, max_http_connections=1, queue_timeout=5.0)
    first, slot = http(door, "a").outcome, door.dial().outcome
    request, console = http(door, "b"), door.dial()
    door.state.give(f"{door.state.instance_id} connection 1")  # the queue is not notified
    door.advance(0.3)
    assert console.outcome and request.waits
    slot.release(), first.release()
    door.advance(0.3)
    assert request.outcome


def test_a_console_without_a_queue_is_not_refused_for_http_that_waits():
    door = Door(max_connections=2, max_http_connections=2, queue_timeout=5.0)
    slots = [door.dial().outcome, door.dial().outcome]
    assert http(door, "a").waits
    door.state.give(f"{door.state.instance_id} connection 1")
    door.connection_limits = ConnectionLimits(max_connections=2)
    assert door.dial().refused is None and slots
