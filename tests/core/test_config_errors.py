"""The configuration: errors, their places and their texts."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esxiproxy.core.config.loader import ConfigError, load
from esxiproxy.core.config.schema import KEYS
from tests.core.bad_configs import BAD, INDENTED, WRITE
from tests.core.config_text import A, L, U, problems, read


@pytest.mark.parametrize(("text", "expected"), BAD.items(), ids=[str(number) for number in range(len(BAD))])
def test_each_problem_has_its_place(folder, text, expected):
    assert problems(text) == [f"x.ini:{line}" for line in expected]


def test_there_are_enough_cases():
    assert len(BAD) >= 60


def test_all_problems_are_reported_at_once_in_the_order_of_the_lines(folder):
    text = (
        "[proxy]\nidle_timeout = never\n[upstream a]\nurl = http://h\npni = x\n[listener s]\n"
        "certificate = x\nupstream = b\n[listener t]\n  listen = :x\nlisten = :80\n"
    )
    assert problems(text) == [
        "x.ini:2: [proxy] idle_timeout: 'never' is no duration: write 500ms, 30s, 10m, 1h or 2d",
        "x.ini:4: [upstream a] url: 'http://h' begins with http://: write ws://",
        "x.ini:5: [upstream a] pni: unknown key: did you mean pin?",
        "x.ini:6: [listener s] listen: missing",
        "x.ini:7: [listener s] certificate: no such file: x",
        "x.ini:7: [listener s] certificate: needs a private_key in the same section",
        "x.ini:8: [listener s] upstream: no [upstream b]: there is a",
        "x.ini:9: [listener t] upstream: missing: name an upstream, or a router that chooses one",
        f"x.ini:10: [listener t] listen: {INDENTED}",
        f"x.ini:10: [listener t] listen: ':x' is no address: {WRITE}",
        "x.ini:11: [listener t] listen: given twice, first in line 10",
    ]


def test_an_error_shows_its_problems(folder):
    with pytest.raises(ConfigError) as caught:
        read(L + "a = 1\nb = 2\n")
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    problem = caught.value.problems[0]
    assert (problem.file, problem.line, problem.section, problem.key) == ("x.ini", 6, "listener a", "a")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("gone.ini", "no such file"),
        ("folder", "is a folder"),
        ("text/x.ini", "cannot be read: Not a directory"),
        ("a\0b", "cannot be read: embedded null byte"),
        ("/dev/zero", "cannot be read: Is a device"),
        ("large", "more than 16 MiB: this is no configuration"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_problem(folder, path, text):
    with Path("large").open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert [str(problem) for problem in caught.value.problems] == [f"{path}:1: {text}"]


def test_a_listener_on_another_address_than_the_upstreams_is_no_loop(folder):
    """Another port is no loop either, and port 0 is a free one."""
    for listen in ("192.0.2.1:80", "127.0.0.1:81", "127.0.0.1:0", "unix:x", "[::1]:80"):
        read(A.replace(":80", listen) + U.replace("192.0.2.10", "127.0.0.1"))


WORDS = [
    *(
        "\n",
        "[",
        "]",
        "=",
        " = ",
        " ; ",
        "#",
        ",",
        ":",
        "proxy",
        "[proxy]\n",
        "[listener a]\n",
        "[upstream u]\n",
        "off",
    ),
    *(
        "0.0.0.0:80",
        "[::]:80",
        "tcp:",
        "unix:",
        "systemd:domain=",
        "\\",
        "ws://",
        "wss://",
        "sha1:",
        "1s",
        "\0",
        "é",
    ),
    *(f"{key.name} = " for key in KEYS),
]


@given(st.binary() | st.text() | st.lists(st.sampled_from(WORDS) | st.text(max_size=5)).map("".join))
def test_load_raises_nothing_but_config_error(tmp_path_factory, text):
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    path = tmp_path_factory.getbasetemp() / "arbitrary.ini"
    path.write_bytes(raw)
    try:
        config = load(path)
    except ConfigError as error:
        assert error.problems and all("\n" not in str(problem) for problem in error.problems)
    else:
        assert config.listeners


def test_a_problem_repeats_no_secret_of_its_value(folder):
    """Its text stands in the log, and in the answer to a reload."""
    for value in ("wss://h/ticket/cst-VCT-52fe", "wss://h/ui?token=SECRET-t0ken&x=1", "wss://h#SECRET"):
        (problem,) = problems(f"{L}[upstream v]\nurl = {value}\n")
        assert "***" in problem and not any(secret in problem for secret in ("VCT-52fe", "SECRET"))
