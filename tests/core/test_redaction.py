"""No ticket is ever shown."""

import pytest

from esxiproxy.core.redaction import redact, redact_text

SECRET = "cst-VCT-5289f8b1-SECRET"


@pytest.mark.parametrize(
    "target",
    [
        "/ticket/SECRET",
        "/ticket/SECRET?x=1",
        "/TICKET/SECRET",
        "/a/ticket/SECRET/",
        "//ticket//SECRET//",
        "/ticket/./SECRET/../b",
        "/ticket/.././/SECRET",
        "/tick%65t/SECRET",
        "/%74icket/SECRET",
        "/ticket%2fSECRET",
        "/ticket%252fSECRET",
        "/x?mksTicket=SECRET&a=1",
        "/x?a=1&sessionTicket=SECRET",
        "/x?a=1;sessionTicket=SECRET",
        "/x?mks%54icket=SECRET",
        f"/ui?t={SECRET}",
        "/ui?t=cst%2DVCT-SECRET",
        "/x?access_token=SECRET",
        "/x?token=SECRET&b=2",
    ],
)
def test_the_secret_is_hidden_in_a_target(target):
    assert "SECRET" not in redact(target.encode())


@pytest.mark.parametrize("target", ["/", "/ui/index.html?a=1", "/folder/a%20b.vmx", "/ticketing?x=1"])
def test_what_is_no_secret_is_shown(target):
    assert redact(target.encode()) == target


def test_the_rest_of_a_target_stays_readable():
    assert redact(b"/ticket/SECRET?vm=7") == "/ticket/***?vm=7"


def test_a_traceback_loses_its_tickets():
    text = "raise X('GET /ticket/SECRET HTTP/1.1') at wss://h/ticket/SECRET2, sessionTicket=SECRET3"
    assert "SECRET" not in redact_text(text)
