"""The router `tokens`: websockify's token files."""

import pytest
from twisted.internet.defer import CancelledError

from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.plugin_type import Names, settings_of
from esxiproxy.core.config.section import SectionKind
from esxiproxy.core.errors import LimitReached, RouteNotFound, ServiceUnavailable
from esxiproxy.core.networks import Networks
from esxiproxy.core.routing import TCPAddress, Upstream, Verify
from esxiproxy.core.thumbprint import Pin
from esxiproxy.routers.tokens import TYPE
from tests.routers.scene import ESX, FileScene

TOKENS = "one: esx1:443\ntwo words: ws://esx2:81/ticket/x?y=z\nraw: unix_socket:/tmp/x\nodd: 127.1:443\n"


class Scene(FileScene):
    def __init__(self, folder, content=TOKENS, template=ESX, **keys):
        texts = {"source": "tokens", "allow": "10.0.0.0/8", **keys}
        super().__init__(TYPE, folder / "tokens", content, template, **texts)


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def test_a_host_and_port_get_the_target_of_the_client(scene):
    route = scene.route(b"/websockify?a=%2f&token=one&b")
    found = route.destination
    assert (found.addresses, found.secure, found.name) == ((TCPAddress("esx1", 443),), True, "esx1")
    assert (found.template, found.identity) == (ESX, ESX.identity)
    assert found.networks == Networks(allow=scene.settings["allow"])
    assert route.target == b"/websockify?a=%2f&b"


@pytest.mark.parametrize(
    "query", [b"two+words", b"two%20words", b"&token=two+words&token=one", b"two+words%0a"]
)
def test_a_url_is_taken_with_its_path(scene, query):
    route = scene.route(b"/any/../path?token=" + query)
    assert route.destination.addresses == (TCPAddress("esx2", 81),) and not route.destination.secure
    assert route.target == b"/ticket/x?y=z"


REFUSED = {
    b"none": "there is no such token",
    b"ONE": "there is no such token",
    b"one%00": "there is no such token",
    b"%6f%256ee": "there is no such token",
    b"raw": "the target of the token is raw TCP and not a WebSocket: "
    "write HOST:PORT of a wss server, or a ws:// or wss:// URL",
    b"odd": "the target of the token is not HOST:PORT and no ws:// or wss:// URL",
    b"%ff": "the query has a value that is not percent-encoded UTF-8",
}


@pytest.mark.parametrize(("token", "text"), REFUSED.items())
def test_a_token_is_refused_with_a_sentence(scene, token, text):
    with pytest.raises(RouteNotFound) as caught:
        scene.route(b"/?token=" + token)
    assert str(caught.value) == text


@pytest.mark.parametrize("target", [b"/", b"/?token", b"/?token=", b"/token=one", b"/?Token=one"])
def test_a_request_without_a_token_is_not_for_this_router(scene, target):
    assert scene.route(target) is None


def test_tokens_are_secrets_and_lead_upgrades_only(scene):
    router = scene.router
    assert router.secrets == (("query", b"token"),) and router.upgrades_only
    assert not router.ambient and router.consumed_cookies == frozenset()


def test_the_file_is_read_when_it_is_needed_and_has_changed(scene):
    assert scene.context.watched[0][0] == scene.file and not scene.context.calls
    for _ in range(3):
        scene.route(b"/?token=one")
    assert len(scene.context.calls) == 1
    scene.write("new: esx9:443\n")
    assert len(scene.context.calls) == 1
    assert scene.route(b"/?token=new").destination.name == "esx9"
    with pytest.raises(RouteNotFound):
        scene.route(b"/?token=one")
    assert len(scene.context.calls) == 2


def test_requests_share_one_read_that_a_cancelled_request_does_not_end(scene):
    scene.context.is_paused = True
    first, second = scene.begin(b"/?token=one"), scene.begin(b"/?token=one")
    assert len(scene.context.calls) == 1
    first.cancel()
    with pytest.raises(CancelledError):
        first.result.raiseException()
    first.addErrback(lambda _: None)
    scene.context.resume()
    assert second.result.destination.name == "esx1"


def test_a_change_during_a_reading_is_seen(scene):
    scene.context.is_paused = True
    asked = scene.begin(b"/?token=one")
    scene.write("one: esx9:443\n")
    scene.context.resume()
    assert asked.result.destination.name == "esx9" and len(scene.context.calls) == 2


def test_a_file_that_cannot_be_read_refuses_every_token(scene):
    scene.route(b"/?token=one")
    scene.file.unlink()
    scene.context.change()
    for _ in range(2):
        with pytest.raises(ServiceUnavailable, match="cannot be read: No such file"):
            scene.route(b"/?token=one")
    assert scene.context.lines == [
        f"{scene.file} cannot be read: No such file or directory: every token is refused"
    ]
    scene.file.write_text(TOKENS)
    assert scene.route(b"/?token=one").destination.name == "esx1"


@pytest.mark.parametrize("error", [LimitReached("too many"), RuntimeError("a bug")])
def test_a_failure_of_the_thread_fails_this_request_only(scene, error):
    def fails(*_arguments):
        raise error

    read, scene.context.in_thread = scene.context.in_thread, fails
    with pytest.raises(ServiceUnavailable):
        scene.route(b"/?token=one")
    scene.context.in_thread = read
    assert scene.route(b"/?token=one").destination.name == "esx1"


def test_a_line_that_is_wrong_is_logged_without_its_text(scene):
    scene.write("one: esx1:443\nhidden: a: b\n")
    scene.route(b"/?token=one")
    assert scene.context.lines == [f"{scene.file}:2: is no line TOKEN: TARGET and is not used"]
    scene.write("one: esx1:443\n" + "hidden\n" * 1000)
    scene.route(b"/?token=one")
    assert len(scene.context.lines) == 102


def test_a_section_needs_allow(tmp_path):
    with pytest.raises(BadValue, match="needs allow"):
        settings_of(TYPE, SectionKind.ROUTER, {"source": "x", "template": "esx"}, tmp_path)


def test_mistakes_of_the_section(tmp_path):
    pinned = Upstream("esx", "", 0, secure=True, verify=Verify.PIN)
    scene = Scene(tmp_path)
    scene.file.unlink()
    assert list(TYPE.conflicts(scene.settings, Names({"esx": pinned}))) == [
        ("template", "verify = pin needs a pin in [upstream esx]: a token has none"),
        ("source", f"no such file or folder: {scene.file}"),
    ]
    assert [key for key, _ in TYPE.conflicts(scene.settings, Names())] == ["template", "source"]
    scene.file.mkdir()
    good = Upstream("esx", "", 0, secure=True, verify=Verify.PIN, pins=(Pin("sha1", "a" * 40),))
    assert list(TYPE.conflicts(scene.settings, Names({"esx": good}))) == []
