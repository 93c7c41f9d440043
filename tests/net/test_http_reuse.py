"""Plain HTTP: upstream connections are used again, and only safe requests are repeated."""

import pytest

from esxiproxy.core.routing import Upstream
from tests.net.http_scene import OK, HttpScene, chunked, get, read

# Reuse and repetition


def again(scene, request=None):
    scene.ask(get())
    scene.answer(OK)
    scene.clear()
    scene.client.send(request or get(b"/again"))


def test_an_upstream_that_closes_while_idle_is_dialled_again():
    scene = HttpScene()
    scene.ask(get())
    scene.answer(OK)
    scene.host.close()
    scene.pump()
    scene.clear()
    scene.ask(get(b"/again"))
    assert scene.connector.dials == 2
    assert read(scene.answer(OK)).body == b"ok"


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"PUT"])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_request_that_may_be_repeated_is_tried_on_a_fresh_connection_once(method, how):
    scene = HttpScene()
    again(scene, get(b"/again", method=method))
    first = scene.host
    scene.client.pump()
    getattr(first, how)()
    scene.pump()
    assert scene.connector.dials == 2 and scene.host is not first
    assert read(scene.host.received).line == method + b" /again HTTP/1.1"
    scene.host.reset()
    scene.pump()
    assert read(scene.client.received, method == b"HEAD").status == 502 and scene.connector.dials == 2
    assert scene.records[-1].error == "UpstreamLost"


@pytest.mark.parametrize(
    "request_",
    [
        get(b"/again", b"Content-Length: 0", method=b"POST"),
        get(b"/again", b"Content-Length: 1", method=b"PUT", body=b"x"),
        get(b"/again", b"Content-Length: 1", method=b"PUT"),
        get(b"/again", b"Transfer-Encoding: chunked", method=b"PUT", body=chunked(b"x")),
        get(b"/again", method=b"PATCH"),
    ],
)
def test_an_unsafe_request_is_not_repeated(request_):
    scene = HttpScene()
    again(scene, request_)
    scene.client.pump()
    scene.host.close()
    scene.pump()
    assert read(scene.client.received).status == 502 and scene.connector.dials == 1


def test_a_request_on_a_fresh_connection_is_not_repeated():
    scene = HttpScene()
    scene.ask(get())
    scene.host.close()
    scene.pump()
    assert read(scene.client.received).status == 502 and scene.connector.dials == 1


def test_a_request_whose_answer_has_begun_is_not_repeated():
    scene = HttpScene()
    again(scene)
    scene.pump()
    scene.answer(b"HTTP/1.1 2")
    scene.host.close()
    scene.pump()
    assert read(scene.client.received).status == 502 and scene.connector.dials == 1


def test_another_upstream_gets_another_connection():
    scene = HttpScene()
    scene.ask(get())
    scene.answer(OK)
    first = scene.host
    scene.router.upstream = Upstream("other", "192.0.2.11", 80, False)
    scene.ask(get())
    assert first.saw_fin and scene.host is not first


def test_bytes_of_an_idle_upstream_end_its_connection():
    scene = HttpScene()
    scene.ask(get())
    scene.answer(OK)
    scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    assert scene.host.ended == "aborted"
    scene.clear()
    scene.ask(get())
    assert read(scene.answer(OK)).body == b"ok" and scene.connector.dials == 2


def test_bytes_after_a_response_are_not_forwarded():
    scene = HttpScene()
    scene.ask(get())
    found = read(scene.answer(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))
    assert found.body == b"ok" and not found.rest and scene.host.ended == "aborted"
