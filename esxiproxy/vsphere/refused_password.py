"""The password that a server has refused, which no login may try again: accounts get locked."""

from __future__ import annotations

from hashlib import sha256


class RefusedPassword:
    """The digest of a refused password, for all logins of one section [vsphere NAME]."""

    def __init__(self) -> None:
        self._digest = b""
        self._sentence = ""

    def note(self, password: str, sentence: str) -> None:
        """Keep a password that was refused, and the sentence about it."""
        self._digest, self._sentence = _digest(password), sentence

    def accepted(self) -> None:
        """Forget the refused password, since another one was accepted."""
        self._digest, self._sentence = b"", ""

    def sentence(self, password: str) -> str | None:
        """Return the sentence about a refused password; None for any other one."""
        return self._sentence if self._digest == _digest(password) else None


def _digest(password: str) -> bytes:
    return sha256(password.encode()).digest()
