"""The errors of a Redis server as sentences."""

import pytest

from esxiproxy.state.redis_replies import RedisError
from esxiproxy.state.redis_server import explained


@pytest.mark.parametrize("secret", ["pa55word", "postscript-9", "without any password configured-9"])
def test_the_arguments_of_a_command_that_failed_are_left_out(secret):
    error = RedisError(f"ERR unknown command `AUTH`, with args beginning with: `{secret}`, ")
    assert explained(error) == "Redis answers with an error: ERR unknown command `AUTH`"


def test_an_error_of_the_script_is_named():
    error = RedisError("ERR Error running script (call to f_12): @user_script:3: bad call, with args x")
    text = explained(error)
    assert text.startswith("bug or another version of Redis: the script failed: ERR Error running script")
    assert text.endswith("@user_script:3: bad call")
