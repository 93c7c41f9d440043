"""Texts of configurations, and their problems."""

from pathlib import Path
from types import MappingProxyType

import pytest

from esxiproxy.core.config.loader import ConfigError, load

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
SHA1, SHA256 = "5c" * 20, "5c" * 32

# A good listener and a good upstream.
A = "[listener a]\nlisten = :80\nupstream = u\n"
U = "[upstream u]\nurl = ws://192.0.2.10\n"
S = "[upstream u]\nurl = wss://192.0.2.10\n"
L = U + A


def read(text, types=MappingProxyType({})):
    Path("x.ini").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load("x.ini", types=types)


def problems(text, types=MappingProxyType({})):
    with pytest.raises(ConfigError) as caught:
        read(text, types)
    return [str(problem) for problem in caught.value.problems]
