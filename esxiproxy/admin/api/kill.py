"""The action ``kill``: ends consoles of all workers and machines."""

from __future__ import annotations

from typing import Any

from esxiproxy.admin.call import ApiError, Call
from esxiproxy.core.session.command import Command, CommandKind, Selector, SelectorKind
from esxiproxy.interfaces import IState


async def end_sessions(state: IState, selector: Selector, reason: str) -> int:
    """End the sessions that a selector selects, and return how many there are."""
    selected = await state.sessions(where=selector)
    await state.tell(Command(CommandKind.KILL, reason=reason, selector=selector))
    return len(selected)


class KillActions:
    """The action that ends consoles."""

    def __init__(self, state: IState) -> None:
        self._state = state

    async def kill(self, call: Call) -> Any:
        """End consoles.  The Close of their users has the reason."""
        kind, value, reason = (call.body[name] for name in ("kind", "value", "reason"))
        ended = await end_sessions(self._state, Selector(SelectorKind(kind), value), reason)
        if not ended:
            raise ApiError(404, f"there is no open console of this {kind}")
        return {"sessions": ended}
