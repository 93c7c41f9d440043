"""The errors of a Redis server as sentences."""

import pytest

from esxiproxy.state.redis_protocol import CallLost, CallRefused
from esxiproxy.state.redis_replies import RedisError
from esxiproxy.state.redis_server import clock_warning, explained, failed_call, wrong_schema


@pytest.mark.parametrize("secret", ["pa55word", "postscript-9", "without any password configured-9"])
def test_the_arguments_of_a_command_that_failed_are_left_out(secret):
    error = RedisError(f"ERR unknown command `AUTH`, with args beginning with: `{secret}`, ")
    assert explained(error) == "Redis answers with an error: ERR unknown command `AUTH`"


def test_an_error_of_the_script_is_named():
    error = RedisError("ERR Error running script (call to f_12): @user_script:3: bad call, with args x")
    text = explained(error)
    assert text.startswith("bug or another version of Redis: the script failed: ERR Error running script")
    assert text.endswith("@user_script:3: bad call")


@pytest.mark.parametrize(
    ("server", "text"),
    [(1_000_065.4, "65 s ahead of"), (999_900.0, "100 s behind"), (1_000_001.9, None), (999_998.1, None)],
)
def test_a_clock_that_differs_is_named(server, text):
    warning = clock_warning(b"redis_version:7.0.15\r\nserver_time_usec:%d\r\n" % (server * 1e6), 1_000_000.0)
    assert (text in warning) if text else warning == ""


@pytest.mark.parametrize("info", [b"", b"server_time_usec:x\r\n", RedisError("NOPERM no")])
def test_a_clock_that_is_not_told_is_not_named(info):
    assert clock_warning(info, 1_000_000.0) == ""


def test_a_refusal_of_writes_is_told_apart_from_a_script_that_failed():
    assert isinstance(failed_call(RedisError("NOREPLICAS not enough")), CallRefused)
    assert isinstance(failed_call(RedisError("WRONGTYPE a key of another program")), CallLost)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ("3", "has schema version 3; this proxy needs 2 and is too old: update it"),
        ("1", "has schema version 1; this proxy needs 2: those that have written it are too old: update all"),
        ("x" * 999, "was written by another program: use another state_prefix"),
        ("\u0663", "was written by another program: use another state_prefix"),
    ],
)
def test_the_proxies_that_are_too_old_are_named(found, text):
    assert text in wrong_schema(found, "2")
    assert len(wrong_schema(found, "2")) < 220
