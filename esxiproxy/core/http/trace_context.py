"""The trace of a request, from its field ``traceparent`` (W3C Trace Context, level 1)."""

from __future__ import annotations

import re

from esxiproxy.core.http.head import RequestHead

_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"
)


def trace_id(head: RequestHead) -> str:
    """Return the id of the trace that the client has begun, in 32 hexadecimal digits.

    It is empty without a valid ``traceparent``.  The field itself is forwarded as it is, like any other,
    since the proxy adds no span of its own to the trace.
    """
    values = head.values(b"traceparent")
    if len(values) != 1:
        return ""
    found = _TRACEPARENT.fullmatch(values[0])
    if found is None or (found[1] == b"00" and found[3] is not None):  # only later versions have more parts
        return ""
    return found[2].decode("ascii")
