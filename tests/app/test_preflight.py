"""What is wrong beyond the text of a configuration has its line as well."""

import pytest

from esxiproxy.app.preflight import load_checked
from esxiproxy.core.config.errors import ConfigError
from tests.support import config


def test_a_state_that_cannot_be_opened_ends_the_start(tmp_path):
    path = tmp_path / "proxy.ini"
    state = tmp_path / "state"
    state.write_text("no database")
    sections = config.listener(), config.upstream("ws://192.0.2.10")
    path.write_text(config.ini(*sections, state=f"sqlite:{state}", workers=2))
    with pytest.raises(ConfigError) as caught:
        load_checked(path)
    (problem,) = caught.value.problems
    assert str(problem) == f"{path}:2: [proxy] state: {state}: file is not a database"
    state.unlink()
    assert load_checked(path).state == state
