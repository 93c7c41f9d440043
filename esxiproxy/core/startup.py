"""Errors that end the start of the process."""

from __future__ import annotations


class CannotStart(Exception):
    """What ends the start, in one line that says why."""


class Unbound(CannotStart):
    """A listener's address cannot be bound."""
