"""Links of the router `vsphere`, each of which opens one console once."""

from dataclasses import replace

import pytest

from esxiproxy.core.console_link import LONGEST_TTL, SPACE
from esxiproxy.core.errors import (
    LinkExpired,
    LinkInvalid,
    LinkUsed,
    MachineHidden,
)
from esxiproxy.core.login_rows import LOGINS
from esxiproxy.core.routing import Principal
from tests.routers.vsphere_scene import ALICE, BOB, ID, NOW, Scene
from tests.support.outcome import result
from tests.support.requests import request
from tests.support.vsphere_double import DB, TICKET, WEB, tickets


def test_a_link_opens_its_console_once_for_its_principal():
    scene = Scene()
    link, target = scene.mint()
    route = scene.route(target, Principal("anonymous"))
    assert (route.principal.name, route.principal.groups, route.console) == ("alice", {"operators"}, ID)
    assert route.link == link.key and link.key not in link.url
    final = result(route.acquire())
    assert final.target == f"/ticket/{TICKET}".encode()
    with pytest.raises(LinkInvalid, match="there is no such link, or it was opened or has expired"):
        scene.route(target, Principal("anonymous"))


def test_of_two_openings_of_a_link_one_gets_the_ticket():
    scene = Scene()
    _link, target = scene.mint()
    one, other = scene.route(target), scene.route(target)
    assert result(other.acquire()).target is not None
    with pytest.raises(LinkUsed) as caught:
        result(one.acquire())
    assert caught.value.status_code == 404 and caught.value.public_name == "RouteNotFound"
    assert len(scene.vsphere.asked) == 1


def test_the_rights_of_the_principal_of_a_link_are_checked_at_its_opening():
    scene = Scene(rules=[("@operators", "name:*", "open"), ("bob", "name:*", "open")])
    _link, target = scene.mint()
    assert scene.route(target, BOB).principal.name == "alice"  # the gateway compares it with bob
    scene.http.site = tickets(scene.vsphere, ("bob", "name:*", "open"))
    with pytest.raises(MachineHidden, match="no rule lets alice open"):
        scene.route(target, BOB)
    assert result(scene.state.get(SPACE, _link.key)) is not None


def test_a_link_ends_with_its_time_and_with_the_login():
    scene = Scene()
    link, target = scene.mint(ttl=60)
    scene.log_in("l1")
    _other, short = scene.mint(principal=replace(ALICE, expires=NOW + 30, login="l1"))
    assert scene.route(short).principal.login == "l1"
    scene.clock.advance(30)
    with pytest.raises(LinkExpired):
        scene.route(short)
    assert scene.route(target).console == ID and link.expires == NOW + 60
    scene.clock.advance(30)
    with pytest.raises(LinkInvalid):
        scene.route(target)


def test_a_link_ends_with_the_login_that_made_it():
    scene = Scene()
    scene.log_in("l1")
    link, target = scene.mint(principal=replace(ALICE, login="l1"))
    route = scene.route(target)
    assert route.principal.names == ("alice", "staff/alice")
    result(scene.state.remove(LOGINS, "l1"))
    for opening in (route.acquire, lambda: scene.router.route(request(target), ALICE)):
        with pytest.raises(LinkExpired, match="the login with which the link was made has ended"):
            result(opening())
    assert scene.vsphere.asked == [] and result(scene.state.get(SPACE, link.key)) is not None


def test_a_value_that_was_changed_or_belongs_to_another_link_opens_nothing():
    scene = Scene()
    (one, target), (other, _) = scene.mint(), scene.mint(f"dc1/{DB}")
    for value in (other.value, one.value[:-4] + "AAAA", "", "x"):
        result(scene.state.put(SPACE, one.key, value, one.expires))
        with pytest.raises(LinkInvalid):
            scene.route(target)


def test_a_link_is_random_and_its_row_opens_nothing():
    scene = Scene()
    link, target = scene.mint()
    secret = target.removeprefix(b"/c/").decode()
    assert len(secret) == 43 and secret not in link.key + link.value + repr(link)
    assert "alice" not in link.value and WEB not in link.value
    assert scene.router.secrets == (("path", b"/c/"),)
    for ttl in (0, -1, LONGEST_TTL + 1):
        with pytest.raises(ValueError, match="a link lives for"):
            scene.mint(ttl=ttl)
