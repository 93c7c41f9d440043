"""The states of a contract: in memory, in a database, in a real Redis server, and behind its Sentinel."""

import pytest

from esxiproxy.state import tables
from tests.state.redis_process import Reactor
from tests.state.world import MemoryWorld, RedisWorld, SentinelWorld, SqliteWorld
from tests.support.redis_sentinels import Sentinel
from tests.support.redis_server import Client, RedisServer


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """Run one server for all tests, each of which finds it empty."""
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


@pytest.fixture(scope="session")
def redis_sentinel(redis_server, tmp_path_factory):
    """Run a Sentinel of that server."""
    sentinel = Sentinel(tmp_path_factory.mktemp("sentinel"), redis_server.port)
    yield sentinel
    sentinel.stop()


@pytest.fixture
def sentinel_world(redis_client, redis_sentinel):
    reactor = Reactor()
    world = SentinelWorld(redis_client, reactor, redis_sentinel.port)
    yield world
    world.close()
    reactor.close()


@pytest.fixture
def sqlite_world(tmp_path, monkeypatch):
    """Return processes whose database does not wait for a lock."""
    monkeypatch.setattr(tables, "BUSY_TIMEOUT", 0.01)
    return SqliteWorld(tmp_path)


@pytest.fixture(params=["memory", "sqlite", "redis", "sentinel"])
def world(request, tmp_path):
    if request.param in ("redis", "sentinel"):
        return request.getfixturevalue(f"{request.param}_world")
    return {"memory": MemoryWorld, "sqlite": SqliteWorld}[request.param](tmp_path)
