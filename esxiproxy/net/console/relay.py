"""Relays frames between the two legs of one session, until both connections are closed."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from esxiproxy.core.errors import (
    ClientLost,
    Flood,
    IdleTimeout,
    LifetimeReached,
    SessionError,
    StallTimeout,
    UpstreamLost,
)
from esxiproxy.core.session.session import Session
from esxiproxy.core.session.traffic import ConsoleTotals
from esxiproxy.core.websocket.closing import (
    CLIENT,
    UPSTREAM,
    Action,
    Close,
    Closing,
    ClosingPhase,
    LegAction,
    Side,
)
from esxiproxy.core.websocket.control_budget import ControlBudget
from esxiproxy.net.console.flow_control import LegFlowControl
from esxiproxy.net.console.leg import CLOSE, Leg
from esxiproxy.net.console.pinger import Pinger
from esxiproxy.net.console.relayed_traffic import RelayedTraffic
from esxiproxy.net.console.stall_detector import StallDetector, check_interval
from esxiproxy.net.sockets.linger import half_close
from esxiproxy.net.sockets.progress import SOON
from esxiproxy.net.sockets.tcp_keepalive import keep_alive
from esxiproxy.net.sockets.timers import Timers

_OPEN, _CARRYING, _CLOSED = ClosingPhase.OPEN, ClosingPhase.CARRYING, ClosingPhase.CLOSED
_SEND_CLOSE, _DROP, _LINGER = LegAction.SEND_CLOSE, LegAction.DROP, LegAction.LINGER

_IDLE_CHECKS = 10
"""Checks within ``idle_timeout``; an idle session is detected by one such part late."""


class Relay:
    """The relay between two open legs.

    It implements ``LegEvents``: it joins the legs, closes them together, and calls ``ended`` once when both
    connections are closed.  It adds its figures to ``totals``.
    """

    def __init__(
        self,
        session: Session,
        client: Leg,
        upstream: Leg,
        clock: IReactorTime,
        ended: Callable[[], None],
        totals: ConsoleTotals,
    ) -> None:
        self.session = session
        self.legs = {CLIENT: client, UPSTREAM: upstream}
        self._client, self._upstream = client, upstream
        self._clock = clock
        self._ended = ended
        self._closing = Closing()
        self._budgets: dict[Side, ControlBudget] = {}
        self._pingers: dict[Side, Pinger] = {}
        self._timers = Timers(clock)
        self._flow_controls: dict[Side, LegFlowControl] = {}
        self._totals = totals
        self._traffic = RelayedTraffic(self.legs, self._flow_controls, clock, totals)
        self._deadline = 0.0
        self._is_closing = False

    def start(self) -> None:
        """Join the legs, and start the timers and the pings of the session."""
        client, upstream = self._client, self._upstream
        client.peer_leg = client.sink = upstream
        upstream.peer_leg = upstream.sink = client
        client.relay = upstream.relay = self
        limits = self.session.limits
        self._install_flow_control(client, upstream)
        self._install_flow_control(upstream, client)
        keep_alive(client.transport, limits.tcp_keepalive)
        keep_alive(upstream.transport, limits.tcp_keepalive)
        self.session.traffic = self._traffic
        first = check_interval(limits.stall_timeout, limits.tcp_keepalive)
        if limits.ping_interval is not None:
            first = min(first, limits.ping_interval)
        if limits.upstream_ping_interval is not None:
            first = min(first, limits.upstream_ping_interval)
        self._timers.arm("checks", first, self._start_checks, self._clock.seconds())
        if limits.max_lifetime is not None:
            lasted = f"the session lasted for {limits.max_lifetime:g} s"
            error = LifetimeReached(lasted, timeout="max_lifetime")
            self._timers.arm("lifetime", limits.max_lifetime, self.end, error)
        if limits.idle_timeout is not None:
            self._timers.arm("idle", limits.idle_timeout / _IDLE_CHECKS, self._check_idle, self.octets, 1)

    def _install_flow_control(self, leg: Leg, peer: Leg) -> None:
        flow_control = LegFlowControl(
            leg, peer, self._clock, self.session.limits.stall_timeout, self._on_write_stall
        )
        self._flow_controls[leg.side] = flow_control
        flow_control.install()

    def _start_checks(self, began: float) -> None:
        """Start each periodic check of a session that opened at this time; the first is due now."""
        limits, waited = self.session.limits, self._clock.seconds() - began
        interval = check_interval(limits.stall_timeout, limits.tcp_keepalive)
        self._begin_in(interval - waited, self._check_stalls)
        if limits.ping_interval is not None:
            self._begin_in(limits.ping_interval - waited, self._start_pinger, CLIENT)
        if limits.upstream_ping_interval is not None:
            self._begin_in(limits.upstream_ping_interval - waited, self._start_pinger, UPSTREAM)

    def _begin_in(self, seconds: float, check: Callable[..., None], *args: Side) -> None:
        if seconds < SOON:
            check(*args)
        else:
            self._timers.arm(f"first {check.__name__} {args}", seconds, check, *args)

    def _check_stalls(self) -> None:
        """Make the stall detector, which most sessions end before, and check the send queues with it."""
        detector = StallDetector(
            self.legs,
            self._clock,
            self._timers,
            self.session.limits,
            self._on_queue_stall,
            self._on_keepalive_timeout,
            self._traffic.look,
        )
        self._traffic.watched_by(detector)
        detector.check()

    @property
    def octets(self) -> int:
        """The bytes relayed so far in both directions."""
        return self._client.octets + self._upstream.octets

    # Events of a leg

    def close_received(self, leg: Leg, close: Close) -> None:
        """Handle a Close frame from this leg."""
        side = leg.side
        self.session.ended(side.value, close.code)
        self._perform(self._closing.close_received(side, close))

    def faulted(self, leg: Leg, error: SessionError) -> None:
        """Handle a protocol error of this leg's remote end."""
        side = leg.side
        if self._closing.phase is _OPEN:
            self.session.failed(error, side.value)
        self._perform(self._closing.faulted(side, error))

    def lost(self, leg: Leg) -> None:
        """Handle the end of this leg's connection."""
        side = leg.side
        if self._closing.phase is _OPEN:
            self.session.failed(_lost_error(side, leg.walker.left > 0), side.value)
        self._stop_side(side)
        self._perform(self._closing.lost(side))
        if self._closing.phase is _CLOSED:
            self._finish()

    def spend_control(self, leg: Leg) -> bool:
        """Return whether this leg's remote end may send one more control frame; fault the leg if not."""
        budget = self._budgets.get(leg.side)
        if budget is None:
            budget = self._budgets[leg.side] = ControlBudget(self._clock.seconds)
        if budget.spend():
            return True
        leg.fault(Flood("too many control frames"))
        return False

    def control_written(self, leg: Leg, opcode: int) -> None:
        """Note that the proxy has written a control frame to this leg."""
        side = leg.side
        if opcode == CLOSE:
            self._stop_relaying_to(leg)
        elif side in self._pingers:
            self._pingers[side].control_written(opcode)

    def pong_received(self, leg: Leg, payload: bytes) -> None:
        """Handle a Pong frame from this leg."""
        side = leg.side
        if pinger := self._pingers.get(side):
            pinger.pong_received(payload)
            if side is CLIENT:
                self.session.round_trip = pinger.round_trip
                if pinger.round_trip is not None:
                    self._totals.add_round_trip(self._clock.seconds(), pinger.round_trip)

    # Timeouts

    def _start_pinger(self, side: Side) -> None:
        """Make the pinger of this side when its first ping is due."""
        limits = self.session.limits
        interval = limits.ping_interval if side is CLIENT else limits.upstream_ping_interval
        assert interval is not None
        self._pingers[side] = pinger = Pinger(
            self.legs[side], self._clock, interval, limits.ping_timeout, self._on_ping_timeout
        )
        pinger.ping()

    def _on_ping_timeout(self, side: Side) -> None:
        self._abort_dead(side, "no answer to a ping", "ping_timeout")

    def _on_keepalive_timeout(self, side: Side) -> None:
        self._abort_dead(side, "no TCP segment was received", "tcp_keepalive")

    def _abort_dead(self, side: Side, what: str, timeout: str) -> None:
        what += f" within {getattr(self.session.limits, timeout):g} s"
        self.session.failed(_lost_error(side, False, what, timeout), side.value)
        self.legs[side].transport.abortConnection()

    def _on_write_stall(self, side: Side) -> None:
        self._end_stalled(side, "write buffer full")

    def _on_queue_stall(self, side: Side) -> None:
        self._end_stalled(side, "bytes in the send queue")

    def _end_stalled(self, side: Side, check: str) -> None:
        what = f"the {side.value} acknowledged nothing for {self.session.limits.stall_timeout:g} s ({check})"
        self.end(StallTimeout(what, timeout="stall_timeout"))

    def _check_idle(self, octets: int, checks: int) -> None:
        timeout = self.session.limits.idle_timeout
        assert timeout is not None
        # A slow reader is not idle.  Whether it acknowledges any byte is checked for stall_timeout.
        if self.octets != octets or any(leg.blocked for leg in self.legs.values()):
            octets, checks = self.octets, 0
        if checks >= _IDLE_CHECKS:
            self.end(IdleTimeout(f"no data for {timeout:g} s", timeout="idle_timeout"))
        else:
            self._timers.arm("idle", timeout / _IDLE_CHECKS, self._check_idle, octets, checks + 1)

    # Closing

    def end(self, error: SessionError) -> None:
        """Close the session: send a Close with the code and reason of ``error`` to both peers."""
        if self._closing.phase is _OPEN:
            self.session.failed(error)
            self.session.close_code = error.close_code
        self._perform(self._closing.demanded(error))

    def abort(self) -> None:
        """Abort both connections, without a Close."""
        for leg in self.legs.values():
            if not leg.lost:
                leg.transport.abortConnection()

    def _perform(self, actions: list[Action]) -> None:
        if not self._is_closing and self._closing.phase is not _OPEN:
            self._is_closing = True
            self._begin_closing()
        for action, side, close in actions:
            leg = self._client if side is CLIENT else self._upstream
            if leg.lost:
                continue
            if action is _SEND_CLOSE:
                assert close is not None
                self._send_close(leg, close)
            elif action is _DROP:
                leg.transport.loseConnection()
            elif action is _LINGER:
                half_close(leg.transport)
            else:
                leg.transport.abortConnection()

    def _send_close(self, leg: Leg, close: Close) -> None:
        """Send a Close at the next frame boundary; drop the connection if there will be none."""
        peer = leg.peer_leg
        if leg.mid_frame() and (peer is None or peer.lost or peer.ignores_input or peer.sink is None):
            self.session.detail += f"; the {leg.side.value} was left in the middle of a frame"
            self._stop_relaying_to(leg)
            leg.transport.loseConnection()
        else:
            leg.send_close(close)

    def _stop_relaying_to(self, leg: Leg) -> None:
        """Relay nothing more to this leg: no frame may follow a Close (RFC 6455 5.5.1)."""
        peer = leg.peer_leg
        if peer is not None:
            peer.sink = None
        self._stop_side(leg.side)

    def _stop_side(self, side: Side) -> None:
        """Stop the pings of this leg, and resume its peer if that was paused for it."""
        if pinger := self._pingers.pop(side, None):
            pinger.stop()
        if flow_control := self._flow_controls.pop(side, None):
            flow_control.remove()

    def _begin_closing(self) -> None:
        """Stop the timers of an open session, and start that of the closing handshake."""
        self._timers.clear()
        for flow_control in self._flow_controls.values():
            flow_control.stop_timer()
        phase, timeout = self._closing.phase, self.session.limits.close_timeout
        if phase is not _CLOSED:
            self._deadline = self._clock.seconds() + timeout
            first = timeout / 2 if phase is _CARRYING else timeout
            self._timers.arm("closing", first, self._on_closing_timeout)

    def _on_closing_timeout(self) -> None:
        """End the stage of the closing handshake, or wait for the end of the second one."""
        left = self._deadline - self._clock.seconds()
        if left < SOON or self._closing.phase is _CARRYING:
            self.session.closed_late()
            self._perform(self._closing.expired())
        if left >= SOON and self._closing.phase is not _CLOSED:
            self._timers.arm("closing", left, self._on_closing_timeout)

    def _finish(self) -> None:
        self._timers.clear()
        self._traffic.look()
        self.session.octets_up = self._client.octets
        self.session.octets_down = self._upstream.octets
        self._ended()
        self.session.traffic = None
        self._traffic.watched_by(None)
        for leg in self.legs.values():  # breaks reference cycles: collecting them would stop all sessions
            leg.relay = leg.peer_leg = leg.sink = None


def _lost_error(side: Side, mid_frame: bool, detail: str = "", timeout: str = "") -> SessionError:
    """Return the error for a connection that ended without a Close."""
    detail = detail or "the connection ended without a Close"
    if mid_frame:
        detail += ", in the middle of a frame"
    return (ClientLost if side is CLIENT else UpstreamLost)(detail, timeout=timeout)
