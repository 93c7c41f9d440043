"""Selectors of commands: which sessions they select."""

from dataclasses import replace

import pytest

from esxiproxy.core.http.head import parse
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.routing import Principal, Route, Upstream
from esxiproxy.core.session.command import Selector, SelectorKind
from esxiproxy.core.session.session import Session
from esxiproxy.core.session_limits import SessionLimits

HEAD = parse(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")


def session(is_routed=True):
    request = Request("s", "one", PeerAddress("192.0.2.7", 1), True, HEAD)
    found = Session(request, SessionLimits(), lambda: 0.0)
    found.authenticated(Principal("alice", login="login-1"))
    if is_routed:
        found.routed(
            replace(
                Route.to(Upstream("esxi", "esxi1.example.com", 443, True), console="vm-42"), link="link-1"
            )
        )
        found.dialled = ("esxi1.example.com", "192.0.2.10")
    return found


KINDS = {
    SelectorKind.SESSION: "s",
    SelectorKind.LOGIN: "login-1",
    SelectorKind.MACHINE: "vm-42",
    SelectorKind.PRINCIPAL: "alice",
    SelectorKind.HOST: "esxi1.example.com",
    SelectorKind.UPSTREAM: "esxi",
    SelectorKind.LISTENER: "one",
    SelectorKind.LINK: "link-1",
    SelectorKind.ALL: "",
}


@pytest.mark.parametrize("kind", SelectorKind)
def test_a_session_is_selected_by_its_property(kind):
    assert Selector(kind, KINDS[kind]).selects(session())
    assert Selector(kind, "another").selects(session()) is (kind is SelectorKind.ALL)


@pytest.mark.parametrize("kind", [SelectorKind.HOST, SelectorKind.UPSTREAM, SelectorKind.LINK])
def test_a_session_without_a_route_has_no_host_and_no_link(kind):
    assert not Selector(kind, KINDS[kind]).selects(session(is_routed=False))


def test_no_link_is_not_a_link():
    found = session()
    found.route = replace(found.route, link="")
    assert not Selector(SelectorKind.LINK, "").selects(found)
