"""The context of a plugin whose parts a test can see: watched files, ended sessions, log lines, answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent

from tests.support.outcome import result as result


class FakeHttp:
    """An HTTP client that keeps the requests, and gives the next answer or raises the next error."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.answers: list[Any] = []

    async def request(self, method: str, url: str, **more: Any) -> Any:
        self.requests.append(SimpleNamespace(method=method, url=url, **more))
        answer = self.answers.pop(0)
        if isinstance(answer, Deferred):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeContext(SimpleNamespace):
    """A Context; `calls` are those of its thread that wait while `is_paused`."""

    def __init__(self, **upstreams: Any) -> None:
        super().__init__(
            section="router r",
            clock=Clock(),
            upstreams=upstreams,
            http=FakeHttp(),
            previous=None,
            sites=None,
            lines=[],
            watched=[],
            ended=[],
            calls=[],
            is_paused=False,
        )
        self.log = Logger(namespace="test", observer=lambda event: self.lines.append(formatEvent(event)))

    def watch(self, path: Path, changed: Callable[[], None]) -> None:
        self.watched.append((path, changed))

    def change(self) -> None:
        """Notify the plugin of a change of its first file."""
        self.watched[0][1]()

    def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        self.calls.append(function)
        result = maybeDeferred(function, *arguments)
        if self.is_paused:
            waiting: Deferred[Any] = Deferred()
            self.waiting = [*getattr(self, "waiting", []), (waiting, result)]
            return waiting
        return result

    def resume(self) -> None:
        """Give the results of the calls that wait, in their order."""
        self.is_paused = False
        waiting, self.waiting = self.waiting, []
        for caller, outcome in waiting:
            outcome.chainDeferred(caller)

    async def end_sessions(self, selector: Any, reason: str) -> None:
        self.ended.append((selector.kind.value, selector.value, reason))
