"""What is wrong with one value of a configuration."""

from __future__ import annotations


class BadValue(ValueError):
    """A text that is no such value; ``str()`` says what would be one."""


def shown(text: str) -> str:
    """The text in quotes, cut short where it is long."""
    return f"'{text if len(text) <= 60 else text[:57] + '...'}'"
