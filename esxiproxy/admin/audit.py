"""The audit log: one line before an action, and one with its outcome."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from esxiproxy.admin.call import Actor

WRITE_TIMEOUT = 2.0
"""Seconds within which a line has to be written."""
MAX_REFUSALS = 10
"""Refused actions that are written in one second."""
InThread = Callable[..., Awaitable[Any]]


class AuditFailed(Exception):
    """A line cannot be written; the text says why."""


class AuditLog:
    """The audit log of one process.  Without ``path``, lines are written to twistd's own log only.

    ``in_thread`` calls a function in a thread, since a disk may hang.
    """

    _log = Logger()

    def __init__(
        self,
        path: Path | None,
        in_thread: InThread,
        clock: Any,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._in_thread = in_thread
        self._clock = clock
        self._time_of_day = time_of_day
        self._has_partial_line = False
        self._refusals = 0
        self._refusals_since = float("-inf")

    async def begin(self, action: str, actor: Actor, arguments: Mapping[str, Any]) -> str:
        """Write that an action begins, and return its id.  Raises AuditFailed: then it must not begin."""
        identity = secrets.token_hex(8)
        await self._write(identity, action, actor, arguments, "begun", "")
        return identity

    async def end(
        self,
        identity: str,
        action: str,
        actor: Actor,
        arguments: Mapping[str, Any],
        outcome: str,
        detail: str = "",
    ) -> None:
        """Write the outcome of an action: ``done``, ``failed`` or ``refused``.  Never fails.

        Any client may cause refusals before the beginning, so that only some of them are written.
        """
        if not identity and self._is_flood():
            return
        try:
            await self._write(identity or secrets.token_hex(8), action, actor, arguments, outcome, detail)
        except AuditFailed as error:
            self._log.error(
                "the outcome of the action {action} of {actor} is missing in the audit log: {error}",
                action=action,
                actor=actor.name,
                error=error,
            )

    def _is_flood(self) -> bool:
        """Return whether too many actions were refused in the last second; log that once."""
        now = self._clock.seconds()
        if now - self._refusals_since >= 1.0:
            self._refusals, self._refusals_since = 0, now
        self._refusals += 1
        if self._refusals == MAX_REFUSALS + 1:
            self._log.warn(
                "more than {most} actions a second are refused: others are not written to the audit log",
                most=MAX_REFUSALS,
            )
        return self._refusals > MAX_REFUSALS

    async def _write(
        self,
        identity: str,
        action: str,
        actor: Actor,
        arguments: Mapping[str, Any],
        outcome: str,
        detail: str,
    ) -> None:
        """Write one line to the file, and to the log unless the action just begins.  Raises AuditFailed."""
        reason = str(arguments.get("reason", ""))
        line = {
            "time": self._time_of_day(),
            "action_id": identity,
            "action": action,
            "actor": actor.name,
            "source": actor.source,
            "arguments": {name: value for name, value in arguments.items() if name != "reason"},
            "reason": reason,
            "outcome": outcome,
            **({"detail": detail} if detail else {}),
        }
        if outcome != "begun":
            self._log.info(
                "action {action} of {actor} from {source}: {outcome}{detail}, {arguments}, reason: {reason}",
                action=action,
                actor=actor.name,
                source=actor.source,
                outcome=outcome,
                detail=f" ({detail})" if detail else "",
                arguments=json.dumps(line["arguments"]),
                reason=json.dumps(reason),
            )
        if self._path is None:
            return
        octets = json.dumps(line).encode() + b"\n"
        try:
            writing = Deferred.fromCoroutine(self._written(octets))
            await writing.addTimeout(WRITE_TIMEOUT, self._clock)
        except OSError as error:
            raise AuditFailed(f"{self._path}: {error.strerror or error}") from error
        except Exception as error:
            text = str(error) or type(error).__name__
            raise AuditFailed(f"{self._path}: not written within {WRITE_TIMEOUT:g} s ({text})") from error

    async def _written(self, octets: bytes) -> None:
        await self._in_thread(self._append, octets)

    def _append(self, octets: bytes) -> None:
        """Append one line.  Raises OSError when it is not written as a whole.

        The file is opened for each line, since it may have been renamed.
        """
        assert self._path is not None
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if self._has_partial_line:
                octets = b"\n" + octets
            written = os.write(file, octets)
            self._has_partial_line = 0 < written < len(octets)
        finally:
            os.close(file)
        if written < len(octets):
            raise OSError("only a part of the line was written")
