"""Formats a record, of a console or an HTTP request, as a line of the access log."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _quoted
from operator import itemgetter

from esxiproxy.core.redaction import redact, redact_text
from esxiproxy.core.session.record import Record

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_UNQUOTABLE = re.compile(r"[^ !#-\[\]-~]")
_UNSAFE = re.compile(r"[^!#-\[\]-~]")


def as_json(record: Record, started: float) -> str:
    """Return the record as one JSON object, in which every key is present and a missing value is null.

    ``started`` is the time of day at which the session began, in seconds since 1970.  The object is written
    without ``json.dumps``, which takes three times as long.
    """
    phases, code, trip = record.phases, record.close_code, record.round_trip
    second, milliseconds = divmod(int(started * 1e6 + 0.5) // 1000, 1000)
    took, before = [], 0.0
    for name, at in sorted(phases.items(), key=itemgetter(1)):
        took.append(f'"{name}":{at - before:.6f}')
        before = at
    return (
        f'{{"time":"{_date_and_time(second)}.{milliseconds:03}Z","kind":"{record.kind.value}",'
        f'"session":{_quoted(record.session)},"trace_id":{_text(record.trace_id)},'
        f'"listener":{_quoted(record.listener)},"client":{_quoted(record.client.host)},'
        f'"client_port":{record.client.port or "null"},"principal":{_text(_shown_name(record.principal))},'
        f'"method":{_text(record.method)},"target":{_text(_target(record))},'
        f"{_destination(record.upstream, record.host, record.console, record.console_name)},"
        f'"status":{record.status or "null"},"close_code":{"null" if code is None else code},'
        f"{_end(record.ended_by, record.error, record.detail, record.timeout)},"
        f'"octets_up":{record.octets_up},'
        f'"octets_down":{record.octets_down},"round_trip":{"null" if trip is None else f"{trip:.6f}"},'
        f'"seconds":{phases.get("closed", 0.0):.6f},"phases":{{{",".join(took)}}}}}'
    )


_shown_name = lru_cache(maxsize=1024)(redact_text)
"""Returns the name of a principal without secrets."""


@lru_cache(maxsize=2)
def _date_and_time(second: int) -> str:
    """Return a second since 1970 as RFC 3339 has it, in UTC and without a zone."""
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]


@lru_cache(maxsize=1024)
def _destination(upstream: str, host: str, console: str, console_name: str) -> str:
    """Return the keys of what a client has reached, which are the same for many lines."""
    names = f'"console":{_text(redact_text(console))},"console_name":{_text(redact_text(console_name))}'
    return f'"upstream":{_text(upstream)},"host":{_text(redact_text(host))},{names}'


@lru_cache(maxsize=128)  # few: a client may cause long details
def _end(ended_by: str, error: str, detail: str, timeout: str) -> str:
    """Return the keys of how a session has ended."""
    return (
        f'"ended_by":{_text(ended_by)},"error":{_text(error)},'
        f'"detail":{_text(redact_text(detail))},"timeout":{_text(timeout)}'
    )


def _text(text: str) -> str:
    """Return a text as a JSON string, and an empty one as null."""
    return _quoted(text) if text else "null"


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


def _target(record: Record) -> str:
    """Return the target without tickets; they are redacted in the record already, and here once more."""
    return redact(record.target.encode("utf-8", "surrogateescape"))


def _escaped(found: re.Match[str]) -> str:
    """Return the character as nginx escapes it, ``\\xHH`` for each byte."""
    return "".join(f"\\x{octet:02X}" for octet in found[0].encode("utf-8", "surrogatepass"))
