"""The folder of an imported configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.certificates import Authority


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: Authority) -> Path:
    """Return a working directory with the certificates that the cases name."""
    monkeypatch.chdir(tmp_path)
    own = authority.server("own")
    for name, source in {"a.crt": own.path, "a.key": own.key_path, "ca.pem": authority.path}.items():
        (tmp_path / name).write_bytes(source.read_bytes())
    return tmp_path
