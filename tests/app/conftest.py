"""A running service, its plugins, and the signal handler of its access log."""

import signal

import pytest

import esxiproxy.app.extra_services
from tests.app.service_world import ONE, Plugin, World


@pytest.fixture(autouse=True)
def sigusr1():
    """Restore the signal handler that an access log has set."""
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, ONE)


@pytest.fixture
def plugins(monkeypatch):
    """Offer the plugins of the tests, which are created on first use."""
    made = {}
    monkeypatch.setattr(Plugin, "diary", [], raising=False)

    def find(name):
        return lambda _config, _reactor: (
            made.setdefault(name, []).append(Plugin(name, name == "bad")) or (made[name][-1])
        )

    monkeypatch.setattr(esxiproxy.app.extra_services, "load_service", find)
    return made
