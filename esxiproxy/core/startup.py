"""Errors that end the start of the process."""

from __future__ import annotations


class StartupError(Exception):
    """What ends the start, in one line that says why."""


class BindError(StartupError):
    """A listener's address cannot be bound."""
