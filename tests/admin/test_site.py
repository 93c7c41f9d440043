"""The sites of the admin service: who may do what, and what malformed requests get."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from esxiproxy.admin.access import Unauthenticated
from esxiproxy.admin.audit import MAX_REFUSALS
from esxiproxy.admin.call import ApiError
from esxiproxy.admin.connections import REQUEST_TIMEOUT
from esxiproxy.admin.factory import MAX_CONNECTIONS, AdminFactory
from esxiproxy.admin.fresh_values import MAX_WAITING
from esxiproxy.admin.openapi.document import document
from esxiproxy.admin.openapi.operations import OPERATIONS, Role
from esxiproxy.admin.requests import MAX_BODY
from esxiproxy.admin.site import MAX_STREAMS, STREAM_LIFE, StaticFile
from esxiproxy.core.config.model import Admin
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.routing import Principal
from tests.support.admin_site import ACTION, AdminAddress, parse

BASE = "/api/v1"
KILL = {"kind": "session", "value": "00112233aabbccdd", "reason": "maintenance"}
BODIES = {
    "kill": KILL,
    "drain": {"kind": "host", "name": "esx1", "reason": "memory"},
    "undrain": {"kind": "host", "name": "esx1"},
    "check": {},
    "reload": {},
    "make_link": {"router": "links", "to": "esx1/ticket/abc"},
    "revoke_link": {"id": "abc", "reason": "lost"},
}
ACTIONS = [operation for operation in OPERATIONS if operation.role is Role.OPERATOR]
READS = [operation for operation in OPERATIONS if operation.role is Role.VIEWER]


def person(name, *groups):
    async def authenticate(arrival):
        return Principal(name, authenticator="authenticator sso", groups=frozenset(groups))

    return authenticate


async def stranger(arrival):
    raise Unauthenticated(401, "no authenticator knows the client", ((b"WWW-Authenticate", b"Basic"),))


STAFF = Admin(
    Path("x"), viewers=frozenset({"@staff"}), operators=frozenset({"root"}), names=frozenset({"127.0.0.1"})
)


@pytest.fixture
def operator():
    return AdminAddress(admin=STAFF, authenticate=person("root"))


def act(address, operation, fields=ACTION, **more):
    return address.request("POST", BASE + operation.path, fields, BODIES[operation.name], **more)


def read(address, operation, **more):
    path = operation.path.replace("{id}", "00112233aabbccdd")
    return address.request("GET", BASE + path, **more)


# --- who may do what


@pytest.mark.parametrize("operation", ACTIONS, ids=lambda each: each.name)
def test_an_operator_acts(operator, operation):
    assert act(operator, operation).status == 200
    ((name, call),) = operator.calls.seen
    assert (name, dict(call.body)) == (operation.name, BODIES[operation.name])
    assert (call.actor.name, call.actor.role) == ("sso/root", Role.OPERATOR)


REFUSALS = {
    "a viewer": ({"authenticate": person("eve", "staff")}, {}, 403),
    "a user without rights": ({"authenticate": person("eve")}, {}, 403),
    "a user with the name of a group": ({"authenticate": person("@staff")}, {}, 403),
    "a stranger": ({"authenticate": stranger}, {}, 401),
    "a visitor without authenticator": ({"authenticate": None}, {}, 403),
    "a foreign Host": ({}, {"host": "evil.example:9180"}, 421),
    "no Host": ({}, {"host": None}, 421),
    "no action field": ({}, {"fields": ACTION[1:]}, 403),
    "a wrong action field": ({}, {"fields": (("X-Esxiproxy", "yes"), ACTION[1])}, 403),
    "a foreign Origin": ({}, {"fields": (*ACTION, ("Origin", "https://evil.example"))}, 403),
    "another port": ({}, {"fields": (*ACTION, ("Origin", "http://127.0.0.1:80"))}, 403),
    "the null Origin": ({}, {"fields": (*ACTION, ("Origin", "null"))}, 403),
    "two Origins": ({}, {"fields": (*ACTION, *[("Origin", "http://127.0.0.1:9180")] * 2)}, 403),
    "a foreign site": ({}, {"fields": (*ACTION, ("Sec-Fetch-Site", "cross-site"))}, 403),
    "a site of the same domain": ({}, {"fields": (*ACTION, ("Sec-Fetch-Site", "same-site"))}, 403),
    "the address of probes": ({"kind": "probe"}, {}, 404),
}


@pytest.mark.parametrize("operation", ACTIONS, ids=lambda each: each.name)
@pytest.mark.parametrize("case", REFUSALS)
def test_an_action_is_refused(operation, case):
    changes, more, status = REFUSALS[case]
    address = AdminAddress(**{"admin": STAFF, "authenticate": person("root"), **changes})
    answer = act(address, operation, **more)
    assert answer.status == status
    assert address.calls.seen == []
    if status != 404:
        assert answer.value["error"]


@pytest.mark.parametrize("operation", READS, ids=lambda each: each.name)
def test_a_viewer_sees_everything(operation):
    address = AdminAddress(admin=STAFF, authenticate=person("eve", "staff"))
    assert read(address, operation).status == 200
    assert [name for name, _ in address.calls.seen] == [operation.name]


@pytest.mark.parametrize("operation", READS, ids=lambda each: each.name)
@pytest.mark.parametrize("authenticate", [person("eve"), stranger])
def test_a_stranger_sees_nothing(operation, authenticate):
    address = AdminAddress(admin=STAFF, authenticate=authenticate)
    assert read(address, operation).status in (401, 403)
    assert address.calls.seen == []


def test_a_challenge_is_passed_on():
    answer = AdminAddress(admin=STAFF, authenticate=stranger).request("GET", f"{BASE}/status")
    assert (answer.status, answer.fields["www-authenticate"]) == (401, "Basic")


def test_the_kernel_tells_the_user_of_the_socket():
    address = AdminAddress("socket")
    assert act(address, ACTIONS[0], host="anything").status == 200
    assert address.calls.seen[0][1].actor.name.startswith("uid ")
    assert act(address, ACTIONS[0], (*ACTION, ("Origin", "http://127.0.0.1"))).status == 403


@pytest.mark.parametrize("origin", ["http://127.0.0.1:9180", "HTTP://127.0.0.1:9180"])
def test_the_own_origin_may_act(operator, origin):
    assert act(operator, ACTIONS[0], (*ACTION, ("Origin", origin))).status == 200


def test_a_proxy_in_front_may_add_tls(operator):
    own = (*ACTION, ("Origin", "https://127.0.0.1"))
    assert act(operator, ACTIONS[0], own, host="127.0.0.1").status == 200


# --- the audit log


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_action_stands_in_the_audit_log_before_it_begins(tmp_path):
    path = tmp_path / "audit.log"
    address = AdminAddress(admin=STAFF, authenticate=person("root"), audit=path)
    address.calls.answers["kill"] = {"sessions": 1}
    assert act(address, ACTIONS[0]).value == {"sessions": 1}
    begun, done = lines(path)
    assert (begun["outcome"], done["outcome"]) == ("begun", "done")
    assert begun["action_id"] == done["action_id"]
    for line in (begun, done):
        assert (line["actor"], line["source"], line["action"]) == ("sso/root", "192.0.2.7:4000", "kill")
        assert line["arguments"] == {"kind": "session", "value": "00112233aabbccdd"}
        assert line["reason"] == "maintenance"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (ApiError(404, "there is none"), 404, "refused"),
        (ApiError(409, "not now"), 409, "refused"),
        (StateUnavailable("locked"), 503, "failed"),
        (RuntimeError("a bug"), 500, "failed"),
    ],
)
def test_the_audit_log_has_the_outcome(tmp_path, error, status, outcome):
    path = tmp_path / "audit.log"
    address = AdminAddress("socket", audit=path)
    address.calls.answers["kill"] = error
    answer = act(address, ACTIONS[0])
    assert answer.status == status
    assert "Traceback" not in answer.body.decode()
    assert [line["outcome"] for line in lines(path)] == ["begun", outcome]


def test_a_refused_action_stands_in_the_audit_log(tmp_path):
    path = tmp_path / "audit.log"
    act(AdminAddress(admin=STAFF, authenticate=person("eve"), audit=path), ACTIONS[0])
    ((line),) = lines(path)
    assert (line["actor"], line["outcome"]) == ("sso/eve", "refused")


def test_an_action_that_cannot_be_written_is_refused(tmp_path):
    address = AdminAddress("socket", audit=tmp_path)  # a folder
    answer = act(address, ACTIONS[0])
    assert (answer.status, address.calls.seen) == (503, [])
    assert "nothing was done" in answer.value["error"]
    assert "retry-after" in answer.fields


def test_a_rotated_file_is_opened_again(tmp_path):
    path = tmp_path / "audit.log"
    address = AdminAddress("socket", audit=path)
    act(address, ACTIONS[0])
    path.rename(tmp_path / "audit.log.1")
    act(address, ACTIONS[0])
    assert len(lines(path)) == len(lines(tmp_path / "audit.log.1")) == 2


def test_a_ticket_is_no_part_of_an_audit_line(tmp_path):
    path = tmp_path / "audit.log"
    address = AdminAddress("socket", audit=path)
    body = {"router": "links", "to": "esx1/ticket/SECRET-TICKET", "reason": "see /ticket/SECRET-TICKET"}
    assert address.request("POST", f"{BASE}/links", ACTION, body).status == 200
    assert "SECRET-TICKET" not in path.read_text()


# --- malformed requests


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


def test_a_secret_in_a_reason_is_hidden_from_everybody():
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


def test_the_document_is_served(operator):
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


# --- probes and files


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


# --- event streams


class StandInStream:
    """A stream whose events a test sends."""

    def __init__(self):
        self.waiting = None
        self.closed = False

    def next(self):
        self.waiting = Deferred()
        return self.waiting

    def close(self):
        self.closed = True


def open_stream(address):
    protocol, transport = address.connect()
    protocol.dataReceived(b"GET /api/v1/events?view=hosts HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    return protocol, transport


def test_events_are_written_as_they_come_and_no_faster_than_they_are_read():
    streams, arguments = [], []

    def opened(_actor, given):
        arguments.append(given)
        streams.append(StandInStream())
        return streams[-1]

    address = AdminAddress(admin=STAFF, authenticate=person("eve", "staff"), streams=opened)
    _, transport = open_stream(address)
    (stream,) = streams
    assert (arguments[0]["view"], arguments[0]["limit"]) == ("hosts", 50)
    stream.waiting.callback(b"event: status\n\n")
    assert b"text/event-stream" in transport.value() and b"event: status\n\n" in transport.value()
    transport.producer.pauseProducing()
    stream.waiting.callback(b"event: late\n\n")
    waiting = stream.waiting
    assert waiting.called  # nothing is asked for while the client does not read
    transport.producer.resumeProducing()
    assert stream.waiting is not waiting
    address.root.close_streams()
    assert stream.closed


def test_a_client_that_leaves_ends_its_stream():
    streams = []

    def opened(_actor, _arguments):
        streams.append(StandInStream())
        return streams[-1]

    address = AdminAddress(admin=STAFF, authenticate=person("eve", "staff"), streams=opened)
    connections = [open_stream(address) for _ in range(MAX_STREAMS)]
    _, transport = open_stream(address)
    assert parse(transport.value()).status == 503
    for protocol, _ in connections:
        protocol.connectionLost(Failure(ConnectionLost()))
    assert all(stream.closed for stream in streams)
    open_stream(address)
    assert len(streams) == MAX_STREAMS + 1


# --- a reload


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


@pytest.mark.parametrize(
    ("name", "groups", "rules", "role"),
    [
        ("@ops", (), {"@ops"}, None),
        ("sso/root", (), {"sso/root"}, None),
        ("root", (), {"sso/root"}, Role.OPERATOR),
        ("root", (), {"desk/root"}, None),
        ("alice", ("ops",), {"@ops"}, Role.OPERATOR),
        ("alice", ("@ops",), {"@ops"}, None),
    ],
)
def test_a_name_is_no_group_and_no_name_of_another_section(name, groups, rules, role):
    admin = replace(STAFF, operators=frozenset(rules), viewers=frozenset())
    address = AdminAddress(admin=admin, authenticate=person(name, *groups))
    assert act(address, ACTIONS[0]).status == (200 if role else 403)


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


def test_a_stream_ends_with_its_login_and_after_its_life():
    for left, life in ((None, STREAM_LIFE), (20.0, 20.0)):
        streams = []

        async def authenticate(arrival, left=left):
            expires = None if left is None else time.time() + left
            return Principal("root", authenticator="authenticator sso", expires=expires)

        def opened(_actor, _arguments, streams=streams):
            streams.append(StandInStream())
            return streams[-1]

        address = AdminAddress(admin=STAFF, authenticate=authenticate, streams=opened)
        open_stream(address)
        address.clock.advance(life - 1)
        assert not streams[0].closed
        address.clock.advance(2)
        assert streams[0].closed


def test_arguments_that_are_refused_first_do_not_stand_in_the_audit_log(tmp_path):
    async def refuse(call):
        raise ApiError(400, "this is a link")

    path = tmp_path / "audit.log"
    address = AdminAddress("socket", audit=path, prechecks={"revoke_link": refuse})
    answer = address.request("POST", f"{BASE}/links/revoke", ACTION, {"id": "SECRET", "reason": "x"})
    assert (answer.status, path.exists()) == (400, False)


def test_a_flood_of_refused_actions_writes_few_lines(tmp_path):
    path = tmp_path / "audit.log"
    address = AdminAddress(admin=STAFF, authenticate=person("eve"), audit=path)
    for _ in range(50):
        assert act(address, ACTIONS[0]).status == 403
    assert len(lines(path)) == MAX_REFUSALS
    address.clock.advance(1)
    act(address, ACTIONS[0])
    assert len(lines(path)) == MAX_REFUSALS + 1
