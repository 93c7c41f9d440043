"""Reads the figures of one console from its legs; nothing is done for a frame."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.interfaces import IReactorTime

from esxiproxy.core.session.traffic import ConsoleTotals
from esxiproxy.core.websocket.closing import CLIENT, UPSTREAM, Side
from esxiproxy.net.console.flow_control import LegFlowControl
from esxiproxy.net.console.leg import Leg
from esxiproxy.net.console.stall_detector import StallDetector


class RelayedTraffic:
    """The data of one console.

    ``look`` compares the counts of the legs with those of its last call.  The stall detector calls it
    regularly, so without a reader ``idle`` is as exact as the interval of its checks.
    """

    __slots__ = (
        "_active_at",
        "_client",
        "_clock",
        "_detector",
        "_flow_controls",
        "_seen",
        "_totals",
        "_upstream",
    )

    def __init__(
        self,
        legs: Mapping[Side, Leg],
        flow_controls: Mapping[Side, LegFlowControl],
        clock: IReactorTime,
        totals: ConsoleTotals,
    ) -> None:
        # A look-up by an Enum takes longer than all the rest of a reading.
        self._client, self._upstream = legs[CLIENT], legs[UPSTREAM]
        self._flow_controls = flow_controls
        self._detector: StallDetector | None = None
        self._clock = clock
        self._totals = totals
        self._seen = (0, 0)
        self._active_at = clock.seconds()

    @property
    def octets_up(self) -> int:
        return self._client.octets

    @property
    def octets_down(self) -> int:
        return self._upstream.octets

    @property
    def is_stalled(self) -> bool:
        return (self._detector is not None and self._detector.is_stalled) or any(
            flow_control.is_stalled for flow_control in self._flow_controls.values()
        )

    def watched_by(self, detector: StallDetector | None) -> None:
        """Use what this detector finds; None at the end of the session."""
        self._detector = detector

    def idle(self) -> float:
        self.look()
        return self._clock.seconds() - self._active_at

    def look(self) -> None:
        """Add what was relayed since the last call to the totals, and note whether it was anything."""
        before, self._seen = self._seen, (self.octets_up, self.octets_down)
        if self._seen != before:
            self._active_at = self._clock.seconds()
            self._totals.octets_up += self._seen[0] - before[0]
            self._totals.octets_down += self._seen[1] - before[1]
