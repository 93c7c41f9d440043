"""The states of a contract: in memory, in a database, and in a real Redis server."""

import pytest

from tests.state.world import MemoryWorld, RedisWorld, SqliteWorld
from tests.support.redis_server import Client, RedisServer


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """One server for all tests, each of which finds it empty."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def redis_client(redis_server):
    client = Client(redis_server.port)
    client.call("FLUSHALL")
    yield client
    client.close()


@pytest.fixture
def redis_world(redis_client):
    return RedisWorld(redis_client)


@pytest.fixture(params=["memory", "sqlite", "redis"])
def world(request, tmp_path):
    if request.param == "redis":
        return request.getfixturevalue("redis_world")
    return {"memory": MemoryWorld, "sqlite": SqliteWorld}[request.param](tmp_path)
