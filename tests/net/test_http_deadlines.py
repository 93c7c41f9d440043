"""The deadlines of an HTTP exchange, on a fake clock."""

import pytest

from esxiproxy.core.errors import Draining
from tests.net.http_scene import OK, HttpScene, get, read
from tests.net.scene import opening

PUT = get(b"/x", b"Content-Length: 100000", method=b"PUT")


def refused(scene, status, error):
    found = read(scene.client.received)
    assert (found.status, scene.record.error, scene.record.status) == (status, error, status)
    assert scene.client.saw_fin
    scene.client.close()
    scene.advance(10)
    assert scene.at_rest()


def test_a_head_has_its_time():
    scene = HttpScene(head_timeout=10)
    for octet in (b"G", b"E", b"T", b" ", b"/"):
        scene.advance(1.9)
        scene.ask(octet)
    scene.advance(1)
    refused(scene, 408, "MalformedRequest")


def test_the_head_of_a_further_request_has_its_time_from_its_first_byte():
    scene = HttpScene(head_timeout=10, keepalive_timeout=60)
    scene.ask(get())
    scene.answer(OK)
    scene.advance(55)
    scene.clear()
    scene.ask(b"GET ")
    scene.advance(9)
    assert not scene.client.received
    scene.advance(2)
    assert read(scene.client.received).status == 408


def test_an_idle_connection_is_closed_without_a_response():
    scene = HttpScene(keepalive_timeout=60)
    scene.ask(get())
    scene.answer(OK)
    scene.clear()
    scene.advance(59)
    assert not scene.client.saw_fin
    scene.advance(2)
    assert (scene.client.saw_fin and not scene.client.received and scene.host.ended) or scene.host.saw_fin
    scene.advance(6)
    assert scene.client.ended == "aborted", "it never closed its side"
    assert scene.at_rest() and len(scene.records) == 1


def test_an_idle_upstream_connection_has_its_own_time():
    scene = HttpScene(keepalive_timeout=60)
    scene.router.upstream = type(scene.router.upstream)(
        "esxi1", "192.0.2.10", 80, secure=False, overrides={"keepalive_timeout": 15.0}
    )
    scene.ask(get())
    scene.answer(OK)
    scene.advance(16)
    assert scene.host.saw_fin and not scene.client.saw_fin
    scene.clear()
    scene.ask(get())
    assert scene.connector.dials == 2


def test_the_time_of_an_idle_upstream_connection_begins_again_after_each_request():
    scene = HttpScene(keepalive_timeout=60)
    for _ in range(3):
        scene.ask(get())
        scene.answer(OK)
        scene.advance(40)
    assert scene.connector.dials == 1 and not scene.host.saw_fin
    scene.advance(21)
    assert scene.host.saw_fin or scene.host.ended


def test_an_upstream_has_its_time_to_answer():
    scene = HttpScene(response_timeout=60)
    scene.ask(get())
    scene.advance(59)
    assert not scene.client.received
    scene.advance(2)
    refused(scene, 504, "UpstreamTimeout")


def test_each_request_has_its_own_time():
    """One timer serves all requests of a connection."""
    scene = HttpScene(response_timeout=60, keepalive_timeout=600)
    scene.ask(get())
    scene.answer(OK)
    scene.advance(50)
    scene.clear()
    scene.ask(get())
    scene.advance(59)
    assert not scene.client.received and len(scene.records) == 1
    scene.advance(2)
    assert read(scene.client.received).status == 504 and scene.records[-1].error == "UpstreamTimeout"


def test_a_request_may_have_less_time_than_the_one_before():
    scene = HttpScene(response_timeout=60)
    scene.ask(get())
    scene.answer(OK)
    scene.router.upstream = type(scene.router.upstream)(
        "esxi2", "192.0.2.11", 80, secure=False, overrides={"response_timeout": 5.0}
    )
    scene.clear()
    scene.ask(get())
    scene.advance(6)
    assert read(scene.client.received).status == 504
    assert "sent nothing for 5 s" in scene.records[-1].detail


def test_interim_answers_are_signs_of_life():
    scene = HttpScene(response_timeout=60)
    scene.ask(get())
    for _ in range(3):
        scene.advance(50)
        scene.answer(b"HTTP/1.1 102 Processing\r\n\r\n")
    assert scene.client.received.count(b"HTTP/1.1 102") == 3 and not scene.records
    scene.advance(62)
    assert scene.record.error == "UpstreamTimeout"


def test_an_upstream_that_stops_within_its_answer_times_out():
    scene = HttpScene(response_timeout=60)
    scene.ask(get())
    scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
    scene.advance(50)
    scene.answer(b"x")
    scene.advance(50)
    assert not scene.records
    scene.advance(12)
    found = read(scene.client.received)
    assert scene.client.saw_fin and found.body == b"hellox" and not found.whole
    assert scene.record.error == "UpstreamTimeout"
    scene.advance(10)
    assert scene.at_rest()


def test_the_time_of_a_long_upload_is_not_the_upstreams():
    scene = HttpScene(response_timeout=60)
    scene.ask(PUT)
    for _ in range(10):
        scene.ask(b"x" * 10000)
        scene.advance(9)
    assert not scene.records
    scene.answer(OK)
    assert scene.record.status == 200


def test_a_client_that_does_not_read_times_out():
    scene = HttpScene(stall_timeout=60)
    scene.ask(get())
    scene.client.block()
    scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"x" * 200_000, 65536)
    scene.advance(59)
    assert not scene.records
    scene.advance(2)
    assert scene.client.ended == "aborted" and scene.record.error == "StallTimeout"
    assert scene.at_rest()


def test_a_client_that_reads_nothing_of_a_complete_response_is_aborted():
    scene = HttpScene(stall_timeout=60)
    scene.client.block()
    scene.ask(get())
    scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
    assert scene.record.status == 200
    scene.advance(61)
    assert scene.client.ended == "aborted"
    scene.host.close()
    scene.advance(10)
    assert scene.at_rest()


def test_an_upstream_that_does_not_read_times_out():
    scene = HttpScene(stall_timeout=60)
    scene.ask(get(b"/x", b"Content-Length: 900000", method=b"PUT"))
    scene.host.block()
    scene.ask(b"x" * 200_000, 65536)
    scene.advance(59)
    assert not scene.records
    scene.advance(2)
    refused(scene, 504, "UpstreamTimeout")


@pytest.mark.parametrize(("every", "late"), [(1000, False), (50, True)])
def test_a_body_keeps_to_a_rate(every, late):
    scene = HttpScene(min_body_rate=500)
    scene.ask(PUT)
    for _ in range(30):
        scene.ask(b"x" * every)
        scene.advance(1)
    assert bool(scene.records) == late
    if late:
        refused(scene, 408, "MalformedRequest")
        assert scene.host.ended == "aborted"


def test_a_body_that_is_not_sent_expires():
    scene = HttpScene(min_body_rate=500)
    scene.ask(PUT)
    scene.advance(11)
    refused(scene, 408, "MalformedRequest")


def test_a_body_may_have_any_rate_without_min_body_rate():
    scene = HttpScene(min_body_rate=None)
    scene.ask(PUT)
    scene.advance(600)
    assert not scene.records


def test_the_rate_is_not_measured_while_the_upstream_blocks():
    scene = HttpScene(min_body_rate=500, stall_timeout=60)
    scene.ask(get(b"/x", b"Content-Length: 900000", method=b"PUT"))
    scene.host.block()
    scene.ask(b"x" * 200_000, 65536)
    scene.advance(50)
    assert not scene.records


def test_response_timeout_applies_while_the_client_waits_for_a_100():
    scene = HttpScene(response_timeout=60, min_body_rate=500)
    scene.ask(get(b"/x", b"Content-Length: 3", b"Expect: 100-continue", method=b"PUT"))
    scene.advance(59)
    assert not scene.records
    scene.advance(2)
    refused(scene, 504, "UpstreamTimeout")


def test_after_the_100_the_body_is_due():
    scene = HttpScene(response_timeout=60, min_body_rate=500)
    scene.ask(get(b"/x", b"Content-Length: 3", b"Expect: 100-continue", method=b"PUT"))
    scene.answer(b"HTTP/1.1 100 Continue\r\n\r\n")
    scene.advance(11)
    assert scene.record.error == "MalformedRequest" and scene.record.status == 408


def test_a_body_that_waits_for_its_upstream_has_its_time():
    scene = HttpScene(stall_timeout=20)
    scene.connector.slow = True
    scene.ask(PUT + b"x" * 90_000, 65536)
    assert not scene.client.transport.reading
    scene.advance(21)
    refused(scene, 504, "UpstreamTimeout")


def test_an_answered_connection_that_is_not_closed_is_aborted():
    scene = HttpScene(close_timeout=5)
    scene.ask(get(b"/", b"Connection: close"))
    scene.answer(OK)
    assert scene.client.saw_fin
    scene.advance(6)
    assert scene.client.ended == "aborted" and scene.at_rest()


def test_a_drain_finishes_a_request_and_accepts_no_other():
    scene = HttpScene()
    scene.ask(get(b"/1"))
    scene.sessions.drain()
    found = read(scene.answer(OK))
    assert found.body == b"ok" and found.values(b"Connection") == [b"close"] and scene.client.saw_fin


def test_a_drain_closes_idle_connections_at_once():
    scene = HttpScene()
    scene.ask(get())
    scene.answer(OK)
    scene.clear()
    scene.sessions.drain()
    scene.pump()
    assert scene.client.saw_fin and not scene.client.received and scene.host.saw_fin
    scene.host.close()
    scene.client.close()
    scene.pump()
    assert scene.at_rest() and not scene.sessions.idle_connections


@pytest.mark.parametrize("asked", [b"", get()[:5], get(), opening()])
def test_a_drain_leaves_a_connection_that_is_not_idle(asked):
    scene = HttpScene()
    if asked:
        scene.ask(get())
        scene.answer(OK)
        scene.ask(asked)
    scene.sessions.drain()
    scene.pump()
    assert not scene.client.saw_fin and not scene.sessions.idle_connections


def test_a_connection_that_becomes_idle_during_a_drain_is_closed():
    scene = HttpScene()
    scene.ask(get())
    scene.client.block()
    scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70000)
    assert scene.record.status == 200, "the answer is complete, and not yet with the client"
    scene.sessions.drain()
    scene.pump()
    assert not scene.client.transport.half_closed
    scene.client.unblock()
    scene.pump()
    assert scene.client.saw_fin and not scene.sessions.idle_connections


def test_an_ended_connection_is_not_waited_for():
    scene = HttpScene()
    scene.ask(get())
    scene.answer(OK)
    assert len(scene.sessions.idle_connections) == 1
    scene.client.close()
    scene.pump()
    assert not scene.sessions.idle_connections


def test_an_idle_connection_gets_a_503_while_the_proxy_drains():
    scene = HttpScene()
    scene.ask(get())
    scene.answer(OK)
    scene.clear()
    scene.sessions.draining = True
    scene.ask(get())
    found = read(scene.client.received)
    assert found.status == 503 and found.values(b"Retry-After")


@pytest.mark.parametrize("begun", [False, True])
def test_the_end_of_a_drain_ends_a_request(begun):
    scene = HttpScene()
    scene.ask(get())
    if begun:
        scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
    (holder,) = scene.sessions
    holder.end(Draining("the proxy is shutting down"))
    scene.pump()
    if begun:
        assert scene.client.ended == "aborted"
    else:
        assert read(scene.client.received).status == 503
    assert scene.record.error == "Draining" and scene.host.ended == "aborted"
