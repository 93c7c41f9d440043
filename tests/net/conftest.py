"""Certificates of listeners and upstreams."""

from __future__ import annotations

import pytest

from tests.net.tls_listener import Pki
from tests.support.certificates import Authority, Certificate


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    authority = Authority(tmp_path_factory.mktemp("pki"))
    return Pki(authority, authority.server(), authority.server("rsa", key="rsa"))


@pytest.fixture(scope="module")
def good(authority: Authority) -> Certificate:
    return authority.server("good", ["esxi1.test", "*.wild.test"], ["192.0.2.10", "2001:db8::10"])
