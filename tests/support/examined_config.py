"""A configuration under examination, the way `esxiproxy doctor --config` does it."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esxiproxy.cli.main import main

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Examined:
    """The output of the command, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[Row]:
        rows: list[Row] = json.loads(self.out)
        return rows

    def of(self, check: str) -> list[Row]:
        """Return the results of one kind of check."""
        return [row for row in self.rows if row["check"] == check]

    @property
    def host(self) -> Row:
        """The result of the only host."""
        (row,) = self.of("host")
        return row


def examine_config(path: Path, *options: str, json_out: bool = True) -> Examined:
    """Run `esxiproxy doctor --config PATH` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        given = ["doctor", "--config", str(path), *(["--json"] if json_out else []), *options]
        try:
            status = main(given)
        except SystemExit as error:
            status = int(error.code or 0)
    return Examined(status, out.getvalue(), err.getvalue())
