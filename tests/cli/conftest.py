"""Fixtures of the tests of the terminal commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.running_admin import RunningAdmin


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[RunningAdmin]:
    """Run the admin service on a unix socket."""
    with RunningAdmin(tmp_path / "admin.sock", tmp_path / "audit.log") as running:
        yield running
