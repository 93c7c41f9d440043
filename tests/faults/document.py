"""`docs/faults.md`, made of the tables: `python -m tests.faults.document` writes it."""

from __future__ import annotations

from pathlib import Path

from tests.faults.fault import Fault, Stage
from tests.faults.mishaps import MISHAPS
from tests.faults.table import FAULTS

PATH = Path(__file__).parents[2] / "docs" / "faults.md"
INTRODUCTION = """\
# What can fail, and what happens then

Each row is run by the tests (`tests/faults/`) against the real process, and this page is made of the same
table. After every one of them nothing is left open: no connection on either side, no descriptor, timer or
object of the session.

*The client gets* an HTTP status before the 101, and a close code after it; a dash where nobody is there to
read it. *The upstream gets* the close code that it is told. *The record* has the failure's name (`error` in
the [access log](access-log.md)), the key of the configuration whose time was up (`timeout`), and who showed
the end first (`ended_by`); a dash for all three is a connection that never asked for anything, and has no
record. A leg that is left in the middle of a frame can carry no Close: it is cut off.
"""
MORE = """
## The process and what it stands on

| what happens | what is seen |
|---|---|
"""


def document() -> str:
    """The page."""
    parts = [INTRODUCTION]
    for stage in Stage:
        parts.append(f"\n## {stage.value}\n\n")
        parts.append("| what happens | the client gets | the upstream gets | the record | time up | ")
        parts.append("ended by |\n")
        parts.append("|---|---|---|---|---|---|\n")
        parts += [_row(fault) for fault in FAULTS if fault.stage is stage]
    parts.append(MORE)
    parts += [f"| {mishap.how} | {mishap.seen} |\n" for mishap in MISHAPS]
    return "".join(parts)


def _row(fault: Fault) -> str:
    told = [str(part) for part in (fault.status, fault.close) if part is not None]
    cells = [
        fault.how,
        ", ".join(told) or "–",
        "–" if fault.beside else str(fault.upstream_close or "–"),
        (fault.error or "no error") if fault.recorded else "–",
        f"`{fault.timeout}`" if fault.timeout else "–",
        (fault.ended_by or "–") if fault.recorded else "–",
    ]
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    PATH.write_text(document())
