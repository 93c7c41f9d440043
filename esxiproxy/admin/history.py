"""The last hour in points: open consoles, traffic and round trip, at a constant cost."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from esxiproxy.core.session.reports import REPORT_INTERVAL, ProcessTotals

MAX_POINTS = 720
_WINDOW = 20.0
"""Seconds over which rates are computed.  Without a reader, a process counts the bytes of a console only at
each check for a stall, which is every 15 s by default."""


@dataclass(frozen=True, slots=True)
class Overview:
    """The totals of all processes together.  ``round_trip`` is None without one."""

    sessions: int = 0
    opened: int = 0
    failed: int = 0
    rate_up: float = 0.0
    rate_down: float = 0.0
    round_trip: float | None = None


class Throughput:
    """The totals of each process in the last seconds, from which rates are computed."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[ProcessTotals]] = {}

    def add(self, reports: Mapping[str, ProcessTotals]) -> Overview:
        """Add the newest totals of each process, and return those of all of them."""
        self._seen = {process: self._added(process, totals) for process, totals in reports.items()}
        rates = [_rates(seen) for seen in self._seen.values()]
        return Overview(
            sessions=round(sum(totals.sessions for totals in reports.values())),
            opened=round(sum(totals.opened for totals in reports.values())),
            failed=round(sum(totals.failed for totals in reports.values())),
            rate_up=round(sum(up for up, _down in rates), 1),
            rate_down=round(sum(down for _up, down in rates), 1),
            round_trip=_round_trip(reports),
        )

    def _added(self, process: str, totals: ProcessTotals) -> deque[ProcessTotals]:
        seen = self._seen.get(process) or deque()
        if not seen or totals.at > seen[-1].at:
            seen.append(totals)
        while seen[0].at < totals.at - _WINDOW:
            seen.popleft()
        return seen


def _rates(seen: deque[ProcessTotals]) -> tuple[float, float]:
    first, last = seen[0], seen[-1]
    seconds = last.at - first.at
    if seconds <= 0:
        return 0.0, 0.0
    up = max(0.0, last.octets_up - first.octets_up)
    down = max(0.0, last.octets_down - first.octets_down)
    return up / seconds, down / seconds


def _round_trip(reports: Mapping[str, ProcessTotals]) -> float | None:
    """Return the median of the processes' medians, each weighted with its consoles."""
    known = sorted(
        (totals.round_trip, max(1.0, totals.sessions))
        for totals in reports.values()
        if totals.round_trip is not None
    )
    half = sum(weight for _seconds, weight in known) / 2
    for seconds, weight in known:
        half -= weight
        if half <= 0:
            return seconds
    return None


class History:
    """The points of the last hour, the oldest first."""

    interval = REPORT_INTERVAL

    def __init__(self) -> None:
        self._points: deque[list[float | None]] = deque(maxlen=MAX_POINTS)

    def add(self, now: float, overview: Overview) -> None:
        """Add a point for this time of day."""
        self._points.append(
            [
                round(now, 1),
                overview.sessions,
                overview.rate_up,
                overview.rate_down,
                overview.round_trip,
            ]
        )

    @property
    def points(self) -> list[list[float | None]]:
        """The points as the API returns them."""
        return list(self._points)
