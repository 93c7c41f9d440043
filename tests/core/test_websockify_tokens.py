"""Token files as websockify 0.13 reads them, and what their targets mean here."""

import pytest

from esxiproxy.core.websockify_tokens import (
    TokenSourceError,
    TokenTarget,
    parse_tokens,
    read_tokens,
    token_target,
)

LINES = {
    "": ({}, []),
    "a: host:1\n": ({"a": "host:1"}, []),
    "a: host:1": ({"a": "host:1"}, []),
    "a:\thost:1": ({"a": "host:1"}, []),
    "a:   host:1  \n": ({"a": "host:1"}, []),
    "a: host:1\r\nb: host:2\rc: host:3\n": ({"a": "host:1", "b": "host:2", "c": "host:3"}, []),
    "# a: b\n#\n  # c: d\n\n  \n": ({}, []),
    "a:b:c: host:1": ({"a:b:c": "host:1"}, []),
    "a b: host:1": ({"a b": "host:1"}, []),
    "  a: host:1": ({"a": "host:1"}, []),
    "a: unix_socket:/tmp/x": ({"a": "unix_socket:/tmp/x"}, []),
    "a: ::1:5900\nb: [::1]:5900": ({"a": "::1:5900", "b": "[::1]:5900"}, []),
    "a: wss://host/ticket/x?y=z": ({"a": "wss://host/ticket/x?y=z"}, []),
    "a: one:1\na: two:2": ({"a": "two:2"}, []),
    "a: b: c\nd: e:1\nf\ng:h:1\ni:\n: j:1": ({"d": "e:1", "": "j:1"}, [1, 3, 4, 5]),
    "a # b: host:1 # c": ({"a # b": "host:1 # c"}, []),
    "a\x0bb: c:1\n\x0c\nd\u2028e: f:1": ({"a\x0bb": "c:1", "d\u2028e": "f:1"}, []),
    "a:\u00a0host:1": ({"a": "host:1"}, []),
}


@pytest.mark.parametrize(("text", "expected"), LINES.items(), ids=map(repr, LINES))
def test_lines_are_read_as_websockify_reads_them(text, expected):
    assert parse_tokens(text) == expected


def test_a_folder_has_files_in_the_order_of_their_names(tmp_path):
    (tmp_path / "b.cfg").write_text("x: late:1\ny: host:2\nwrong\n")
    (tmp_path / "a").write_text("bad\nx: early:1\nz: host:3\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "c").write_text("w: host:4\n")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    tokens = read_tokens(tmp_path)
    assert tokens.targets == {"x": "late:1", "y": "host:2", "z": "host:3"}
    assert tokens.faults == (f"{tmp_path / 'a'}:1", f"{tmp_path / 'b.cfg'}:3")
    assert "late" not in repr(tokens)


def test_a_source_that_cannot_be_read_is_an_error(tmp_path):
    cases = {"none": "cannot be read: No such file", "binary": "is not UTF-8", "large": "is too large"}
    (tmp_path / "binary").write_bytes(b"a: \xff:1\n")
    with (tmp_path / "large").open("wb") as file:
        file.truncate((16 << 20) + 1)
    for name, text in cases.items():
        with pytest.raises(TokenSourceError, match=text):
            read_tokens(tmp_path / name)
    with pytest.raises(TokenSourceError):
        read_tokens(tmp_path)


TARGETS = {
    "host:443": TokenTarget(True, "host", 443),
    "Host.Lab.:5900": TokenTarget(True, "host.lab", 5900),
    "10.0.0.1:8443": TokenTarget(True, "10.0.0.1", 8443),
    "::1:5900": TokenTarget(True, "::1", 5900),
    "[2001:db8::1]:5900": TokenTarget(True, "2001:db8::1", 5900),
    "wss://host": TokenTarget(True, "host", 443),
    "WS://Host:81": TokenTarget(False, "host", 81),
    "ws://[::1]:81/": TokenTarget(False, "::1", 81, b"/"),
    "wss://host:444/ticket/a%2fb?c=d&token=e": TokenTarget(True, "host", 444, b"/ticket/a%2fb?c=d&token=e"),
    "wss://host?c=d": TokenTarget(True, "host", 443, b"/?c=d"),
}


@pytest.mark.parametrize(("text", "expected"), TARGETS.items())
def test_a_target_is_a_websocket_server(text, expected):
    assert token_target(text) == expected


@pytest.mark.parametrize(
    "text",
    ["unix_socket:/tmp/hidden", "vnc://hidden:5900", "tcp://hidden:1", "unix://hidden", "http://hidden/"],
)
def test_a_raw_target_is_refused_with_a_sentence(text):
    with pytest.raises(
        ValueError, match=r"is raw TCP and not a WebSocket: write HOST:PORT of a wss"
    ) as caught:
        token_target(text)
    assert "hidden" not in str(caught.value)


ODD = [
    *("", ":", "host", "host:", ":1", "host:0", "host:65536", "host:x", "host: 1", "host:１", "host:-1"),
    *("127.1:443", "0x7f.1:443", "2130706433:443", "0177.0.0.1:443", "user@host:443", "host/x:443", "a b:1"),
    *("[host]:1", "[::1:5900", "::ffff:127.0.0.1:443", "fe80::1%eth0:443", "a%00:1", "wss://", "wss:///x"),
    *("wss://127.1/", "wss://0x7f.1/", "wss://user:hidden@host/", "wss://host/#hidden", "wss://host/a b"),
    *("wss://host:0/", "wss://host/é", "wss://[::ffff:127.0.0.1]/", "ws:///x", "wss://host\n/"),
]


@pytest.mark.parametrize("text", ODD)
def test_an_odd_target_is_refused(text):
    with pytest.raises(ValueError, match=r"^the target of the token is not HOST:PORT and no ws://") as caught:
        token_target(text)
    assert "hidden" not in str(caught.value)
