"""The probes that need no login: ``/healthz``, ``/readyz`` and ``/metrics``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from esxiproxy.admin.control import Control
from esxiproxy.admin.fresh_values import FreshValues, TooManyWait

Metrics = Callable[[str], Awaitable[tuple[str, bytes]]]
"""Returns the content type and the text of all metrics, for a value of Accept."""
Answer = tuple[int, str, bytes]
"""Status, content type and body."""
_TEXT = "text/plain; charset=utf-8"
_LONGEST_REST = 0.1
"""Maximum number of seconds between two looks at the readiness, while probes wait for one."""


class MetricsFailed(Exception):
    """The metrics could not be collected, which is logged already, once for all scrapes that waited."""


class ProbeAnswers:
    """The answers for an orchestrator, a load balancer and Prometheus.

    ``/healthz`` is 200 while the master and a worker give signs of life, whatever is drained and however the
    hosts and the state are.  ``/readyz`` is 200 while new consoles would be admitted.  It reads the state,
    once for all probes that wait for it, since they need no login.
    """

    _log = Logger()

    def __init__(self, control: Control, metrics: Metrics, clock: IReactorTime) -> None:
        self._control = control
        self._metrics = metrics
        self._unready = FreshValues(self._read_unready, clock, _LONGEST_REST)

    async def answer(self, path: bytes, accept: str) -> Answer | None:
        """Return the answer for a path, or None for another path."""
        try:
            return await self._answer(path, accept)
        except TooManyWait:  # connections are left for /healthz
            return 503, _TEXT, b"too many requests wait for this: ask again later\n"

    async def _answer(self, path: bytes, accept: str) -> Answer | None:
        """Return the answer to a request of a probe, or None for another path."""
        if path == b"/healthz":
            alive = self._control.is_alive()
            return (200, _TEXT, b"alive\n") if alive else (503, _TEXT, b"the workers give no sign of life\n")
        if path == b"/readyz":
            reasons = await self._unready.get("")
            return (
                (503, _TEXT, "".join(f"{each}\n" for each in reasons).encode())
                if reasons
                else (
                    200,
                    _TEXT,
                    b"ready\n",
                )
            )
        if path == b"/metrics":
            try:
                content_type, body = await self._metrics(accept)
            except TooManyWait:
                raise
            except Exception as error:
                if not isinstance(error, MetricsFailed):
                    self._log.failure("the metrics could not be collected: the scrape gets a 500")
                return 500, _TEXT, b"the metrics could not be collected: see the log of the proxy\n"
            return 200, content_type, body
        return None

    async def _read_unready(self, _key: str) -> Sequence[str]:
        return await self._control.unready()
