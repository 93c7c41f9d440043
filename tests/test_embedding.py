"""The public names for other Twisted applications, which cost nothing until they are used."""

import ast
import inspect
import json
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.internet.selectreactor import SelectReactor

import esxiproxy
from esxiproxy.net.transport.port import TCPPort

PUBLIC = {
    *("Proxy", "ListenerTLS", "CurrentContext", "listener_context", "SessionLimits"),
    "with_fast_transports",
    *("Upstream", "Verify", "Pin", "Subprotocol", "TLSProfile", "Route", "Principal"),
    *("Request", "RequestHead", "PeerAddress", "Session", "Record"),
    *("IRouter", "IAuthenticator", "ISessionObserver"),
    *("SessionError", "AccessDenied", "AddressDenied", "RouteNotFound"),
    *("LimitReached", "StateUnavailable", "Killed"),
    *("Drain", "DrainKind", "ProcessIdentity"),
    *("ConnectionLimits", "ListenerPolicy", "Http"),
    *("load", "Config", "ConfigError", "ProxyService", "StaticRouter"),
}
ROOT = Path(__file__).parents[1]


def python(program):
    """Return the output of a program in a fresh interpreter, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_these_are_the_public_names_and_no_others():
    assert set(esxiproxy.__all__) == PUBLIC
    assert set(esxiproxy.__all__) <= set(dir(esxiproxy))


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_public_name_exists_and_has_a_docstring(name):
    value = getattr(esxiproxy, name)
    assert value.__name__ == name and value.__module__.startswith("esxiproxy.")
    assert value.__doc__, f"{name} has no docstring"


def test_type_checkers_see_the_same_names():
    tree = ast.parse((ROOT / "esxiproxy" / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == PUBLIC


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Frontend'"):
        esxiproxy.Frontend  # noqa: B018


def test_import_esxiproxy_imports_nothing_else_of_weight():
    loaded = python("import sys, json, esxiproxy; print(json.dumps(sorted(sys.modules)))")
    assert [name for name in loaded if name.startswith("esxiproxy")] == ["esxiproxy"]
    heavy = {"twisted", "autobahn", "OpenSSL", "zope.interface", "cryptography"}
    assert not heavy & set(loaded)


def test_no_public_name_installs_a_reactor():
    program = (
        "import sys, json, esxiproxy\n"
        "for name in esxiproxy.__all__: getattr(esxiproxy, name)\n"
        "print(json.dumps('twisted.internet.reactor' in sys.modules))"
    )
    assert python(program) is False


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_explained(name):
    assert f"`{name}" in (ROOT / "docs" / "embedding.md").read_text()


def documented_signatures():
    """Return the calls in the first block of the section "Signatures"."""
    text = (ROOT / "docs" / "embedding.md").read_text().partition("## Signatures")[2]
    block = text.partition("```python\n")[2].partition("```")[0]
    written = re.sub(r"\(([^()]*)\*, ", r"(\1", block)  # a bare star is no expression
    calls = [statement.value for statement in ast.parse(re.sub(r"=\.\.\.", "=Ellipsis", written)).body]
    return {ast.unparse(call.func): call for call in calls}


SIGNATURES = documented_signatures()


def found(dotted):
    value = esxiproxy
    for name in dotted.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize("dotted", sorted(SIGNATURES))
def test_the_documented_signature_is_the_real_one(dotted):
    call = SIGNATURES[dotted]
    parameters = dict(inspect.signature(found(dotted)).parameters)
    parameters.pop("self", None)
    names = [ast.unparse(argument) for argument in call.args]
    defaults = {keyword.arg: keyword.value for keyword in call.keywords}
    assert [*names, *defaults] == list(parameters)
    assert all(parameters[name].default is inspect.Parameter.empty for name in names)
    for name, default in defaults.items():
        assert parameters[name].default is not inspect.Parameter.empty, name
        if ast.unparse(default) != "Ellipsis":
            assert parameters[name].default == ast.literal_eval(default), name


def test_the_signatures_that_an_application_needs_are_documented():
    assert {"Proxy", "Proxy.listener", "ListenerPolicy", "ConnectionLimits", "SessionLimits"} <= set(
        SIGNATURES
    )


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="needs epoll")
def test_ports_of_the_wrapped_reactor_have_fast_transports_and_share_the_loop_of_the_proxy(monkeypatch):
    monkeypatch.delenv("ESXIPROXY_TRANSPORTS", raising=False)
    reactor = esxiproxy.with_fast_transports(SelectReactor())
    proxy = esxiproxy.Proxy(reactor)
    upstream = esxiproxy.Upstream("esxi1", "192.0.2.10", 443, secure=True)
    port = reactor.listenTCP(0, proxy.listener("a", esxiproxy.StaticRouter(upstream)), interface="127.0.0.1")
    try:
        assert isinstance(port, TCPPort)
        assert proxy._reactor is reactor
    finally:
        port.stopListening()
