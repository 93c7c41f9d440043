"""The beginning and the restarts of ``response_timeout``, on a fake clock."""

import pytest

from tests.net.http_scene import HttpScene, get


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"])
def test_a_client_does_not_put_off_the_upstreams_time(begun):
    scene = HttpScene(response_timeout=60)
    scene.ask(get())
    scene.answer(begun)
    for _ in range(4):
        scene.advance(14)
        scene.ask(b"G")
    assert not scene.records
    scene.advance(5)
    assert scene.record.error == "UpstreamTimeout" and scene.record.timeout == "response_timeout"


def test_a_client_that_waits_for_a_100_does_not_put_off_the_upstreams_time():
    scene = HttpScene(response_timeout=60)
    scene.ask(get(b"/x", b"Content-Length: 3", b"Expect: 100-continue", method=b"PUT"))
    scene.advance(50)
    scene.ask(b"")
    scene.answer(b"HTTP/1.1 1")
    scene.advance(59)
    assert not scene.records
    scene.advance(2)
    assert scene.record.error == "UpstreamTimeout"


@pytest.mark.parametrize("waits", [b"Expect: 100-continue", b"X: y"])
def test_the_upstreams_time_begins_when_the_request_is_complete(waits):
    scene = HttpScene(response_timeout=60, min_body_rate=None)
    scene.ask(get(b"/x", b"Content-Length: 3", waits, method=b"PUT"))
    scene.advance(55)
    scene.ask(b"abc")
    scene.advance(59)
    assert not scene.records
    scene.advance(2)
    assert scene.record.error == "UpstreamTimeout"


def test_a_body_that_comes_without_a_100_has_its_time():
    scene = HttpScene(response_timeout=60, min_body_rate=None)
    scene.ask(get(b"/x", b"Content-Length: 3", b"Expect: 100-continue", method=b"PUT"))
    scene.advance(50)
    scene.ask(b"ab")
    scene.advance(600)
    assert not scene.records


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
def test_a_head_of_an_answer_has_its_time_from_its_first_byte(first):
    scene = HttpScene(response_timeout=60)
    scene.ask(get())
    scene.advance(50)
    scene.answer(first + b"HTTP/1.1 200 OK\r\n")
    for _ in range(3):
        scene.advance(19)
        scene.answer(b"a")
    assert not scene.records
    scene.advance(4)
    assert scene.record.error == "UpstreamTimeout" and "no whole head" in scene.record.detail


def test_the_next_head_of_an_answer_has_its_own_time():
    scene = HttpScene(response_timeout=60)
    scene.ask(get())
    for octets in (
        b"HTTP/1.1 103 X\r\n",
        b"A: b\r\n\r\nHTTP/1.1 200",
        b" OK\r\nContent-Length: 9\r\n\r\nhello",
    ):
        scene.answer(octets)
        scene.advance(50)
    scene.answer(b"x")
    scene.advance(59)
    assert not scene.records
    scene.advance(2)
    assert scene.record.error == "UpstreamTimeout" and "sent nothing" in scene.record.detail
