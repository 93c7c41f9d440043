"""The audit log of the admin service."""

import json

import pytest

from esxiproxy.admin.audit import MAX_REFUSALS
from esxiproxy.admin.call import ApiError
from esxiproxy.core.errors import StateUnavailable
from tests.admin.site_scene import ACTIONS, BASE, STAFF, act, person
from tests.support.admin_site import ACTION, AdminAddress


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
