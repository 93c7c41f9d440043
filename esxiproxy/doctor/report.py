"""The output of findings as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from esxiproxy.doctor.finding import Finding, Step, exit_status, failed
from esxiproxy.doctor.url import ConsoleUrl

_INDENT = " " * 9


def lines(finding: Finding) -> Iterable[str]:
    """Yield the lines of one step: its sentence, and then its facts as ``key = value``."""
    mark = "ok" if finding.ok else "FAILED"
    yield f"{mark:<6}  {finding.step.value}, {finding.seconds * 1000:.1f} ms: {finding.sentence}"
    for key, value in finding.facts.items():
        for member in value if isinstance(value, list) else [value]:
            yield f"{_INDENT}{key} = {_shown(member)}"


def conclusion(findings: Sequence[Finding]) -> str:
    """Return the last line, which sums up the findings."""
    first = failed(findings)
    if first is None:
        return "All steps succeeded: this console opens."
    skipped = steps_not_taken(findings)
    after = f" Not tried: {', '.join(skipped)}." if skipped else ""
    return f"The console fails at {first.step.value}: {first.sentence}.{after}"


def as_object(url: ConsoleUrl, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as a JSON object."""
    first = failed(findings)
    return {
        "url": str(url),
        "ok": first is None,
        "failed": None if first is None else first.step.value,
        "exit_status": exit_status(findings),
        "sentence": conclusion(findings),
        "steps": [
            {
                "name": finding.step.value,
                "ok": finding.ok,
                "seconds": round(finding.seconds, 6),
                "facts": dict(finding.facts),
                "sentence": finding.sentence,
            }
            for finding in findings
        ],
        "not_tried": steps_not_taken(findings),
    }


def steps_not_taken(findings: Sequence[Finding]) -> list[str]:
    """Return the names of the steps after the last one that was taken."""
    taken = {finding.step for finding in findings}
    last = max((list(Step).index(step) for step in taken), default=-1)
    return [step.value for place, step in enumerate(Step) if place > last]


def _shown(value: Any) -> str:
    match value:
        case None:
            return "none"
        case True | False:
            return "yes" if value else "no"
        case _:
            return str(value)
