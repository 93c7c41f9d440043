"""The body of an upstream's response, as its head frames it."""

from __future__ import annotations

from esxiproxy.core.errors import UpstreamInvalid
from esxiproxy.core.http.answer_head import AnswerHead, Framing
from esxiproxy.core.http.body import Body, FixedBody, OpenBody
from esxiproxy.core.http.chunked_body import ChunkedBody
from esxiproxy.core.http.message import trailer_fields


def response_body(head: AnswerHead, payload_only: bool) -> Body:
    """Return the reader of the body behind this head.

    ``payload_only`` is whether ``take`` returns the payload alone, and not framed for a client of HTTP/1.1.
    """
    if head.framing is Framing.LENGTH:
        return FixedBody(head.length)
    if head.framing is Framing.CHUNKED:
        answer = "the upstream's answer"
        return ChunkedBody(UpstreamInvalid, answer, trailer_fields, payload_only=payload_only)
    if head.framing is Framing.NONE:
        return FixedBody(0)
    return OpenBody(chunked=not payload_only)
