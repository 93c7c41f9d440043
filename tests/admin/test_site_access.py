"""The people who may use the admin service, and the refusals of the others."""

from dataclasses import replace

import pytest

from esxiproxy.admin.openapi.operations import Role
from tests.admin.site_scene import ACTIONS, BASE, BODIES, READS, STAFF, act, person, read, stranger
from tests.support.admin_site import ACTION, AdminAddress


@pytest.fixture
def operator():
    return AdminAddress(admin=STAFF, authenticate=person("root"))


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


def test_the_kernel_names_the_user_of_the_socket():
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
