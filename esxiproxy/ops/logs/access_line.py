"""One session or one HTTP request as a line of the access log."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from esxiproxy.core.redaction import redact, redact_text
from esxiproxy.core.session.record import Record

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_UNQUOTABLE = re.compile(r"[^ !#-\[\]-~]")
_UNSAFE = re.compile(r"[^!#-\[\]-~]")


def as_json(record: Record, started: float) -> str:
    """The record as one JSON object; every key is always there, and what there is none of is null.

    ``started`` is the time of day, in seconds since 1970.
    """
    return json.dumps(
        {
            "time": datetime.fromtimestamp(started, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "kind": record.kind.value,
            "session": record.session,
            "listener": record.listener,
            "client": record.client.host,
            "client_port": record.client.port or None,
            "principal": redact_text(record.principal) or None,
            "method": record.method or None,
            "target": _target(record) or None,
            "upstream": record.upstream or None,
            "status": record.status or None,
            "close_code": record.close_code,
            "ended_by": record.ended_by or None,
            "error": record.error or None,
            "detail": redact_text(record.detail) or None,
            "timeout": record.timeout or None,
            "octets_up": record.octets_up,
            "octets_down": record.octets_down,
            "round_trip": None if record.round_trip is None else round(record.round_trip, 6),
            "seconds": round(record.phases.get("closed", 0.0), 6),
            "phases": durations(record.phases),
        },
        separators=(",", ":"),
    )


def as_combined(record: Record, started: float) -> str:
    """The record as Apache and nginx write it, in UTC.

    A record has neither the HTTP version nor Referer and User-Agent: the one is always 1.1 here, the others
    are ``-``.
    """
    when = datetime.fromtimestamp(started, UTC)
    stamp = f"{when.day:02}/{MONTHS[when.month - 1]}/{when:%Y:%H:%M:%S} +0000"
    principal = _UNSAFE.sub(_escaped, redact_text(record.principal)) or "-"
    request = f"{record.method} {_target(record)} HTTP/1.1" if record.method else "-"
    return (
        f'{record.client.host} - {principal} [{stamp}] "{_UNQUOTABLE.sub(_escaped, request)}" '
        f'{record.status:03} {record.octets_down} "-" "-"'
    )


def durations(phases: Mapping[str, float]) -> dict[str, float]:
    """Seconds that each phase took: from the step before it to the one that it is named after."""
    took, before = {}, 0.0
    for name, at in sorted(phases.items(), key=lambda phase: phase[1]):
        took[name] = round(at - before, 6)
        before = at
    return took


def _target(record: Record) -> str:
    """The target; whoever made the record should have hidden its tickets, and here they are hidden again."""
    return redact(record.target.encode("utf-8", "surrogateescape"))


def _escaped(found: re.Match[str]) -> str:
    """As nginx does it: ``\\xHH`` for each byte."""
    return "".join(f"\\x{octet:02X}" for octet in found[0].encode("utf-8", "surrogatepass"))
