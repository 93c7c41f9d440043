"""Malformed requests to the admin sites, and requests at their limits."""

import pytest
from twisted.internet.defer import Deferred

from esxiproxy.admin.connections import REQUEST_TIMEOUT
from esxiproxy.admin.factory import MAX_CONNECTIONS
from esxiproxy.admin.fresh_values import MAX_WAITING
from esxiproxy.admin.openapi.document import document
from esxiproxy.admin.requests import MAX_BODY
from tests.admin.site_scene import BASE, KILL, STAFF, person
from tests.support.admin_site import ACTION, AdminAddress, parse


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("/sessions?color=red", "does not take"),
        ("/sessions?limit=0", "at least 1"),
        ("/sessions?limit=501", "at most 500"),
        ("/sessions?limit=ten", "type integer"),
        ("/sessions?limit=1&limit=2", "twice"),
        ("/sessions?sort=secret", "one of since"),
        ("/sessions?filter=" + "x" * 201, "at most 200"),
        ("/sessions?filter=%ff", "not UTF-8"),
        ("/sessions?principal=", "at least 1"),
        ("/sessions/00112233aabbccdd?id=00112233aabbccdd", "does not take"),
    ],
)
def test_a_malformed_query_is_named(target, text):
    answer = AdminAddress("socket").request("GET", BASE + target)
    assert answer.status == 400
    assert text in answer.value["error"]


def test_the_defaults_of_the_table_are_filled_in():
    address = AdminAddress("socket")
    address.request("GET", f"{BASE}/sessions?limit=7&filter=a+b%20c")
    assert dict(address.calls.seen[0][1].parameters) == {
        "filter": "a b c",
        "sort": "since",
        "order": "asc",
        "offset": 0,
        "limit": 7,
    }


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "no JSON"),
        (b"{", 400, "no JSON"),
        (b'"text"', 400, "type object"),
        ({}, 400, "lacks kind, value, reason"),
        ({**KILL, "more": 1}, 400, "does not take"),
        ({**KILL, "kind": "all"}, 400, "kind has to be one of session"),
        ({**KILL, "value": ""}, 400, "value has at least 1"),
        ({**KILL, "value": 7}, 400, "value has to be of the type string"),
        ({**KILL, "reason": "x" * 501}, 400, "reason has at most 500"),
        (b'{"kind": "link", "kind": "session"}', 400, "twice"),
        (b"[" * 1000, 400, "nested"),
        (b"x" * (MAX_BODY + 1), 413, "at most"),
    ],
)
def test_a_malformed_body_is_named(body, status, text):
    address = AdminAddress("socket")
    answer = address.request("POST", f"{BASE}/kill", ACTION, body)
    assert (answer.status, address.calls.seen) == (status, [])
    assert text in answer.value["error"]


def test_a_secret_in_a_reason_is_hidden_everywhere():
    address = AdminAddress("socket")
    reason = "see https://esxi1/ticket/SECRET?token=SECRET, and wait"
    assert address.request("POST", f"{BASE}/kill", ACTION, {**KILL, "reason": reason}).status == 200
    ((_name, call),) = address.calls.seen
    assert "SECRET" not in call.body["reason"]
    assert (
        call.body["reason"].startswith("see https://esxi1/ticket/***") and call.body["value"] == KILL["value"]
    )


def test_an_answer_repeats_no_value_of_the_request():
    body = {"router": "links", "to": "esx1/ticket/SECRET" + "x" * 4096}
    answer = AdminAddress("socket").request("POST", f"{BASE}/links", ACTION, body)
    assert answer.status == 400
    assert b"SECRET" not in answer.body


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_is_json(kind):
    fields = ACTION[:1] if kind is None else (ACTION[0], ("Content-Type", kind))
    assert AdminAddress("socket").request("POST", f"{BASE}/kill", fields, KILL).status == 415


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/status", "GET, HEAD"),
        ("DELETE", "/sessions/00112233aabbccdd", "GET, HEAD"),
        ("GET", "/kill", "POST"),
        ("PUT", "/links", "GET, HEAD, POST"),
        ("OPTIONS", "/openapi.json", "GET, HEAD"),
    ],
)
def test_another_method_is_refused(method, path, allow):
    answer = AdminAddress("socket").request(method, BASE + path)
    assert (answer.status, answer.fields["allow"]) == (405, allow)


@pytest.mark.parametrize(
    "path", ["/nothing", "/sessions/", "/sessions/nothex", "/sessions/%00", "/../status"]
)
def test_another_path_is_not_found(path):
    assert AdminAddress("socket").request("GET", BASE + path).status == 404


def test_a_bug_of_a_handler_is_no_part_of_the_answer():
    address = AdminAddress("socket")
    address.calls.answers["status"] = RuntimeError("SECRET")
    answer = address.request("GET", f"{BASE}/status")
    assert (answer.status, b"SECRET" in answer.body) == (500, False)


def test_the_document_is_served():
    operator = AdminAddress(admin=STAFF, authenticate=person("root"))
    assert operator.request("GET", f"{BASE}/openapi.json").value == document()


def test_head_is_get_without_a_body():
    answer = AdminAddress("socket").request("HEAD", f"{BASE}/status")
    assert (answer.status, answer.body) == (200, b"")


def test_a_body_without_end_is_cut_off():
    address = AdminAddress("socket")
    protocol, transport = address.connect()
    protocol.dataReceived(b"POST /api/v1/kill HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(40):
        protocol.dataReceived(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        if transport.disconnecting or transport.disconnected:
            break
    else:
        pytest.fail("the connection is still open after 2.5 MiB")


def test_the_number_of_connections_is_limited():
    """Clients that send nothing give way to others: an orchestrator ends a proxy that it cannot ask."""
    address = AdminAddress("probe")
    transports = []
    for _ in range(MAX_CONNECTIONS):
        transports.append(address.connect()[1])
        address.clock.advance(0.01)
    answer = address.request("GET", "/healthz")
    assert (answer.status, answer.body) == (200, b"alive\n")
    assert [transport.disconnected for transport in transports] == [True] + [False] * (MAX_CONNECTIONS - 1)
    assert len(address.factory.protocols) == MAX_CONNECTIONS


def test_a_connection_with_a_request_in_progress_gives_way_to_none():
    address = AdminAddress("socket")
    address.calls.answers["status"] = Deferred
    transports = []
    for _ in range(MAX_CONNECTIONS):
        protocol, transport = address.connect()
        protocol.dataReceived(b"GET /api/v1/status HTTP/1.1\r\nHost: a\r\n\r\n")
        transports.append(transport)
    assert address.factory.buildProtocol(None) is None
    assert not any(transport.disconnected for transport in transports)


def test_probes_that_hang_leave_room_for_the_others():
    """The state hangs, and any number of clients asks whether the proxy is ready."""
    address = AdminAddress("probe")
    address.control.unready = Deferred
    answers = []
    for _ in range(2 * MAX_CONNECTIONS):
        protocol, transport = address.connect()
        protocol.dataReceived(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
        answers.append(transport)
    assert sum(not transport.value() for transport in answers) == MAX_WAITING
    assert all(parse(transport.value()).status == 503 for transport in answers if transport.value())
    assert address.request("GET", "/healthz").status == 200


def test_a_client_that_does_not_read_its_answers_is_cut_off():
    address = AdminAddress("probe")
    protocol, transport = address.connect()
    protocol.dataReceived(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    transport.producer.pauseProducing()
    protocol.dataReceived(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
    assert transport.disconnected or transport.disconnecting
    assert transport.value().count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "begin",
    [b"", b"GET /healthz HTT", b"POST /api/v1/kill HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{"],
)
def test_a_request_that_does_not_come_in_time_is_cut_off(begin):
    address = AdminAddress("socket")
    protocol, transport = address.connect()
    for _ in range(int(REQUEST_TIMEOUT) - 1):
        protocol.dataReceived(begin[:1])
        begin = begin[1:]
        address.clock.advance(1)
    assert not transport.disconnected
    address.clock.advance(1)
    assert transport.disconnected


def test_a_kept_connection_has_time_between_two_requests():
    address = AdminAddress("probe")
    protocol, transport = address.connect()
    for _ in range(3):
        transport.clear()
        protocol.dataReceived(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert parse(transport.value()).status == 200
        address.clock.advance(REQUEST_TIMEOUT + 1)
    assert not transport.disconnected
