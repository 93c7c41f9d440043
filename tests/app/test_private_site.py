"""The private site of tickets on its unix socket, asked by the real HTTP client on a real reactor."""

import os
import socket
import stat

import pytest
from twisted.internet.protocol import Factory

from esxiproxy.admin.tickets_site import TicketsSite
from esxiproxy.app.private_site import PrivateSite
from esxiproxy.core.console_tickets import MachineQuestion, read_machine, read_ticket
from esxiproxy.core.errors import Internal, MachineHidden, ServiceUnavailable
from esxiproxy.core.private_sites import PORTAL, TICKETS, PrivateSites
from esxiproxy.core.routing import Principal
from esxiproxy.core.startup import StartupError
from esxiproxy.core.thumbprint import Pin
from tests.support.reactor import FakeReactor
from tests.support.vsphere_double import TICKET, WEB, ScriptedVSphere, tickets
from tests.support.web_server import Web

PINS = (Pin("sha256", "5c" * 32), Pin("sha1", "5c" * 20))


@pytest.fixture
def web():
    running = Web()
    yield running
    running.close()


class World:
    """The sites of one folder, and a vCenter behind them."""

    def __init__(self, web, folder):
        self.web = web
        self.folder = folder
        self.vsphere = ScriptedVSphere()

    def site(self, generation=0):
        sites = PrivateSites(self.folder, generation)
        answers = tickets(self.vsphere)
        return PrivateSite(sites, TICKETS, lambda: TicketsSite(answers, self.web.reactor), self.web.reactor)

    def start(self, path, who="alice", machine=f"dc1/{WEB}", **more):
        body = more.pop("body", MachineQuestion("vms", machine, Principal(who)).octets())
        more = {"socket": self.folder / "tickets.sock", "body": body, **more}
        return self.web.client.request(more.pop("method", "POST"), f"http://tickets{path}", **more)

    def ask(self, path, *arguments, **more):
        answer = self.web.result(self.start(path, *arguments, **more))
        return answer.status, answer.body


@pytest.fixture
def world(web, tmp_path):
    return World(web, tmp_path)


def test_the_site_answers_questions_for_machines_and_tickets(world, web):
    world.vsphere.identity = {"certificate": b"\x30\x82DER", "pins": PINS}
    site = world.site()
    site.open()
    path = world.folder / "tickets-0.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_machine(*world.ask("/machine")).id == f"dc1/{WEB}"
    machine, ticket = read_ticket(*world.ask("/ticket", machine="web-01"))
    assert (machine.name, ticket.host, ticket.port) == ("web-01", "192.0.2.10", 443)
    assert (ticket.ticket, ticket.certificate, ticket.pins) == (TICKET, b"\x30\x82DER", PINS)
    assert TICKET not in repr(ticket)
    status, body = world.ask("/ticket", who="bob")
    assert (status, world.vsphere.asked) == (404, [f"dc1/{WEB}"])
    with pytest.raises(MachineHidden, match="no rule lets bob open"):
        read_ticket(status, body)
    for more, expected in (
        ({"body": b"{}"}, 400),
        ({"body": b"[" * 100_000}, 413),
        ({"body": b"[" * 60_000}, 400),
        ({"body": b"\xff"}, 400),
        ({"method": "GET", "body": b""}, 405),
    ):
        assert world.ask("/machine", **more)[0] == expected
    status, body = world.ask("/else")
    assert status == 404
    with pytest.raises(Internal):
        read_machine(status, body)
    web.result(site.stopService())
    assert sorted(os.listdir(world.folder)) == []


def test_a_client_that_leaves_ends_the_question(world, web):
    from twisted.internet.defer import Deferred

    given_up = Deferred()
    world.vsphere.fault = Deferred(lambda _: given_up.callback(None))
    site = world.site()
    site.open()
    asking = world.start("/ticket")
    asking.addErrback(lambda _: None)
    web.until(lambda: world.vsphere.asked)
    asking.cancel()
    web.result(given_up)
    web.result(site.stopService())


def test_a_new_generation_takes_the_link_and_the_old_one_leaves_it(world, web):
    old, new = world.site(1), world.site(2)
    old.open()
    new.open()
    assert os.readlink(world.folder / "tickets.sock") == str(world.folder / "tickets-2.sock")
    web.result(old.stopService())
    assert read_machine(*world.ask("/machine")).name == "web-01"
    web.result(new.stopService())
    assert os.listdir(world.folder) == []
    with pytest.raises(ServiceUnavailable) as caught:
        world.ask("/machine")
    assert "No such file" in str(caught.value)


def test_the_socket_of_a_process_that_was_killed_is_taken_over(world, web):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(world.folder / "tickets-0.sock"))
        left.listen()
    site = world.site()
    site.open()
    assert read_machine(*world.ask("/machine")).name == "web-01"
    other = world.site()
    with pytest.raises(StartupError, match=r"tickets-0\.sock cannot be bound: another process listens"):
        other.open()
    web.result(site.stopService())


def test_requests_in_flight_are_answered_before_the_connections_close(tmp_path):
    reactor, factory = FakeReactor(), Factory()
    for in_flight in (0, 1):
        factory.in_flight = in_flight
        site = PrivateSite(PrivateSites(tmp_path, 1), PORTAL, lambda: factory, reactor)
        site.open()
        stopping = site.stopService()
        reactor.advance(0)
        assert stopping.called == (not in_flight)
    factory.in_flight = 0
    reactor.advance(0.1)
    assert stopping.called
