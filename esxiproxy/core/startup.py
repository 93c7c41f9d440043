"""Errors that end the start of the process."""

from __future__ import annotations


class StartupError(Exception):
    """An error that ends the start, with a message of one line."""


class BindError(StartupError):
    """An error in binding a listener's address."""
