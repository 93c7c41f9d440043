"""One row of the table: an attempt, and its refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

TICKET = "SECRET-TICKET"
"""The secret in the path of every link."""


@dataclass(frozen=True)
class Attempt:
    """An attempt to reach what is not allowed.

    ``what``
        a phrase that says what the client tries.
    ``listener``
        the name of a listener in ``scene.LISTENERS``.
    ``target``, ``fields``
        the request; ``{link}`` stands for what ``link`` makes at the time of the attempt.
    ``error``, ``status``
        the name in the record and the status of the answer.
    ``plain``
        the name in the record for a plain GET, which is ``error`` or UpgradeRequired by default; empty if a
        plain GET means something else.
    ``link``
        makes a link or a token; its argument is the scene.
    ``before``
        is called with the scene before the attempt.
    ``files``
        the content of files that differ from those of the scene, by name.
    ``keys``
        keys of the router's section that differ.
    ``names``
        the answers of the name service by host, one for each look-up; the last one is repeated.
    ``answers``
        the answers of the service that a router or an authenticator asks.
    ``secrets``
        texts that may stand in no output, besides the link.
    """

    what: str
    listener: str
    target: bytes
    error: str
    status: int
    fields: tuple[bytes, ...] = ()
    plain: str | None = None
    host: bytes = b"proxy.example:81"
    protocol: bytes = b"binary"
    method: bytes = b"GET"
    link: Callable[[Any], bytes] | None = None
    before: Callable[[Any], None] | None = None
    files: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    keys: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    names: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=lambda: MappingProxyType({}))
    answers: tuple[Any, ...] = ()
    secrets: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The name of the test."""
        return f"{self.listener}: {self.what}"
