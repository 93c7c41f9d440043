"""A folder with the files that configurations name."""

from pathlib import Path

import pytest

from tests.core.config_text import CERTIFICATE, KEY


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a working directory with the files that the cases name."""
    monkeypatch.chdir(tmp_path)
    Path("crt.pem").write_text(CERTIFICATE)
    Path("key.pem").write_text(KEY)
    Path("both.pem").write_text(KEY + CERTIFICATE)
    Path("text").write_text("no certificate")
    Path("folder").mkdir()
    return tmp_path
