"""Proxies whose leases on the shared state are short, so that a test does not wait for more than a minute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.support.crowd import Crew
from tests.support.programs import ROOT

LEASE, LOST_AFTER = 6.0, 3.0
_SITE = f"""
import esxiproxy.state.lease as lease

lease.LEASE, lease.LOST_AFTER = {LEASE}, {LOST_AFTER}
"""


class ShortLeases(Crew):
    """esxiproxy with these leases, in all of its processes."""

    def __init__(self, text: str) -> None:
        super().__init__(text, {"sitecustomize.py": _SITE})

    def command(self) -> Sequence[str | Path]:
        return ["env", f"PYTHONPATH={ROOT}:{self.folder}", *super().command()]
