"""The requests whose answers are filtered, by their paths."""

from __future__ import annotations

import pytest

from esxiproxy.core.errors import (
    RouteNotFound,
)
from esxiproxy.ticket_rewriting.filters import AnswerKind
from tests.ticket_rewriting.tickets_scene import (
    request,
)


def chosen(filters, asked, target=None):
    found = filters.choose(asked, asked.head.target if target is None else target, None)
    return None if found is None else found._kind


VI_JSON = "/sdk/vim25/8.0.2.0/VirtualMachine/vm-1/AcquireTicket"
REST = "/api/vcenter/vm/vm-1/console/tickets"


def test_which_requests_have_a_filter(filters):
    for action in ('"urn:vim25/8.0.2.0"', "urn:vim25", '""', "URN:vim25/8.0", "urn:vim25/8.0/", "urn:pbm x"):
        asked = request("POST", "/sdk", f"SOAPAction: {action}")
        assert chosen(filters, asked) is AnswerKind.SOAP, action
    two = request("POST", "/sdk", "SOAPAction: urn:pbm", "SOAPAction: urn:vim25")
    assert chosen(filters, two) is AnswerKind.SOAP
    for target in ("/sdk", "/sdk/", "/%73dk", "/sdk;x", "/sdk/vimService?x", "/SDK", "/sdk?a=//b"):
        assert chosen(filters, request("POST", target)) is AnswerKind.SOAP, target
    for target in (VI_JSON, VI_JSON + "/?x", VI_JSON.replace("Ticket", "%54icket"), VI_JSON + ";a=b"):
        assert chosen(filters, request("POST", target)) is AnswerKind.VI_JSON, target
    for target in (REST, REST.replace("/api", "/rest"), REST.replace("console", "c%6fnsole")):
        assert chosen(filters, request("POST", target)) is AnswerKind.REST, target
    for other in (
        request("GET", "/sdk"),
        request("POST", "/sdk", "SOAPAction: urn:pbm"),
        request("POST", "/sdk", 'SOAPAction: "urn:sms/2.0"'),
        request("POST", "/sdk/other"),
        request("POST", "/folder/x.iso"),
        request("POST", "/sdk/vim25/8.0.2.0/VirtualMachine/vm-1/PowerOnVM_Task"),
        request("GET", REST),
    ):
        assert chosen(filters, other) is None


def test_the_target_that_the_upstream_gets_decides(filters):
    asked = request("POST", "/esx-01/sdk")
    assert chosen(filters, asked) is None and chosen(filters, asked, b"/sdk") is AnswerKind.SOAP


@pytest.mark.parametrize(
    "target",
    [
        "//sdk",
        "/a/../sdk",
        "/./sdk",
        "/sdk/.",
        "/a/..;x/sdk",
        "/a%2f../sdk",
        "/%2573dk",
        "/sdk%3bx",
        "\\sdk",
        "/sdk/%2e/vimService",
        VI_JSON.replace("/vim25", "//vim25"),
        REST.replace("vm-1/", "vm-1/%2e/"),
    ],
)
def test_an_ambiguous_path_that_may_have_a_ticket_is_refused(filters, target):
    with pytest.raises(RouteNotFound, match="ambiguous"):
        chosen(filters, request("POST", "/" + target if target[0] != "/" else target))
    assert chosen(filters, request("POST", "/x" + target.replace("..", "."))) is None
