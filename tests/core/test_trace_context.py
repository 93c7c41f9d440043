"""The trace of a request: W3C Trace Context, level 1."""

import pytest

from esxiproxy.core.http.head import RequestHead
from esxiproxy.core.http.trace_context import trace_id

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def found(*values):
    fields = tuple((b"TraceParent", value.encode("latin-1")) for value in values)
    return trace_id(RequestHead(b"", b"GET", b"/", (1, 1), fields))


@pytest.mark.parametrize(
    "value",
    [
        f"00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-00",
        f"00-{TRACE}-{PARENT}-ff",
        f"01-{TRACE}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01-what-a-later-version-adds",
        f"cc-{TRACE}-{PARENT}-01-",
    ],
)
def test_the_id_of_a_valid_field(value):
    assert found(value) == TRACE


@pytest.mark.parametrize(
    "value",
    [
        "",
        TRACE,
        f"{TRACE}-{PARENT}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"0-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-01-",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01.more",
        f"01-{TRACE}-{PARENT}-01more",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00-{TRACE}0-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{PARENT[:-1]}g-01",
        f"00_{TRACE}_{PARENT}_01",
        f"00-{TRACE}-{PARENT}-0\xe9",
        f"00-{TRACE}-{PARENT}-01, 00-{TRACE}-{PARENT}-01",
    ],
)
def test_a_field_that_is_not_valid_is_ignored(value):
    assert found(value) == ""


def test_two_fields_are_ignored():
    value = f"00-{TRACE}-{PARENT}-01"
    assert found(value, value) == "" and found() == ""
