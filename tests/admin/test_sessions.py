"""The open consoles of all workers and machines, in pages, with their figures."""

from itertools import pairwise

import pytest

from esxiproxy.admin.call import ApiError
from tests.admin.scene import Admin, FakeTraffic, Worker
from tests.state.world import MemoryWorld, SqliteWorld


@pytest.fixture(params=[MemoryWorld, SqliteWorld])
def world(request, tmp_path):
    return request.param(tmp_path)


def test_consoles_of_all_machines_are_listed_with_their_worker(world):
    left, right = Worker(world, "left", "1"), Worker(world, "right", "0", "run-2")
    one, other = left.open("alice", console="vm-1"), right.open("bob", link="link-7")
    first, second = Admin(world).rows()
    assert (first["id"], first["machine"], first["worker"]) == (one.id, "left", "1")
    assert (second["id"], second["machine"], second["worker"]) == (other.id, "right", "0")
    assert first["principal"] == "alice" and first["authenticator"] == "authenticator sso"
    assert first["console"] == "vm-1" and second["link"] == "link-7"
    assert first["state"] == "open" and first["bytes_up"] is first["idle"] is first["rate_up"] is None


def test_a_console_has_its_id_and_its_name_for_people(world):
    worker, admin = Worker(world), Admin(world)
    for number, name in enumerate(("web-b", "web-a", "")):
        worker.open(console=f"dc1/{number}", console_name=name)
    shown = [(row["console"], row["console_name"]) for row in admin.rows(sort="console_name")]
    assert shown == [("dc1/2", "dc1/2"), ("dc1/1", "web-a"), ("dc1/0", "web-b")]
    for words in ("WEB-a", "console_name:web-a", "console:dc1/1"):
        assert [row["console"] for row in admin.rows(filter=words)] == ["dc1/1"]


def test_figures_appear_while_there_is_a_reader(world):
    worker, admin = Worker(world), Admin(world)
    session = worker.open()
    session.round_trip = 0.0213
    worker.relay(session, 10, 1000)
    (row,) = admin.rows()
    assert row["bytes_down"] is None
    for _ in range(12):
        world.advance(1)
        worker.relay(session, 5, 500)
        (row,) = admin.rows()
    assert row["bytes_down"] > 1000 and row["bytes_up"] > 10
    assert row["rate_down"] == pytest.approx(500, rel=0.01)
    assert row["rate_up"] == pytest.approx(5, rel=0.01)
    assert row["round_trip"] == 0.0213 and row["idle"] <= 1
    session.traffic.is_stalled = True
    world.advance(3)
    (row,) = admin.rows()
    assert row["state"] == "stalled" and 2 <= row["idle"] <= 4


def test_an_ended_console_vanishes_within_2_s(world):
    worker, admin = Worker(world), Admin(world)
    session = worker.open()
    assert len(admin.rows()) == 1
    worker.close(session)
    world.advance(2)
    assert admin.rows() == []


def test_a_crashed_worker_has_no_consoles_when_its_lease_is_over(world):
    worker, other, admin = Worker(world, worker="0"), Worker(world, worker="1"), Admin(world)
    worker.open(), other.open("bob")
    assert len(admin.rows()) == 2
    worker.crash()
    world.advance(20)
    assert [row["principal"] for row in admin.rows()] == ["bob"]
    assert [each["worker"] for each in admin.call("list_workers")["workers"]] == ["1"]


def test_exact_parameters_and_filters_select(world):
    worker, admin = Worker(world), Admin(world)
    for principal, host, link in (("alice", None, "l-1"), ("bob", "esx2.example", ""), ("alice2", None, "")):
        worker.open(principal, host=host, link=link)

    def names(**parameters):
        return [row["principal"] for row in admin.rows(**parameters)]

    assert names(principal="alice") == names(principal="sso/alice") == names(link="l-1") == ["alice"]
    assert names(host="ESX2.example") == ["bob"]
    assert names(filter="alice") == ["alice", "alice2"]
    assert names(filter="principal:alice2 host:esxi1") == ["alice2"]
    assert names(filter="open alice") == names(filter="state:open alice") == ["alice", "alice2"]
    assert names(filter="alice stalled") == []
    assert names(sort="principal", order="desc") == ["bob", "alice2", "alice"]
    assert names(offset=1, limit=1) == ["bob"]
    found = admin.call("list_sessions", filter="alice", limit=1)
    assert (found["total"], found["matching"], len(found["sessions"])) == (3, 2, 1)


def test_one_console_is_shown(world):
    worker, admin = Worker(world), Admin(world)
    session = worker.open()
    assert admin.call("show_session", id=session.id)["id"] == session.id
    with pytest.raises(ApiError) as refused:
        admin.call("show_session", id="0" * 16)
    assert refused.value.status == 404


def test_the_status_adds_up_the_machines(world):
    left, right, admin = Worker(world, "left"), Worker(world, "right", "0", "run-2"), Admin(world)
    for _ in range(3):
        left.open()
    session = right.open("bob")
    right.fail()
    right.proxy.sessions.totals.add_round_trip(right.clock.seconds(), 0.03)
    for _ in range(4):
        right.relay(session, 100, 5000)
        world.advance(5)
    status = admin.call("status")
    assert (status["sessions"], status["opened"], status["failed"]) == (4, 4, 1)
    assert status["rate_down"] == pytest.approx(1000) and status["rate_up"] == pytest.approx(20)
    assert status["round_trip"] == 0.03 and status["workers"] == 2
    assert status["machines"] == ["left", "right"] and status["ready"] is True
    admin.reasons.append("the state cannot be reached")
    assert admin.call("status")["reasons"] == ["the state cannot be reached"]
    assert admin.call("status")["ready"] is False


def test_the_workers_are_listed(world):
    workers = [Worker(world, "left", "10"), Worker(world, "left", "2"), Worker(world, "b", "0", "run-2")]
    workers[0].open()
    workers[1].proxy.sessions.retiring = True
    world.advance(6)
    found = Admin(world).call("list_workers")["workers"]
    assert [(each["machine"], each["worker"]) for each in found] == [
        ("b", "0"),
        ("left", "2"),
        ("left", "10"),
    ]
    assert [each["accepting"] for each in found] == [True, False, True]
    assert [each["sessions"] for each in found] == [0, 0, 1]
    assert found[0]["lag"] == 0.01 and found[0]["generation"] == 3


def test_the_history_has_a_point_each_5_s(world):
    worker, admin = Worker(world), Admin(world)
    worker.open()
    world.advance(30)
    points = admin.call("history")["points"]
    assert len(points) == 6 and points[-1][1] == 1
    assert [round(b[0] - a[0]) for a, b in pairwise(points)] == [5] * 5


def test_5000_consoles_cost_a_window_only(world):
    worker, admin = Worker(world), Admin(world)
    for number in range(5000):
        worker.open(f"user{number % 50}", console=f"vm-{number}")
    found = admin.call("list_sessions", sort="console", order="desc", limit=50)
    assert (found["total"], len(found["sessions"])) == (5000, 50)
    assert found["sessions"][0]["console"] == "vm-999"
    world.advance(7)
    found = admin.call("list_sessions", sort="bytes_down", limit=5)
    assert [row["bytes_down"] for row in found["sessions"]] == [0] * 5
    FakeTraffic.reads = 0
