"""The facts of each step as JSON values.  Scripts may rely on the keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from esxiproxy.doctor.addresses import Resolution
from esxiproxy.doctor.certificate import format_date
from esxiproxy.doctor.console import FirstFrame
from esxiproxy.doctor.dial import DialResult
from esxiproxy.doctor.frames import OPCODES
from esxiproxy.doctor.messages.tls import chain, greeting
from esxiproxy.doctor.opening import UpgradeResponse
from esxiproxy.doctor.sanitize import Sanitizer
from esxiproxy.doctor.tls import TlsReport
from esxiproxy.doctor.trust import OF_NAMES, HostVerification

_MAX_BODY = 160


def dns(resolution: Resolution) -> dict[str, Any]:
    """Return the facts of a lookup."""
    return {"addresses": [str(endpoint) for endpoint in resolution.endpoints]}


def tcp(dialled: DialResult) -> dict[str, Any]:
    """Return the facts of the TCP connections."""
    return {
        "attempts": [str(attempt) for attempt in dialled.attempts],
        "answered": None if dialled.chosen is None else str(dialled.chosen.endpoint),
    }


def tls(report: TlsReport, trust: HostVerification, sent: bool) -> dict[str, Any]:
    """Return the facts of TLS.  The value of ``pin`` can be pasted into the configuration."""
    facts: dict[str, Any] = {}
    if report.version:
        facts |= {"version": report.version, "cipher": report.cipher}
    elif report.greeting:
        facts["greeting"] = greeting(report.greeting)
    if (certificate := report.certificate) is not None:
        facts |= {
            "subject": certificate.subject,
            "issuer": certificate.issuer,
            "valid_from": format_date(certificate.not_before),
            "valid_until": format_date(certificate.not_after),
            "names": list(certificate.names),
            "pin": [str(pin) for pin in certificate.pins],
            "chain_verifies": not set(report.problems) - OF_NAMES,
            "chain": chain(report.problems, trust),
            "name_matches": not set(report.problems) & OF_NAMES,
        }
    return facts | {"verify": trust.verify.value, "request_sent": sent}


def handshake(request: Sequence[str], answer: UpgradeResponse, sanitizer: Sanitizer) -> dict[str, Any]:
    """Return the facts of the opening handshake."""
    facts: dict[str, Any] = {"request": list(request), "status": answer.status or None}
    if answer.status:
        facts["fields"] = sanitizer.fields(answer.fields)
    elif answer.first:
        facts["began_with"] = greeting(answer.first)
    if answer.status == 101:
        facts["accept_right"] = answer.accept_right
    if line := _first_line(answer):
        facts["body"] = line
    return facts


def subprotocol(offered: Sequence[str], chosen: Sequence[str]) -> dict[str, Any]:
    """Return the offered and the chosen subprotocols."""
    return {"offered": list(offered), "chosen": ", ".join(chosen) or None}


def first_frame(seen: FirstFrame, closed: tuple[int, str] | None) -> dict[str, Any]:
    """Return the facts of the first frame, or of the Close that replaced it."""
    if seen.frame is None:
        return {} if closed is None else {"close_code": closed[0], "close_reason": closed[1]}
    opcode = f"{seen.frame.opcode} ({OPCODES[seen.frame.opcode]})"
    return {"opcode": opcode, "length": seen.frame.length, "rfb": seen.rfb}


def closing(closed: tuple[int, str] | None) -> dict[str, Any]:
    """Return the facts of the closing handshake."""
    if closed is None:
        return {"answered": False}
    return {"answered": True, "close_code": closed[0], "close_reason": closed[1]}


def _first_line(answer: UpgradeResponse) -> str:
    """Return the first line of a refusal's body that is not empty."""
    lines = (line.strip() for line in answer.body.decode("utf-8", "replace").splitlines())
    return next((line for line in lines if line), "")[:_MAX_BODY]
