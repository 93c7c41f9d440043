"""The addresses of [admin] over TCP and TLS: every action of those who may not act is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from esxiproxy.admin.audit import MAX_REFUSALS
from esxiproxy.admin.openapi.operations import OPERATIONS, Role
from tests.support import config
from tests.support.admin_people import (
    BASE,
    FREE,
    OPERATOR,
    OTHER,
    PASSWORDS,
    VIEWER,
    AdminClient,
    port_of,
    section,
)
from tests.support.certificates import Certificate
from tests.support.crowd import EchoUpstream, Single, echoes, opened
from tests.support.programs import Proxy, until
from tests.support.websocket_peers import Client

BODIES: dict[str, Any] = {
    "kill": {"kind": "principal", "value": "anonymous", "reason": "a test"},
    "drain": {"kind": "proxy", "end_after": 0, "reason": "a test"},
    "undrain": {"kind": "proxy"},
    "check": {},
    "reload": {},
    "make_link": {"router": "links", "to": "esxi1/ticket/abc"},
    "revoke_link": {"id": "link-1", "reason": "a test"},
}
ACTIONS = [operation for operation in OPERATIONS if operation.role is Role.OPERATOR]
FOREIGN = "https://evil.example"


@dataclass(frozen=True)
class Scene:
    """A proxy with an open console, and a client of each of its admin addresses."""

    proxy: Single
    console: Client
    people: AdminClient
    probe: AdminClient

    def audit(self) -> list[dict[str, Any]]:
        path = self.proxy.folder / "audit.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module", params=["http", "https"])
def scene(
    request: pytest.FixtureRequest, upstream: EchoUpstream, listener_certificate: Certificate
) -> Iterator[Scene]:
    tls = listener_certificate if request.param == "https" else None
    admin = section(tls, audit_log="audit.log")
    text = admin + config.ini(config.listener(), config.upstream(upstream.port))
    with Single(text, {"people": PASSWORDS}) as proxy:
        port, probe = port_of(proxy), port_of(proxy, "probe_listen")
        (console,) = opened(proxy.ports["one"])
        with console:
            people = AdminClient(port, tls=tls is not None)
            yield Scene(proxy, console, people, AdminClient(probe, OPERATOR))
        proxy.assert_clean()


def refusals(scene: Scene) -> dict[str, tuple[AdminClient, dict[str, str], int]]:
    """Yield clients that may not act, further fields of their requests, and the status that they get."""
    people = scene.people
    operator = replace(people, login=OPERATOR)
    own = f"{'https' if people.tls else 'http'}://127.0.0.1:{people.port}"
    return {
        "a viewer": (replace(people, login=VIEWER), {}, 403),
        "a viewer on the page": (replace(people, login=VIEWER), {"Origin": own}, 403),
        "a user without rights": (replace(people, login=OTHER), {}, 403),
        "nobody": (people, {}, 401),
        "a wrong password": (replace(people, login="olga:wrong", source="127.0.0.2"), {}, 401),
        "the address of probes": (scene.probe, {}, 404),
        "a foreign Origin": (operator, {"Origin": FOREIGN}, 403),
        "the Origin of another port": (operator, {"Origin": "http://127.0.0.1:1"}, 403),
        "the null Origin": (operator, {"Origin": "null"}, 403),
        "a foreign site": (operator, {"Sec-Fetch-Site": "cross-site"}, 403),
        "a foreign Host": (replace(operator, name="evil.example"), {}, 421),
        "a form": (operator, {"X-Esxiproxy": ""}, 403),
    }


def test_every_action_of_those_who_may_not_act_is_refused(scene: Scene) -> None:
    """Refused actions have no effect: the console stays, and the audit log has no action that has begun."""
    assert sorted(BODIES) == sorted(operation.name for operation in ACTIONS)
    before = len(scene.audit())
    for who, (client, fields, status) in refusals(scene).items():
        for operation in ACTIONS:
            answer = client.ask("POST", BASE + operation.path, BODIES[operation.name], fields)
            throttled = {429} if client.source == "127.0.0.2" else set()
            assert answer.status in {status, *throttled}, (who, operation.name, answer)
            assert "Set-Cookie" not in answer.fields
    assert echoes(scene.console)
    assert "is in force" not in scene.proxy.log()
    lines = scene.audit()[before:]
    assert {line["outcome"] for line in lines} == {"refused"}
    assert {line["actor"] for line in lines} <= {"people/vera", "people/otto", "people/olga"}
    assert len(lines) >= MAX_REFUSALS, "of a flood of refusals, some are written each second"
    state = replace(scene.people, login=VIEWER)
    assert state.get("/drains") == {"drains": []} and state.get("/links") == {"links": []}


def test_reading_needs_a_viewer_and_the_right_host(scene: Scene) -> None:
    people = scene.people
    for operation in OPERATIONS:
        if operation.role is not Role.VIEWER or "{" in operation.path:
            continue
        asked = {
            name: client.ask("GET", BASE + operation.path).status
            for name, client in {
                "operator": replace(people, login=OPERATOR),
                "viewer": replace(people, login=VIEWER),
                "other": replace(people, login=OTHER),
                "nobody": people,
                "foreign": replace(people, login=OPERATOR, name="evil.example"),
                "probe": scene.probe,
            }.items()
        }
        assert asked == {
            "operator": 200,
            "viewer": 200,
            "other": 403,
            "nobody": 401,
            "foreign": 421,
            "probe": 404,
        }, operation.name


def test_probes_need_no_login_and_no_name(scene: Scene) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert scene.people.ask("GET", path).status == 200
        for name in ("evil.example", "127.0.0.1", ""):
            assert replace(scene.probe, login=None, name=name).ask("GET", path).status == 200
        assert scene.probe.ask("POST", path, {}).status == 405
    assert scene.probe.ask("GET", "/").status == 404


def test_an_operator_acts_and_stands_in_the_audit_log(scene: Scene) -> None:
    """The last test of the scene: its console ends with the reason."""
    own = f"{'https' if scene.people.tls else 'http'}://127.0.0.1:{scene.people.port}"
    operator, before = replace(scene.people, login=OPERATOR), len(scene.audit())
    answer = operator.ask("POST", f"{BASE}/kill", BODIES["kill"], {"Origin": own})
    assert (answer.status, answer.value) == (200, {"sessions": 1})
    assert scene.console.recv_close()[1] == "a test"
    begun, done = until(lambda: scene.audit()[before + 1 :] and scene.audit()[before:], "both lines")
    assert (begun["outcome"], done["outcome"], done["action"]) == ("begun", "done", "kill")
    assert done["actor"] == "people/olga" and done["source"].startswith("127.0.0.1:")


def test_without_an_authenticator_all_clients_see_and_none_acts(upstream: EchoUpstream) -> None:
    admin = f"[admin]\nlisten = {FREE}\n"
    with Proxy(admin + config.ini(config.listener(), config.upstream(upstream.port))) as proxy:
        visitor = AdminClient(port_of(proxy))
        assert visitor.get("/status")["role"] == "viewer"
        for operation in ACTIONS:
            assert visitor.ask("POST", BASE + operation.path, BODIES[operation.name]).status == 403
        proxy.assert_clean()
