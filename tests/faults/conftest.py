"""A host that echoes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.websocket_peers import ScriptedUpstream


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running
