"""`docs/troubleshooting.md`, made of the tables: `python -m tools.document_faults` writes it."""

from __future__ import annotations

from pathlib import Path

from esxiproxy.core import errors
from esxiproxy.core.errors import SessionError
from esxiproxy.doctor.finding import Step
from tests.faults.fault import Fault, Stage
from tests.faults.mishaps import MISHAPS
from tests.faults.table import FAULTS

PATH = Path(__file__).parents[1] / "docs" / "troubleshooting.md"
INTRODUCTION = """\
# Troubleshooting

A browser reports close code 1006 for every failed console. The proxy reports the reason in four places: the
`Proxy-Status` field of its answer (RFC 9209), the log line of the session, the
[access log](access-log.md) and the close reason. Each reason has the name of an error, such as
`UpstreamUntrusted`. [Errors](#errors) lists the names with what to do. A client that sends
`Accept: application/json` gets the refusal as a JSON object with `error`, `status`, `message` and `session`.

## The doctor

`esxiproxy doctor wss://HOST/PATH` takes each step of the way to a console and says which one fails, and what
to change. Use `-` for the URL to read it from standard input. A ticket then does not appear in the process
list. `esxiproxy doctor --config FILE` checks all hosts of a configuration ([doctor.md](doctor.md)).

| exit status | failed step | meaning | what to do |
|---|---|---|---|
| 0 | | all steps succeeded | |
| 2 | | wrong usage | read `esxiproxy doctor --help` |
"""
DOCTOR = {
    Step.DNS: ("the name of the host has no address", "correct the name or its DNS entry"),
    Step.TCP: (
        "no address of the host accepts the connection",
        "check the port, the firewall, and that the host runs",
    ),
    Step.TLS: (
        "the host does not speak TLS, or its certificate is not the expected one",
        "use the pin that the doctor shows, if it is that of the host's own console",
    ),
    Step.HANDSHAKE: (
        "the answer is not a valid 101",
        "request a new ticket: it works once, for 30 minutes at most, and on one host only",
    ),
    Step.SUBPROTOCOL: (
        "the host chose no subprotocol, or one that was not offered",
        "name the subprotocol of the host with `--subprotocol`",
    ),
    Step.FIRST_FRAME: (
        "the console sends no frame, or closes the connection",
        "check that the machine is switched on, and look into the log of the host",
    ),
}
"""The steps of the doctor that fail the command: what a failure means, and what to do."""
ERRORS = """
## Errors

The name of a failure stands in the record, in the metrics and in `Proxy-Status`. Plugins may add names of
their own. The record is a line of the [access log](access-log.md), with the reason in `detail` and the key of
a timeout in `timeout`.

| error | meaning | what to do |
|---|---|---|
"""
FAILURES = """
## How to read the tables

The tables below show each way in which a session can fail, stage by stage, and what both sides get.

The tests run each row against the real process (`tests/faults/`), and this page is generated from the same
table. No connection, file descriptor, timer or object of the session is left after any of them.

| column | content |
|---|---|
| the client gets | the HTTP status before the 101, and the close code after it |
| the upstream gets | the close code that is sent to the upstream |
| the record | the name of the failure, `error` in the access log |
| time up | the configuration key whose time expired, `timeout` in the access log |
| ended by | the side that ended the session first, `ended_by` in the access log |

A dash stands for nothing: there was no peer to read an answer, or no Close to send. Three dashes for the
record stand for a connection without a request, which has no record. A leg that ends in the middle of a data
frame cannot carry a Close. Its connection is aborted.
"""
MORE = """
## The process and its environment

| what happens | what is seen |
|---|---|
"""


def document() -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    parts += [
        f"| {step.exit_status} | {step.value} | {' | '.join(cells)} |\n" for step, cells in DOCTOR.items()
    ]
    parts.append(ERRORS)
    parts += [f"| `{error.__name__}` | {_meaning(error)} | {error.advice} |\n" for error in named_errors()]
    parts.append(FAILURES)
    for stage in Stage:
        parts.append(f"\n## {stage.value}\n\n")
        parts.append("| what happens | the client gets | the upstream gets | the record | time up | ")
        parts.append("ended by |\n")
        parts.append("|---|---|---|---|---|---|\n")
        parts += [_row(fault) for fault in FAULTS if fault.stage is stage]
    parts.append(MORE)
    parts += [f"| {mishap.how} | {mishap.seen} |\n" for mishap in MISHAPS]
    return "".join(parts)


def named_errors() -> list[type[SessionError]]:
    """Return the errors of the table that a session can end with, by name.  Base classes have no advice."""
    found = [each for each in vars(errors).values() if isinstance(each, type) and "advice" in vars(each)]
    return sorted((each for each in found if each.advice), key=lambda each: each.__name__)


def _meaning(error: type[SessionError]) -> str:
    """Return the first line of an error's docstring in Markdown."""
    return (error.__doc__ or "").partition("\n")[0].replace("``", "`")


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
