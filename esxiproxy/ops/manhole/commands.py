"""The commands with which an operator inspects and closes the sessions of a running proxy."""

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
"""Maximum number of frames of one trace."""
MAX_TRACE_SECONDS = 3600.0
"""Maximum duration of one trace."""


class CommandError(Exception):
    """A command with an argument that cannot be used; its message is shown without a traceback."""


Upstreams = Callable[[], Iterable[Upstream]]


class Commands:
    """The commands in the namespace of one operator's shell.

    ``operator`` names the operator in the log.  ``show`` prints a line that is no return value, such as a
    trace's.  ``idle`` is called when the last trace has ended.  The shell's ``help()`` prints the docstrings
    of the commands.
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
        """The number of running traces."""
        return len(self._traces)

    def names(self) -> dict[str, Any]:
        """Return the commands by the names under which an operator calls them."""
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
        """Stop all traces, after the operator has disconnected."""
        for trace in list(self._traces.values()):
            trace.stop("the operator has disconnected")

    # Commands: the docstrings are the lines of help()

    def sessions(self) -> PlainText:
        """sessions(): list the sessions, oldest first"""
        return PlainText(views.sessions(self._sessions))

    def session(self, identity: str) -> PlainText:
        """session(id): show the details of a session; a unique prefix of the id is enough"""
        return PlainText(views.session(self._find(identity)))

    def close(self, identity: str, reason: str = "closed by an operator") -> PlainText:
        """close(id, 'reason'): close a console; both peers get close code 1008 with the reason"""
        live = self._find(identity)
        self._log.info(
            "manhole: {operator} closes session {session}: {reason}",
            operator=self._operator,
            session=live.session.id,
            reason=reason,
        )
        live.end(Killed(str(reason)))
        return PlainText(f"session {live.session.id} is being closed")

    def upstreams(self) -> PlainText:
        """upstreams(): list the upstreams with the number of their sessions"""
        return PlainText(views.upstreams(self._upstreams(), self._sessions))

    def trace(self, identity: str, frames: int = 100, seconds: float = 60.0) -> PlainText:
        """trace(id, frames=100, seconds=60): show the headers of a session's frames as they are relayed"""
        live = self._find(identity)
        relay = views.relay_of(live)
        if relay is None:
            raise CommandError(
                f"session {live.session.id} has no frames yet: its upstream has not accepted the console"
            )
        if not (1 <= frames <= MAX_TRACE_FRAMES and 0 < seconds <= MAX_TRACE_SECONDS):
            raise CommandError(
                f"a trace has 1 to {MAX_TRACE_FRAMES} frames and lasts up to {MAX_TRACE_SECONDS:g} seconds"
            )
        legs = relay.legs
        if any(leg.on_control_written for leg in legs.values()):
            raise CommandError(f"session {live.session.id} is already being traced")
        name = live.session.id
        trace = Trace(
            legs,
            self._clock,
            self._show,
            alive=lambda: live in list(self._sessions),
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
        """untrace(id): stop a trace of this shell"""
        found = [name for name in self._traces if name.startswith(str(identity))]
        if len(found) != 1 or not identity:
            raise CommandError(f"this shell traces {', '.join(self._traces) or 'no session'}")
        self._traces[found[0]].stop("stopped by untrace()")
        return PlainText("")

    def help(self) -> PlainText:
        """help(): list the commands"""
        lines = [(command.__doc__ or "").partition(": ") for command in self.names().values()]
        width = max(len(call) for call, _, _ in lines)
        text = "\n".join(f"{call:<{width}}  {meaning}" for call, _, meaning in lines)
        return PlainText(
            f"{text}\n\nThis is Python in the proxy's process: a statement that blocks stops every console."
        )

    def _on_trace_ended(self, name: str) -> None:
        del self._traces[name]
        if not self._traces:
            self._idle()

    def _find(self, identity: str) -> LiveSessionView:
        found = [live for live in self._sessions if live.session.id.startswith(str(identity))]
        if not identity or not found:
            raise CommandError(f"no session {str(identity)!r}")
        if len(found) > 1:
            raise CommandError(f"{len(found)} sessions begin with {str(identity)!r}")
        return found[0]
