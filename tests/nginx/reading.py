"""The sections of a configuration that import-nginx wrote."""

from __future__ import annotations

from esxiproxy.core.config import ini
from tests.nginx.cases import Sections


def read(text: str) -> Sections:
    """Return the values of each section by its header."""
    sections, problems = ini.parse(text.encode(), "x.ini")
    assert not problems
    return {
        section.header: {key: entry.text for key, entry in section.entries.items()} for section in sections
    }
