"""Every file of a configuration is read by one function, which refuses what is no file or is too large.

Files, named pipes, sockets and devices are real.  No call may block: a named pipe without a writer would.
"""

import os
import socket
import stat
from pathlib import Path

import pytest

from esxiproxy.authenticators.password_file import read_passwords
from esxiproxy.authenticators.revocation import read_lists
from esxiproxy.core import bounded_file
from esxiproxy.core.bounded_file import FileTooLarge, NoRegularFile, read_file
from esxiproxy.core.config.errors import BadValue, ConfigError
from esxiproxy.core.config.loader import load
from esxiproxy.core.config.values import pem
from esxiproxy.core.inventory import InventoryError, read_inventory
from esxiproxy.core.jwks import ALGORITHMS, BadKeys, read_jwks
from esxiproxy.core.link_keys import InvalidKeys, read_keys
from esxiproxy.core.networks import Networks
from esxiproxy.core.routing import Upstream
from esxiproxy.core.websockify_tokens import TokenSourceError, read_tokens
from esxiproxy.net.tls.pem import TLSFileError, read_certificates
from esxiproxy.state.redis_endpoint import BadFile, read_password


def inventory(path):
    return read_inventory(path, Upstream("u", "", 0, secure=True), Networks())


READERS = {
    "configuration": (load, ConfigError, "more than 16 MiB"),
    "pem": (lambda path: pem(str(path), path.parent, "CERTIFICATE"), BadValue, "has more than 16 MiB"),
    "passwords": (read_passwords, BadValue, "has more than 16 MiB"),
    "revocation lists": (lambda path: read_lists([path]), BadValue, "has more than "),
    "jwks": (lambda path: read_jwks(path, ALGORITHMS), BadKeys, "is larger than 262144 bytes"),
    "link keys": (read_keys, InvalidKeys, "has more than 1048576 bytes"),
    "tokens": (read_tokens, TokenSourceError, "is too large: all tokens may have 16 MiB"),
    "inventory": (inventory, InventoryError, "is larger than 16 MiB"),
    "certificates": (read_certificates, TLSFileError, "has more than 16 MiB"),
    "password of Redis": (read_password, BadFile, "Has more than 16777216 bytes"),
}
"""The readers of the product with their errors and what they say of a file that is too large."""


def pipe(path):
    os.mkfifo(path)
    return "Is a named pipe"


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    return "Is a socket"


def device(path):
    path.symlink_to("/dev/zero")
    return "Is a device"


@pytest.mark.parametrize("make", [pipe, unix_socket, device])
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_at_once(tmp_path, reader, make):
    read, error, _ = READERS[reader]
    reason = make(tmp_path / "x")
    with pytest.raises(error, match=reason):
        read(tmp_path / "x")


@pytest.mark.parametrize("reader", READERS)
def test_a_file_over_the_limit_is_refused(tmp_path, reader):
    read, error, text = READERS[reader]
    with (tmp_path / "x").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(error, match=text):
        read(tmp_path / "x")


def test_a_file_is_read_up_to_its_limit(tmp_path):
    path, link = tmp_path / "x", tmp_path / "link"
    link.symlink_to(path)
    for content, most in ((b"", 0), (b"abc", 3), (b"abc", 4)):
        path.write_bytes(content)
        assert read_file(link, most) == content
    with pytest.raises(FileTooLarge) as caught:
        read_file(link, 2)
    assert (caught.value.filename, caught.value.strerror) == (str(link), "Has more than 2 bytes")


def test_no_more_than_the_limit_is_read():
    """Files of /proc have no size, and some of them are long."""
    assert len(read_file(Path("/proc/self/status"), 1 << 20)) > 100
    with pytest.raises(FileTooLarge):
        read_file(Path("/proc/self/status"), 10)


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("none", FileNotFoundError, "No such file or directory"),
        (".", IsADirectoryError, "Is a directory"),
        ("file/x", NotADirectoryError, "Not a directory"),
        ("a\0b", OSError, "embedded null byte"),
        ("\ud800", OSError, "surrogates not allowed"),
    ],
)
def test_an_error_has_its_reason(tmp_path, name, error, text):
    (tmp_path / "file").touch()
    with pytest.raises(error) as caught:
        read_file(tmp_path / name, 1)
    assert text in caught.value.strerror


def test_a_file_that_became_a_pipe_is_refused(tmp_path, monkeypatch):
    """The kind is looked at again after the open, which does not block either."""
    os.mkfifo(tmp_path / "pipe")
    kinds = iter([stat.S_IFREG])
    real = bounded_file._check_kind
    monkeypatch.setattr(bounded_file, "_check_kind", lambda path, mode: real(path, next(kinds, mode)))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NoRegularFile, match="Is a named pipe"):
        read_file(tmp_path / "pipe", 1)
    assert len(os.listdir("/proc/self/fd")) == before
