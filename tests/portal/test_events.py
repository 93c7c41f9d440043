"""The event stream: the first window, its differences, and its bounds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from esxiproxy.admin.window_events import PING, TICK
from esxiproxy.authenticators.login_store import LOGINS
from esxiproxy.authenticators.session import AUTOMATIC
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.routing import Principal
from esxiproxy.portal import site
from esxiproxy.portal.site import LOGIN_CHECK, MAX_STREAMS_EACH
from tests.portal.scene import ASSETS, Answer, Portal
from tests.support.portal_machines import PowerState, machine, uuid


class Reader:
    """A browser that reads the stream of a window."""

    def __init__(self, portal, query="limit=3"):
        self.transport, self.protocol = portal.send("GET", f"/api/events?{query}")

    def events(self):
        octets = self.transport.value()
        self.transport.clear()
        text = b"\n".join(line for line in octets.split(b"\r\n") if line.startswith((b"retry", b"event")))
        blocks = [block for block in text.decode().split("\n") if block.startswith(("event", "data"))]
        pairs = zip(blocks[::2], blocks[1::2], strict=True)
        return [
            (name.removeprefix("event: "), json.loads(value.removeprefix("data: "))) for name, value in pairs
        ]


@pytest.fixture
def portal():
    portal = Portal(*(machine(number) for number in range(5)))
    portal.login()
    return portal


def test_the_first_events_have_the_window_and_the_next_ones_what_has_changed(portal):
    reader = Reader(portal)
    assert b"Content-Type: text/event-stream" in reader.transport.value()
    (status, window) = reader.events()
    assert status == ("status", {"user": "alice", "logout": True, "vspheres": 1, "problems": []})
    assert window[1]["order"] == [f"dc1/{uuid(number)}" for number in range(3)]
    assert window[1]["total"] == 5 and set(window[1]["changed"]) == set(window[1]["order"])
    portal.inventory.put(machine(1, power=PowerState.OFF))
    portal.clock.advance(TICK)
    ((name, window),) = reader.events()
    assert name == "window" and list(window["changed"]) == [f"dc1/{uuid(1)}"]
    assert window["changed"][f"dc1/{uuid(1)}"]["power"] == "off"
    portal.inventory.remove(machine(0))
    portal.clock.advance(TICK)
    ((_, window),) = reader.events()
    assert window["total"] == 4 and list(window["changed"]) == [f"dc1/{uuid(3)}"]


def test_a_change_outside_of_the_window_sends_nothing_and_a_ping_shows_life(portal):
    reader = Reader(portal, "search=web-0001")
    reader.events()
    portal.inventory.put(machine(4, power=PowerState.OFF))
    portal.clock.pump([TICK] * 3)
    assert reader.events() == []
    portal.clock.pump([TICK] * int(PING))
    assert [name for name, _ in reader.events()] == ["ping"]


def test_a_favourite_and_a_lost_vcenter_are_seen(portal):
    reader = Reader(portal, "favourites=1")
    reader.events()
    portal.act(f"/api/machines/dc1/{uuid(4)}/favourite", {"favourite": True})
    portal.inventory.problem = "https://vc.example.com refused the connection"
    portal.clock.advance(TICK)
    status, window = reader.events()
    assert status[1]["problems"] == [{"vsphere": "dc1", "problem": "cannot be reached now"}]
    assert window[1]["order"] == [f"dc1/{uuid(4)}"]


def test_a_look_without_a_change_reads_no_machine(portal):
    Reader(portal)
    view = next(iter(portal.catalogue._views.values()))
    type(view).rows, rows = property(lambda self: pytest.fail("the rows are read")), type(view).rows
    try:
        portal.clock.pump([TICK] * 5)
    finally:
        type(view).rows = rows


def test_a_stream_needs_a_login_and_ends_with_it(portal):
    assert portal.get("/api/events", principal=None).status == 401
    reader = Reader(portal)
    portal.act("/api/logout", {})
    assert reader.transport.value().endswith(b"0\r\n\r\n")
    assert not portal.root._streams and not portal.root._of_user


def test_a_stream_ends_when_its_login_expires(portal):
    portal.clock.advance(0)
    reader = Reader(portal)
    soon = replace(portal.principal(), expires=portal.time_of_day() + 7)
    short = portal.send("GET", "/api/events", principal=soon)[0]
    portal.clock.pump([TICK] * 8)
    assert short.value().endswith(b"0\r\n\r\n") and not reader.transport.value().endswith(b"0\r\n\r\n")


def test_a_stream_ends_when_its_login_has_ended_elsewhere_or_is_idle(portal):
    reader, key = Reader(portal), portal.principal().login
    without = portal.send(
        "GET", "/api/events", principal=Principal("bob", authenticator="authenticator api")
    )[0]
    get = portal.state.get
    portal.state.get = lambda space, key: fail(StateUnavailable("no disk"))
    portal.clock.pump([LOGIN_CHECK] * 2)
    portal.state.get = get
    assert not reader.transport.value().endswith(b"0\r\n\r\n"), "nobody knows"
    portal.state.remove(LOGINS, key)
    portal.clock.advance(LOGIN_CHECK)
    assert reader.transport.value().endswith(b"0\r\n\r\n") and len(portal.root._streams) == 1
    assert not without.value().endswith(b"0\r\n\r\n"), "it has no login of the portal"
    portal.logins._idle = 3 * LOGIN_CHECK
    portal.login()
    reader = Reader(portal)
    ended = []
    for _ in range(3):
        ended.append(reader.transport.value().endswith(b"0\r\n\r\n"))
        portal.clock.advance(LOGIN_CHECK)
    assert ended == [False] * 3 and reader.transport.value().endswith(b"0\r\n\r\n"), "it is no use"


def test_a_link_is_opened_without_a_login(portal):
    answer = portal.get("/c/" + "x" * 43, principal=None)
    assert answer.status == 200 and b"portal/viewer/start.js" in answer.body
    assert portal.get("/c/x", principal=None).status == 404


def test_streams_are_bounded_and_closed(portal):
    readers = [Reader(portal) for _ in range(MAX_STREAMS_EACH)]
    transport, _ = portal.send("GET", "/api/events")
    assert Answer(transport.value()).status == 503
    readers[0].protocol.connectionLost(Failure(ConnectionDone()))
    assert len(portal.root._streams) == MAX_STREAMS_EACH - 1
    portal.root.close_streams()
    assert not portal.root._streams


def test_streams_are_counted_while_they_wait_for_the_state(portal):
    who, waiting, get = portal.principal(), [], portal.state.get
    portal.root._api._favourites._known.clear()

    def wait(*question):
        waiting.append(Deferred().addCallback(lambda _: get(*question)))
        return waiting[-1]

    portal.state.get = wait
    sent = [portal.send("GET", "/api/events", principal=who) for _ in range(MAX_STREAMS_EACH + 3)]
    refused = [each for each, _ in sent if each.value()]
    assert len(waiting) == MAX_STREAMS_EACH and [Answer(each.value()).status for each in refused] == [503] * 3
    sent[0][1].connectionLost(Failure(ConnectionDone()))
    waiting[1].errback(StateUnavailable("no disk"))
    assert Answer(sent[1][0].value()).status == 503
    for each in waiting[2:]:
        each.callback(None)
    assert portal.root._of_user.total() == len(portal.root._streams) == MAX_STREAMS_EACH - 2
    assert portal.ask("HEAD", "/api/events", principal=who).status == 200
    portal.root.close_streams()
    assert not portal.root._of_user


def test_requests_in_flight_are_counted_and_streams_are_not(portal):
    Reader(portal)
    waiting = Deferred()
    portal.service.connections = lambda machine: waiting
    transport, _ = portal.send("GET", f"/api/machines/dc1/{uuid(1)}/connections")
    assert portal.site.in_flight == 1 and len(portal.root._streams) == 1
    waiting.callback([])
    assert portal.site.in_flight == 0 and Answer(transport.value()).status == 200


def test_a_bad_window_is_refused(portal):
    assert portal.get("/api/events?limit=1000").status == 400
    assert portal.ask("POST", "/api/events", body={}).status == 405


def test_requests_that_no_listener_has_sent_are_refused(portal):
    transport, _ = portal.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert Answer(transport.value()).status == 400
    head = b"GET / HTTP/1.1\r\nX-Esxiproxy-Listener: other\r\nX-Esxiproxy-Client: 192.0.2.1\r\n\r\n"
    assert Answer(portal.raw(head)[0].value()).status == 503
    assert portal.get("/nothing").status == 404 and portal.ask("POST", "/", body={}).status == 405
    assert portal.ask("POST", "/api/logout", body=b"x" * 70000).status == 413


def test_a_file_is_kept_by_browsers_and_its_path_changes_with_its_content(portal):
    page = portal.get("/").body.decode()
    path = page.partition('href="')[2].partition('"')[0]
    found = portal.get(path, principal=None)
    assert found.status == 200 and "immutable" in found["Cache-Control"] and path.count("/") > 3
    assert portal.get("/assets/x/portal/page/portal.css").status == 404
    assert portal.get("/favicon.ico", principal=None)["Content-Type"] == "image/svg+xml"
    console = portal.get("/vm/dc1/x").body.decode()
    assert f'src="{ASSETS.root}portal/viewer/start.js"' in console and '"/viewer/' not in console
    assert portal.get(path, ("If-None-Match", found["ETag"])).status == 304


def test_what_pages_ask_by_themselves_is_marked(portal):
    field = AUTOMATIC.decode()
    assert f'"{field}": "1"' in page_text("page/api.js").lower()
    assert "probe: () => readByItself(" in page_text("page/app.js") and " read(" not in page_text(
        "page/app.js"
    )
    explain = page_text("viewer/start.js").partition("async function explain")[2]
    assert "await readByItself(" in explain and " read(" not in explain
    assert "use = (path, parameters) => quietApi.read(path, parameters).catch(" in page_text("page/api.js")
    assert "used: isLink ? undefined : () => use(ofMachine(machine))" in page_text("viewer/start.js")


def page_text(name):
    return (Path(site.__file__).parent / name).read_text(encoding="utf-8")
