"""The commands with which an operator inspects and closes the sessions of a running proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from esxiproxy.core.errors import Killed
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.routing import Upstream
from esxiproxy.ops.manhole import views
from esxiproxy.ops.manhole.command_error import CommandError, ambiguous_session, no_session
from esxiproxy.ops.manhole.directory import SessionDirectory
from esxiproxy.ops.manhole.results import PendingResult
from esxiproxy.ops.manhole.table import PlainText, count
from esxiproxy.ops.manhole.trace import Trace
from esxiproxy.ops.manhole.views import LiveSessionsView, LiveSessionView

MAX_TRACE_FRAMES = 10_000
"""Maximum number of frames of one trace."""
MAX_TRACE_SECONDS = 3600.0
"""Maximum duration of one trace."""


Upstreams = Callable[[], Iterable[Upstream]]
Result = PlainText | PendingResult
"""The result of a command, which may arrive later."""


class Commands:
    """The commands in the namespace of one operator's shell.

    ``operator`` names the operator in the log.  ``show`` prints a line that is no return value, such as a
    trace's.  ``idle`` is called when the last trace has ended.  The shell's ``help()`` prints the docstrings
    of the commands.  ``directory`` finds the sessions of other processes; without it there are none.
    """

    _log = Logger()
    warning = "This is Python in the proxy's process: a statement that blocks stops every console."

    def __init__(
        self,
        operator: str,
        sessions: LiveSessionsView,
        upstreams: Upstreams,
        clock: IReactorTime,
        show: Callable[[str], None],
        idle: Callable[[], None] = lambda: None,
        directory: SessionDirectory | None = None,
    ) -> None:
        self._operator = operator
        self._sessions = sessions
        self._upstreams = upstreams
        self._clock = clock
        self._show = show
        self._idle = idle
        self._directory = directory
        self._identity = ProcessIdentity() if directory is None else directory.identity
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

    def sessions(self) -> Result:
        """sessions(): list the sessions, oldest first"""
        return PlainText(views.sessions(self._sessions, self._identity))

    def session(self, identity: str) -> Result:
        """session(id): show the details of a session; a unique prefix of the id is enough"""
        live = self._find(identity)
        if live is None:
            return self._refer(identity)
        return PlainText(views.session(live, self._identity))

    def close(self, identity: str, reason: str = "closed by an operator") -> Result:
        """close(id, 'reason'): close a console; both peers get close code 1008 with the reason"""
        live = self._find(identity)
        if live is None:
            return self._refer(identity)
        self._log.info(
            "manhole: {operator} closes session {session}: {reason}",
            operator=self._operator,
            session=live.session.id,
            reason=reason,
        )
        live.end(Killed(str(reason)))
        return PlainText(f"session {live.session.id} is being closed")

    def upstreams(self) -> Result:
        """upstreams(): list the upstreams with the number of their sessions"""
        return PlainText(views.upstreams(self._upstreams(), self._sessions))

    def trace(self, identity: str, frames: int = 100, seconds: float = 60.0) -> Result:
        """trace(id, frames=100, seconds=60): show the headers of a session's frames as they are relayed"""
        live = self._find(identity)
        if live is None:
            return self._refer(identity)
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

    def untrace(self, identity: str) -> Result:
        """untrace(id): stop a trace of this shell"""
        found = [name for name in self._traces if name.startswith(str(identity))]
        if not found and identity and self._directory is not None and self._find(identity) is None:
            return self._refer(identity)
        if len(found) != 1 or not identity:
            raise CommandError(f"this shell traces {', '.join(self._traces) or 'no session'}")
        self._traces[found[0]].stop("stopped by untrace()")
        return PlainText("")

    def help(self) -> PlainText:
        """help(): list the commands"""
        lines = [(command.__doc__ or "").partition(": ") for command in self.names().values()]
        width = max(len(call) for call, _, _ in lines)
        text = "\n".join(f"{call:<{width}}  {meaning}" for call, _, meaning in lines)
        return PlainText(f"{text}\n\n{self.warning}")

    def _on_trace_ended(self, name: str) -> None:
        del self._traces[name]
        if not self._traces:
            self._idle()

    def _find(self, identity: str) -> LiveSessionView | None:
        """Return a session of this process, or None if it may be one of another.  Raises CommandError."""
        text = str(identity)
        found = [live for live in self._sessions if live.session.id.startswith(text)]
        if not identity or (not found and self._directory is None):
            raise no_session(text)
        if len(found) > 1:
            raise ambiguous_session(text, len(found))
        return found[0] if found else None

    def _refer(self, identity: str) -> PendingResult:
        """Return the result of a command for a session of another process: an error that says where it is."""
        assert self._directory is not None
        return PendingResult.of(self._directory.refer(str(identity)))


CommandsFor = Callable[[str, Callable[[str], None], Callable[[], None]], Commands]
"""Makes the commands of a shell from the operator's name, the function that prints a line, and one to call
when traces have ended."""


def commands_of(
    sessions: LiveSessionsView,
    upstreams: Upstreams,
    clock: IReactorTime,
    directory: SessionDirectory | None = None,
) -> CommandsFor:
    """Return the maker of the commands for the sessions of this process."""

    def commands_for(operator: str, show: Callable[[str], None], idle: Callable[[], None]) -> Commands:
        return Commands(operator, sessions, upstreams, clock, show, idle, directory)

    return commands_for
