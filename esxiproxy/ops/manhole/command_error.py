"""The error of a command, and those that several commands raise."""

from __future__ import annotations


class CommandError(Exception):
    """A command with an argument that cannot be used; its message is shown without a traceback."""


def no_session(identity: str) -> CommandError:
    """Return the error of an id that no session has."""
    return CommandError(f"no session {identity!r}")


def ambiguous_session(identity: str, count: int) -> CommandError:
    """Return the error of the beginning of several ids."""
    return CommandError(f"{count} sessions begin with {identity!r}")
