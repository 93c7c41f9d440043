"""The protocol of Redis: commands as they are sent, and replies as they arrive."""

import pytest

from esxiproxy.state.redis_replies import InvalidReply, RedisError, ReplyReader, command


def read(*chunks):
    reader = ReplyReader()
    return [reply for chunk in chunks for reply in reader.feed(chunk)]


def test_a_command_is_sent_with_lengths():
    assert command(("SET", "\u00fc", b"a\r\n")) == b"*3\r\n$3\r\nSET\r\n$2\r\n\xc3\xbc\r\n$3\r\na\r\n\r\n"


REPLIES = b"+OK\r\n:-12\r\n$-1\r\n$0\r\n\r\n*0\r\n*-1\r\n*3\r\n*2\r\n:1\r\n$4\r\na\r\nb\r\n*0\r\n$1\r\nc\r\n"
READ = [b"OK", -12, None, b"", [], None, [[1, b"a\r\nb"], [], b"c"]]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_replies_are_read_in_any_chunks(size):
    assert read(*(REPLIES[at : at + size] for at in range(0, len(REPLIES), size))) == READ


def test_an_error_has_a_code():
    (error,) = read(b"-WRONGPASS invalid password\r\n")
    assert isinstance(error, RedisError) and error.code == "WRONGPASS"


@pytest.mark.parametrize(
    "octets",
    [
        b"HTTP/1.1 400 Bad\r\n",
        b"$x\r\n",
        b"*\r\n",
        b"x" * 70_000,
        b"*1\r\n" * 9,
        b"$999999999999\r\n",
        b"\r\n",
    ],
)
def test_what_is_no_reply_is_refused(octets):
    with pytest.raises(InvalidReply):
        read(octets)


def test_a_long_string_that_arrives_in_pieces_is_read_in_linear_time():
    reader, found = ReplyReader(), []
    looks = 0
    line = reader._line

    def counted():
        nonlocal looks
        looks += 1
        return line()

    reader._line = counted
    for chunk in (b"*2\r\n$100000\r\n", *(b"x" * 10 for _ in range(10_000)), b"\r\n:1\r\n"):
        found += reader.feed(chunk)
    assert found == [[b"x" * 100_000, 1]]
    assert looks < 10, "the line of the string is not read again for each piece"
