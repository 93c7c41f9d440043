"""Fixtures that run each test over Twisted's transports and over ours."""

from __future__ import annotations

import pytest

from esxiproxy.net.transport import fast_path
from tests.net.transport.loop import Net
from tests.support.certificates import Authority
from tests.support.packages import NO_COMPILER


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca")).server(names=["server.test"])


@pytest.fixture(params=["compiled", "python"])
def way(request, monkeypatch):
    """Choose how fast paths are served."""
    if request.param == "python":
        monkeypatch.setattr(fast_path, "_IN_USE", None)
    elif fast_path._compiled is None:
        pytest.skip(NO_COMPILER)
    else:
        monkeypatch.setattr(fast_path, "_IN_USE", fast_path._compiled)
    return request.param


def _net(request, certificate):
    ours, tls = request.param
    net = Net(ours, tls, certificate)
    yield net
    net.close()


KINDS = {
    "twisted-plain": (False, False),
    "twisted-tls": (False, True),
    "ours-plain": (True, False),
    "ours-tls": (True, True),
}


def _fixture(*names):
    return pytest.fixture(params=[KINDS[name] for name in names], ids=names)(_net)


net = _fixture(*KINDS)
plain = _fixture("twisted-plain", "ours-plain")
secure = _fixture("twisted-tls", "ours-tls")
ours = _fixture("ours-plain", "ours-tls")
ours_plain = _fixture("ours-plain")
ours_secure = _fixture("ours-tls")
not_stock_tls = _fixture("twisted-plain", "ours-plain", "ours-tls")
