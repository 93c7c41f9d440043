"""`http = portal`: every request that is no upgrade goes to the portal, with fields that say who sends it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from esxiproxy.core.errors import AccessDenied, PortalUnavailable, UpstreamDenied, UpstreamRefused
from esxiproxy.core.http.policy import Http, ListenerPolicy
from esxiproxy.core.http.portal import VISITOR_FIELDS, portal_destination, visitor_of
from esxiproxy.core.networks import Networks
from esxiproxy.core.routing import Principal
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.net.http.upstream import HttpUpstream
from esxiproxy.net.upstream.candidates import check_addresses, literal_candidates
from esxiproxy.net.upstream.connector import Connector
from esxiproxy.net.upstream.gateway import Gateway
from tests.net.http_scene import OK, HttpScene, get, read
from tests.net.scene import opening

PATH = "/run/private/portal.sock"
STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"7\r\ndata: 1\r\n"
)
ALICE = Principal(
    "j\u00fcrgen/=,%",
    groups=frozenset({"a,b", "\u202eops"}),
    authenticator="authenticator staff",
    consumed_cookies=frozenset({b"__Host-esxiproxy"}),
    login="l1",
    expires=1_800_000_000.5,
)


@pytest.fixture
def scene():
    scene = HttpScene(policy=ListenerPolicy(http=Http.PORTAL), response_timeout=5.0)
    gateway = scene.factory.gateway
    gateway.portal, gateway.identity_fields = portal_destination(PATH), VISITOR_FIELDS
    scene.know = lambda principal: setattr(
        scene.authenticator, "authenticate", lambda request: _answered(principal)
    )
    return scene


async def _answered(principal):
    if isinstance(principal, Exception):
        raise principal
    return principal


def visitor(octets):
    found = read(octets)
    return visitor_of(found.values), found


def test_a_request_of_a_known_client_says_who_it_is_and_hides_its_login(scene):
    scene.know(ALICE)
    request = get(
        b"/api/machines?search=a",
        b"Cookie: a=b; __Host-esxiproxy=secret",
        b"X-ESXiproxy-Principal: staff/root",
        b"x-esxiproxy-login: l2",
        b"X-Esxiproxy-Groups: admins",
        b"Connection: X-Esxiproxy-Client",
        b"Origin: http://proxy.example:81",
    )
    asked = scene.ask(request)
    found, message = visitor(asked)
    assert found.principal.names == (ALICE.name, f"/{ALICE.name}"), "the authenticator has no section here"
    assert found.principal.groups == ALICE.groups and found.principal.expires == ALICE.expires
    assert (found.listener, found.client, found.login) == ("test", "198.51.100.7", "l1")
    assert message.line == b"GET /api/machines?search=a HTTP/1.1"
    assert message.values(b"Cookie") == [b"a=b"] and b"secret" not in asked and b"root" not in asked
    assert message.values(b"Origin") == [b"http://proxy.example:81"]
    assert message.values(b"Host") == [b"proxy.example:81"]


def test_a_principal_that_is_too_large_is_refused_by_name(scene):
    scene.know(replace(ALICE, groups=frozenset(f"{number:0200}" for number in range(300))))
    scene.ask(get())
    assert scene.client.received.startswith(b"HTTP/1.1 403 ") and b"fewer groups" in scene.client.received
    assert scene.recorder.records[-1].error == "AccessDenied"


def test_an_authenticator_vouches_for_others(scene):
    scene.know(ALICE)
    scene.authenticator.vouches_for = frozenset({"authenticator staff"})
    assert visitor(scene.ask(get()))[0].principal.names == (ALICE.name, f"staff/{ALICE.name}")


def test_an_unknown_client_has_no_principal_and_a_refused_one_gets_no_page(scene):
    scene.know(None)
    found, message = visitor(scene.ask(get(b"/", b"X-Esxiproxy-Principal: staff/root")))
    assert found.principal is None and not message.values(b"X-Esxiproxy-Principal")
    cookie = b"__Host-esxiproxy=x; Path=/; Secure; HttpOnly; SameSite=Lax"
    answer = OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: " + cookie + b"\r\nLocation: /login\r\n\r\n")
    message = read(scene.answer(answer))
    assert message.values(b"Set-Cookie") == [cookie], "Secure stays without TLS as well"
    assert message.values(b"Location") == [b"/login"]
    scene.clear()
    scene.know(AccessDenied("a wrong token", status=401))
    dials = scene.connector.dials
    scene.ask(get(b"/api/consoles"))
    assert scene.client.received.startswith(b"HTTP/1.1 401 ") and scene.connector.dials == dials


def test_a_client_without_a_name_has_no_login(scene):
    scene.know(Principal("anonymous"))
    assert visitor(scene.ask(get()))[0].principal is None
    scene.answer(OK)
    assert scene.recorder.records[-1].principal == ""


def test_the_code_of_a_provider_is_hidden(scene):
    portal = portal_destination(PATH)
    gateway = Gateway((), (), scene.connector, scene.admission, ConnectionLimits(), portal=portal)
    scene.factory.gateway.secrets = gateway.secrets
    scene.know(None)
    scene.ask(get(b"/login/callback?state=s3cret&iss=x&code=s3cret"))
    scene.answer(OK)
    assert scene.recorder.records[-1].target == "/login/callback?state=***&iss=x&code=***"
    assert gateway.identity_fields == VISITOR_FIELDS


def test_an_upgrade_needs_a_principal_and_goes_to_the_routers(scene):
    scene.know(None)
    scene.ask(opening(b"/vm/dc1/u"))
    assert scene.client.received.startswith(b"HTTP/1.1 401 ") and not scene.connector.dials


def test_a_request_is_never_sent_twice_and_takes_no_slot(scene):
    scene.know(ALICE)
    scene.ask(get())
    scene.answer(OK)
    first = scene.host
    assert first.aborted and not scene.admission.connections, "no connection is kept"
    assert scene.connector.dials == 1 and not scene.admission.dialling
    scene.ask(get())
    assert scene.host is not first
    scene.host.close()
    scene.pump()
    assert b"502 Bad Gateway" in scene.client.received and scene.connector.dials == 2


def test_a_request_waits_for_the_admin_process_and_not_for_ever(scene):
    scene.know(ALICE)
    scene.connector.failure = UpstreamRefused("portal refused the connection")
    scene.ask(get())
    scene.advance(2.5)
    assert not scene.client.received and scene.connector.dials > 5
    scene.connector.failure = None
    scene.advance(0.2)
    assert scene.answer(OK).endswith(b"ok")
    scene.client.received = b""
    scene.connector.failure = UpstreamRefused("portal refused the connection")
    scene.ask(get())
    scene.advance(3.1)
    message = read(scene.client.received)
    assert message.status == 503 and message.values(b"Retry-After") == [b"3"]
    assert PATH.encode() not in scene.client.received and b"3 s" not in message.body
    assert scene.recorder.records[-1].error == PortalUnavailable.__name__


def test_an_event_stream_has_no_response_timeout_and_a_page_has(scene):
    scene.know(ALICE)
    scene.ask(get(b"/api/events"))
    scene.answer(STREAM)
    scene.advance(20)
    assert not scene.client.ended and not scene.recorder.records
    scene.host.close()
    scene.pump()
    assert not scene.sessions.event_streams
    slow = HttpScene(policy=ListenerPolicy(http=Http.PORTAL), response_timeout=5.0)
    slow.factory.gateway.portal = portal_destination(PATH)
    slow.ask(get())
    slow.advance(6)
    assert slow.client.received.startswith(b"HTTP/1.1 504 ")


def test_a_worker_that_retires_ends_event_streams_at_once_and_answers_requests(scene):
    scene.know(ALICE)
    scene.ask(get(b"/api/events"))
    scene.answer(STREAM)
    scene.sessions.close_idle()
    scene.pump()
    assert scene.client.saw_fin and not scene.sessions.event_streams and not len(scene.sessions)
    assert b"0\r\n\r\n" not in scene.client.received, "the stream is not complete"


def test_an_event_stream_of_a_connection_that_closes_anyway_ends_at_once(scene):
    scene.know(ALICE)
    scene.ask(get(b"/api/events"))
    scene.sessions.close_idle()
    scene.answer(STREAM)
    assert scene.client.saw_fin and not len(scene.sessions)


def test_fields_that_no_listener_has_written_are_refused():
    fields = {b"x-esxiproxy-listener": [b"a"], b"x-esxiproxy-client": [b"192.0.2.1"]}
    assert visitor_of(fields.get).principal is None
    for name, values in (
        (b"x-esxiproxy-principal", [b"root"]),
        (b"x-esxiproxy-principal", [b"a/b", b"a/c"]),
        (b"x-esxiproxy-client", None),
        (b"x-esxiproxy-listener", []),
    ):
        with pytest.raises(ValueError, match="x-esxiproxy"):
            visitor_of({**fields, name: values}.get)


class Reactor(MemoryReactorClock):
    def connectUNIX(self, address, factory, timeout=30.0, checkPID=0):
        self.unixClients.append((address, factory, timeout))
        return SimpleNamespace(stopConnecting=lambda: None, disconnect=lambda: None)


def test_a_unix_socket_is_dialled_and_a_missing_one_is_refused():
    reactor, destination = Reactor(), portal_destination(PATH)
    (candidate,) = literal_candidates(destination)
    outcome = []

    def connect():
        make = lambda *given: HttpUpstream(destination, SessionLimits(), reactor, b"", *given)  # noqa: E731
        dialled = Connector(reactor).connect(candidate.upstream, candidate.host, make, SessionLimits())
        assert isinstance(dialled, Deferred)
        dialled.addBoth(outcome.append)
        return reactor.unixClients[-1]

    path, factory, _ = connect()
    assert Path(path) == Path(PATH) and not reactor.tcpClients
    factory.clientConnectionFailed(None, Failure(ConnectError(2, "No such file or directory")))
    assert outcome[0].check(UpstreamRefused)
    _, factory, _ = connect()
    factory.buildProtocol(None).makeConnection(
        SimpleNamespace(
            registerProducer=lambda *_: None, abortConnection=lambda: None, getHandle=lambda: None
        )
    )
    assert isinstance(outcome[1], HttpUpstream)


def test_a_router_cannot_send_a_session_to_a_unix_socket_of_its_own_choice():
    destination = replace(portal_destination(PATH), networks=Networks())
    with pytest.raises(UpstreamDenied):
        check_addresses(literal_candidates(destination), destination, None)
