"""A console's address under examination, the way the command does it."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from esxiproxy.cli import doctor

SECRET = "cst-VCT-52f1b1e4-fe0c-topsecret--tp-11-22"
TARGET = f"/ticket/{SECRET}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The output and the exit status of the command."""

    status: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.out)
        return report

    @property
    def sentence(self) -> str:
        """The sentence of the step that failed."""
        return next(step["sentence"] for step in self.report["steps"] if not step["ok"])

    def step(self, name: str) -> dict[str, Any]:
        return next(step for step in self.report["steps"] if step["name"] == name)


def examine(url: str, *options: str, timeout: float = 5.0, json_out: bool = True) -> Outcome:
    """Run `esxiproxy doctor -` with the URL on standard input; no secret may come out."""
    parser = argparse.ArgumentParser(prog="esxiproxy doctor")
    doctor.add_arguments(parser)
    given = [*options, "--timeout", str(timeout), *(["--json"] if json_out else []), "-"]
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "stdin", io.StringIO(url + "\n")),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = doctor.run(parser.parse_args(given))
    assert SECRET not in out.getvalue() + err.getvalue()
    assert "topsecret" not in out.getvalue() + err.getvalue()
    return Outcome(status, out.getvalue(), err.getvalue())
