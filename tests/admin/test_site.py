"""The admin sites: probes, files, and reloads."""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from esxiproxy.admin.factory import AdminFactory
from esxiproxy.admin.site import StaticFile
from tests.admin.site_scene import BASE, STAFF, person, stranger
from tests.support.admin_site import AdminAddress, parse


def test_probes_answer_whatever_host_says():
    address = AdminAddress("probe")
    for path, body in (("/healthz", b"alive\n"), ("/readyz", b"ready\n"), ("/metrics", address.metrics[1])):
        for raw in (
            f"GET {path} HTTP/1.0\r\n\r\n",
            f"GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        ):
            answer = parse(address.raw(raw.encode()))
            assert (answer.status, answer.body) == (200, body)


def test_probes_say_why_not():
    address = AdminAddress("probe")
    address.control.reasons, address.control.alive = ["the proxy is drained"], False
    answer = address.request("GET", "/readyz")
    assert (answer.status, answer.body) == (503, b"the proxy is drained\n")
    assert address.request("GET", "/healthz").status == 503


def test_probes_at_the_same_time_read_the_state_once():
    address, reads = AdminAddress("probe"), []

    def unready():
        reads.append(Deferred())
        return reads[-1]

    address.control.unready = unready
    connections = [address.connect() for _ in range(50)]
    for protocol, _ in connections:
        protocol.dataReceived(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert len(reads) == 1
    reads[0].callback([])
    address.clock.advance(0)
    assert len(reads) == 2, "for the probes that have come since the first read began"
    reads[1].callback(["the proxy is drained"])
    statuses = [parse(transport.value()).status for _, transport in connections]
    assert statuses == [200] + [503] * 49


@pytest.mark.parametrize("path", ["/", "/index.html", f"{BASE}/status", f"{BASE}/openapi.json", "/metrics/x"])
def test_probes_serve_nothing_else(path):
    assert AdminAddress("probe").request("GET", path).status == 404


def test_the_address_for_people_has_the_probes_under_its_own_names():
    address = AdminAddress(admin=STAFF, authenticate=stranger)
    assert address.request("GET", "/healthz").status == 200
    assert address.request("GET", "/healthz", host="evil.example").status == 421
    assert address.request("POST", "/healthz").status == 405


def test_files_have_a_strict_policy_and_an_etag():
    files = {b"/": StaticFile("text/html; charset=utf-8", b"<p>", '"tag"')}
    address = AdminAddress(admin=STAFF, authenticate=person("eve"), files=files)
    answer = address.request("GET", "/")
    assert (answer.status, answer.body) == (200, b"<p>")
    assert answer.fields["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert answer.fields["x-content-type-options"] == "nosniff"
    again = address.request("GET", "/", (("If-None-Match", '"tag"'),))
    assert (again.status, again.body) == (304, b"")
    assert address.request("GET", "/", host="evil.example").status == 421


def test_the_rules_of_a_reload_hold_for_open_connections():
    address = AdminAddress(admin=STAFF, authenticate=person("root"))
    protocol, transport = address.connect()
    protocol.dataReceived(b"GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert parse(transport.value()).status == 200
    address.factory.serve(AdminAddress(admin=STAFF, authenticate=stranger).root)
    transport.clear()
    protocol.dataReceived(b"GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert parse(transport.value()).status == 401


def test_a_request_in_flight_is_answered_after_a_reload():
    address = AdminAddress("socket")
    waiting = Deferred()

    async def slow(call):
        return await waiting

    address.root._dispatcher._handlers["reload"] = slow
    protocol, transport = address.connect()
    head = b"POST /api/v1/reload HTTP/1.1\r\nHost: a\r\nX-Esxiproxy: 1\r\nContent-Type: application/json\r\n"
    protocol.dataReceived(head + b"Content-Length: 2\r\n\r\n{}")
    later = AdminAddress("socket").root
    address.factory.serve(later)
    assert (later.in_flight, transport.value()) == (1, b"")
    waiting.callback({"reloaded": True, "problems": []})
    assert parse(transport.value()).value["reloaded"] is True
    assert later.in_flight == 0


def test_a_port_that_is_not_served_yet_closes_its_connections():
    assert AdminFactory(Clock()).buildProtocol(None) is None


# --- hostile clients


def test_the_page_asks_for_a_login():
    files = {b"/": StaticFile("text/html", b"<p>", '"t"'), b"/page.css": StaticFile("text/css", b"", '"u"')}
    address = AdminAddress(admin=STAFF, authenticate=stranger, files=files)
    answer = address.request("GET", "/")
    assert (answer.status, answer.fields["www-authenticate"]) == (401, "Basic")
    assert address.request("GET", "/page.css").status == 200
