"""What an operator can do to the sessions of a running proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from esxiproxy.core.errors import Killed
from esxiproxy.core.routing import Upstream
from esxiproxy.ops.manhole import views
from esxiproxy.ops.manhole.table import PlainText, count
from esxiproxy.ops.manhole.trace import Trace
from esxiproxy.ops.manhole.views import LiveSessionsView, LiveSessionView

MAX_TRACE_FRAMES = 10_000
MAX_TRACE_SECONDS = 3600.0
"""What one trace may show, and for how long, at most."""


class CommandError(Exception):
    """The operator asked for something that there is not; a sentence says what, and no traceback."""


Upstreams = Callable[[], Iterable[Upstream]]


class Commands:
    """The names in one operator's interactive session.

    ``operator`` is who it is, for our log; ``show`` takes what comes later than an answer, a trace's lines;
    ``idle`` is called when the last trace has ended.
    """

    _log = Logger()

    def __init__(
        self,
        operator: str,
        sessions: LiveSessionsView,
        upstreams: Upstreams,
        clock: IReactorTime,
        show: Callable[[str], None],
        idle: Callable[[], None] = lambda: None,
    ) -> None:
        self._operator = operator
        self._sessions = sessions
        self._upstreams = upstreams
        self._clock = clock
        self._show = show
        self._idle = idle
        self._traces: dict[str, Trace] = {}

    @property
    def running_traces(self) -> int:
        """How many traces run."""
        return len(self._traces)

    def names(self) -> dict[str, Any]:
        """The names by which an operator calls these."""
        commands = (
            self.sessions,
            self.session,
            self.close,
            self.upstreams,
            self.trace,
            self.untrace,
            self.help,
        )
        return {command.__name__: command for command in commands}

    def stop_traces(self) -> None:
        """The operator is gone: nobody looks at the traces any more."""
        for trace in list(self._traces.values()):
            trace.stop("the operator has left")

    # What an operator types

    def sessions(self) -> PlainText:
        """sessions(): a table of the sessions, the oldest first"""
        return PlainText(views.sessions(self._sessions))

    def session(self, identity: str) -> PlainText:
        """session(id): what is known of one session; the beginning of its id is enough"""
        return PlainText(views.session(self._find(identity)))

    def close(self, identity: str, reason: str = "closed by an operator") -> PlainText:
        """close(id, 'reason'): end a console; both peers get close code 1008 with the reason"""
        holder = self._find(identity)
        self._log.info(
            "manhole: {operator} closes session {session}: {reason}",
            operator=self._operator,
            session=holder.session.id,
            reason=reason,
        )
        holder.end(Killed(str(reason)))
        return PlainText(f"session {holder.session.id} is being closed")

    def upstreams(self) -> PlainText:
        """upstreams(): a table of the upstreams, with their sessions"""
        return PlainText(views.upstreams(self._upstreams(), self._sessions))

    def trace(self, identity: str, frames: int = 100, seconds: float = 60.0) -> PlainText:
        """trace(id, frames=100, seconds=60): show a session's frames by their headers, as they pass"""
        holder = self._find(identity)
        if views.relay_of(holder) is None:
            raise CommandError(
                f"session {holder.session.id} has no frames yet: its upstream has not accepted"
            )
        if not (1 <= frames <= MAX_TRACE_FRAMES and 0 < seconds <= MAX_TRACE_SECONDS):
            raise CommandError(
                f"a trace has 1 to {MAX_TRACE_FRAMES} frames and at most {MAX_TRACE_SECONDS:g} seconds"
            )
        legs = views.relay_of(holder).legs
        if any(leg.on_control_written for leg in legs.values()):
            raise CommandError(f"session {holder.session.id} is being traced already")
        name = holder.session.id
        trace = Trace(
            legs,
            self._clock,
            self._show,
            alive=lambda: holder in list(self._sessions),
            ended=lambda: self._on_trace_ended(name),
            frames=frames,
            seconds=seconds,
        )
        self._traces[name] = trace
        trace.start()
        until = f"{count(frames, 'frame')} or {seconds:g} s"
        return PlainText(
            f"session {name}: {until}, or untrace('{name}')\n  seconds  direction            frame"
        )

    def untrace(self, identity: str) -> PlainText:
        """untrace(id): end a trace of yours"""
        found = [name for name in self._traces if name.startswith(str(identity))]
        if len(found) != 1 or not identity:
            raise CommandError(f"you trace {', '.join(self._traces) or 'no session'}")
        self._traces[found[0]].stop("as you wish")
        return PlainText("")

    def help(self) -> PlainText:
        """help(): this"""
        lines = [(command.__doc__ or "").partition(": ") for command in self.names().values()]
        width = max(len(call) for call, _, _ in lines)
        text = "\n".join(f"{call:<{width}}  {meaning}" for call, _, meaning in lines)
        return PlainText(
            f"{text}\n\nThis is Python in the proxy's process: what blocks here blocks every console."
        )

    def _on_trace_ended(self, name: str) -> None:
        del self._traces[name]
        if not self._traces:
            self._idle()

    def _find(self, identity: str) -> LiveSessionView:
        found = [holder for holder in self._sessions if holder.session.id.startswith(str(identity))]
        if not identity or not found:
            raise CommandError(f"no session {str(identity)!r}")
        if len(found) > 1:
            raise CommandError(f"{len(found)} sessions begin with {str(identity)!r}")
        return found[0]
