"""An authenticator `htpasswd` with two users, in a context that a test controls."""

import pytest

from esxiproxy.authenticators.htpasswd import Htpasswd
from esxiproxy.plugins.watched_files import OnRemoved
from tests.authenticators.world import USERS, World
from tests.support.outcome import result


@pytest.fixture
def world():
    return World()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "users"
    path.write_text(USERS)
    return path


@pytest.fixture
def users(world, file):
    """Return an authenticator that has read its file."""
    found = Htpasswd(file, world.context, on_removed=OnRemoved.END, time_of_day=world.time_of_day)
    result(found.ready())
    world.calls = 0
    return found


@pytest.fixture
def authenticator(tmp_path):
    """Return an authenticator `jwt`."""
    from tests.authenticators.token_scene import make  # needs PyJWT

    return make(tmp_path)
