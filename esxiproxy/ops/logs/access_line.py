"""Formats a record, of a console or an HTTP request, as a line of the access log."""

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
    """Return the record as one JSON object, in which every key is present and a missing value is null.

    ``started`` is the time of day at which the session began, in seconds since 1970.
    """
    return json.dumps(
        {
            "time": datetime.fromtimestamp(started, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "kind": record.kind.value,
            "session": record.session,
            "trace_id": record.trace_id or None,
            "listener": record.listener,
            "client": record.client.host,
            "client_port": record.client.port or None,
            "principal": redact_text(record.principal) or None,
            "method": record.method or None,
            "target": _target(record) or None,
            "upstream": record.upstream or None,
            "host": redact_text(record.host) or None,
            "console": redact_text(record.console) or None,
            "console_name": redact_text(record.console_name) or None,
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
    """Return the record in the combined format of Apache and nginx, in UTC.

    A record has no HTTP version, Referer and User-Agent: the line has 1.1, ``-`` and ``-`` for them.
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
    """Return the seconds from the previous phase to each phase, by the phase's name."""
    took, before = {}, 0.0
    for name, at in sorted(phases.items(), key=lambda phase: phase[1]):
        took[name] = round(at - before, 6)
        before = at
    return took


def _target(record: Record) -> str:
    """Return the target without tickets; they are redacted in the record already, and here once more."""
    return redact(record.target.encode("utf-8", "surrogateescape"))


def _escaped(found: re.Match[str]) -> str:
    """Return the character as nginx escapes it, ``\\xHH`` for each byte."""
    return "".join(f"\\x{octet:02X}" for octet in found[0].encode("utf-8", "surrogatepass"))
