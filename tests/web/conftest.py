"""A web server with its client, and certificates."""

import pytest

from tests.support.certificates import Authority, self_signed
from tests.support.web_server import Web


@pytest.fixture
def web():
    running = Web()
    yield running
    running.close()


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def certificate(authority):
    return authority.server("web")


@pytest.fixture(scope="session")
def own_certificate(authority):
    return self_signed(authority.folder, "own")
