"""The states of a contract, in memory and in a database."""

import pytest

from tests.state.world import MemoryWorld, SqliteWorld


@pytest.fixture(params=[MemoryWorld, SqliteWorld])
def world(request, tmp_path):
    return request.param(tmp_path)
