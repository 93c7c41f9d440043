"""What may be shown of a request target: everything but the tickets in it.

An ESXi ticket stands in the path and opens a console to whoever has it.  vCenter and vCloud put theirs into
the query.  Nothing that leaves this process for a person's eyes may contain one.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

_HIDDEN = b"***"
_SECRETS = re.compile(
    rb"(?i)(/ticket/+(?:\.{1,2}/+)*)[^/?\s\"']+"
    rb"|((?:mks|session)?ticket=)[^&;\s\"']+"
    rb"|(\bcst-)[A-Za-z0-9-]+"
    rb"|((?:access_|auth_?)?token=|password=)[^&;\s\"']+"
)
_SUSPECT = re.compile(rb"(?i)ticket[/=]|cst-")


def redact(target: bytes) -> str:
    """The target as it may be logged, ASCII only; tickets are ``***`` in it.

    A ticket behind percent-encoding (``/tick%65t/...``) is hidden with everything after the first ``%``:
    showing too little is the right mistake.
    """
    shown = _hide(target)
    plain = unquote_to_bytes(unquote_to_bytes(target))
    if plain != target and _SUSPECT.search(plain):
        shown = _hide(target.partition(b"%")[0]) + _HIDDEN
    return shown.decode("ascii", "backslashreplace")


def redact_text(text: str) -> str:
    """A text for the log with the tickets in it hidden."""
    return _hide(text.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")


def _hide(octets: bytes) -> bytes:
    return _SECRETS.sub(lambda match: match.group(match.lastindex or 0) + _HIDDEN, octets)
