"""The OpenAPI document is valid, and the requests that it does not allow are refused."""

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from esxiproxy.admin.openapi.document import document
from esxiproxy.admin.openapi.operations import EVENTS, OPERATIONS
from tests.support.admin_site import ACTION, AdminAddress

DRAIN = {"kind": "host", "name": "esxi1", "reason": "memory"}
LINK = {"router": "links", "to": "esxi1"}


def test_the_document_is_valid():
    assert list(OpenAPIV31SpecValidator(document()).iter_errors()) == []


def test_the_document_has_every_operation():
    found = [each["operationId"] for path in document()["paths"].values() for each in path.values()]
    assert sorted(found) == sorted(operation.name for operation in (*OPERATIONS, EVENTS))


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("drain", {"kind": "host", "reason": "a"}, "the body lacks name"),
        ("drain", {"kind": "upstream", "reason": "a"}, "the body lacks name"),
        ("drain", {"kind": "listener", "reason": "a"}, "the body lacks name"),
        ("drain", {**DRAIN, "kind": "proxy"}, "name is not possible"),
        ("drain", {**DRAIN, "machine": "one"}, "machine is not possible"),
        ("drain", {**DRAIN, "kind": "upstream", "machine": "one"}, "machine is not possible"),
        ("drain", {**DRAIN, "name": "esxi1\n"}, "name has a line break"),
        ("drain", {**DRAIN, "reason": "a\u2028b"}, "reason has a line break"),
        ("undrain", {"kind": "host"}, "the body lacks name"),
        ("undrain", {"kind": "proxy", "name": "esxi1"}, "name is not possible"),
        ("undrain", {"kind": "host", "name": "esxi1", "machine": "one"}, "machine is not possible"),
        ("links", {**LINK, "many": True, "reuse": 5}, "reuse is not possible"),
        (
            "kill",
            {"kind": "host", "value": "a", "reason": "a\nsession 1 is ended"},
            "reason has a line break",
        ),
        ("kill", {"kind": "host", "value": "a", "reason": "\x1b[2J"}, "reason has a line break or a control"),
        ("links/revoke", {"id": "link-1", "reason": "a\rb"}, "reason has a line break"),
        ("links/revoke", {"id": "link 1", "reason": "lost"}, "id has to match"),
        ("links/revoke", {"id": "link-1\n", "reason": "lost"}, "id has to match"),
        ("links/revoke", {"id": "ä", "reason": "lost"}, "id has to match"),
    ],
)
def test_members_that_do_not_go_together_are_named(path, body, text):
    address = AdminAddress("socket")
    answer = address.request("POST", f"/api/v1/{path}", ACTION, body)
    assert (answer.status, address.calls.seen) == (400, [])
    assert text in answer.value["error"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("drain", {"kind": "proxy", "reason": "a"}),
        ("drain", {"kind": "proxy", "reason": "a", "machine": "two"}),
        ("drain", {"kind": "listener", "name": "one", "reason": "a", "machine": "two"}),
        ("drain", {**DRAIN, "end_after": 0, "name": "esxi1.bücher.example"}),
        ("undrain", {"kind": "upstream", "name": "esxi1"}),
        ("links", {**LINK, "many": True}),
        ("links", {**LINK, "many": False, "reuse": 5}),
        ("links/revoke", {"id": "!~", "reason": "lost"}),
    ],
)
def test_members_that_go_together_are_accepted(path, body):
    address = AdminAddress("socket")
    assert address.request("POST", f"/api/v1/{path}", ACTION, body).status == 200
    ((_name, call),) = address.calls.seen
    assert dict(call.body) == body
