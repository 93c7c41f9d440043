"""The only variable in a path of a configuration is ${CREDENTIALS_DIRECTORY}."""

from pathlib import Path

import pytest

from esxiproxy.core.config.access_log import access_log
from esxiproxy.core.config.admin import socket_path
from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.file_path import VARIABLE, file_path, path_to_write
from esxiproxy.core.config.key import path
from esxiproxy.core.config.listen_address import listen_address
from esxiproxy.core.config.state_url import state
from esxiproxy.core.config.values import pem
from tests.core.config_text import CERTIFICATE, KEY, U, problems, read

FOLDER = Path("/etc/esxiproxy")
UNIT = "${CREDENTIALS_DIRECTORY}"
TLS = f"""{U}[listener a]
listen = :443
upstream = u
certificate = console.crt
private_key = {UNIT}/console.key
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tls.key", "/etc/esxiproxy/tls.key"),
        ("/srv/tls.key", "/srv/tls.key"),
        (f"{UNIT}/tls.key", "/run/credentials/esxiproxy.service/tls.key"),
        (f"{UNIT}//tls.key", "/run/credentials/esxiproxy.service/tls.key"),
        (f"{UNIT}/tls_a/key", "/run/credentials/esxiproxy.service/tls_a/key"),
        # Nothing but this variable, in braces and at the beginning.
        ("$CREDENTIALS_DIRECTORY/tls.key", "/etc/esxiproxy/$CREDENTIALS_DIRECTORY/tls.key"),
        ("${HOME}/tls.key", "/etc/esxiproxy/${HOME}/tls.key"),
        (f"tls/{UNIT}/tls.key", f"/etc/esxiproxy/tls/{UNIT}/tls.key"),
        (f"./{UNIT}/tls.key", f"/etc/esxiproxy/{UNIT}/tls.key"),
    ],
)
def test_only_the_folder_of_credentials_is_replaced(text, expected, monkeypatch):
    monkeypatch.setenv(VARIABLE, "/run/credentials/esxiproxy.service")
    assert file_path(text, FOLDER) == path("file").parse(text, FOLDER) == Path(expected)


@pytest.mark.parametrize("text", [UNIT, f"{UNIT}/", f"{UNIT}//", f"{UNIT}tls.key"])
def test_a_credential_has_a_name(text, monkeypatch):
    monkeypatch.setenv(VARIABLE, "/run/credentials/esxiproxy.service")
    with pytest.raises(BadValue, match=r"^names no credential: write \$\{CREDENTIALS_DIRECTORY\}/NAME$"):
        file_path(text, FOLDER)


def test_every_kind_of_path_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "key").write_text(KEY)
    text, found = f"{UNIT}/key", tmp_path / "key"
    assert pem(text, FOLDER, "PRIVATE KEY") == found
    assert state(f"sqlite:{text}", FOLDER) == found
    assert {parse(text, FOLDER) for parse in (access_log, path_to_write, socket_path)} == {found}
    assert listen_address(f"unix:{text}", FOLDER).path == found


def test_a_listener_takes_its_key_from_the_credentials(folder, tmp_path, monkeypatch):
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "console.key").write_text(KEY)
    Path("console.crt").write_text(CERTIFICATE)
    monkeypatch.setenv(VARIABLE, str(credentials))
    (listener,) = read(TLS).listeners
    assert listener.tls.private_key == credentials / "console.key"


@pytest.mark.parametrize(
    ("value", "problem"), [(None, "is not set"), ("", "is not set"), ("run", "is no absolute path")]
)
def test_outside_of_a_service_the_error_says_what_is_missing(value, problem, folder, monkeypatch):
    if value is None:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, value)
    Path("console.crt").write_text(CERTIFICATE)
    assert problems(TLS) == [
        f"x.ini:7: [listener a] private_key: CREDENTIALS_DIRECTORY {problem}: systemd sets it for a service "
        "whose unit has LoadCredential=; elsewhere set it to the folder of the files"
    ]


def test_a_missing_credential_is_named_as_in_the_file(folder, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    Path("console.crt").write_text(CERTIFICATE)
    assert problems(TLS) == [f"x.ini:7: [listener a] private_key: no such file: {UNIT}/console.key"]
