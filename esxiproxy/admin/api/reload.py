"""The actions ``check`` and ``reload`` on the configuration file."""

from __future__ import annotations

from typing import Any

from esxiproxy.admin.call import Call
from esxiproxy.admin.control import Control
from esxiproxy.core.config.errors import Problem
from esxiproxy.core.redaction import redact_text


def shown_problem(problem: Problem) -> dict[str, Any]:
    """Return a problem of a configuration as the API shows it."""
    return {
        "file": problem.file,
        "line": problem.line,
        "section": problem.section or "",
        "key": problem.key or "",
        "text": redact_text(problem.text),
        "severity": problem.severity.value,
    }


class ReloadActions:
    """The actions on the configuration file of this machine."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def check(self, call: Call) -> Any:
        """Check the configuration file."""
        problems = await self._control.check()
        return {
            "valid": not any(problem.is_error for problem in problems),
            "problems": [shown_problem(problem) for problem in problems],
        }

    async def reload(self, call: Call) -> Any:
        """Put the configuration file into force."""
        outcome = await self._control.reload()
        return {"reloaded": outcome.reloaded, "problems": [redact_text(line) for line in outcome.problems]}
