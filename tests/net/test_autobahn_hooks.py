"""Autobahn's private hooks that esxiproxy overrides or calls still exist."""

import inspect

import pytest
from autobahn.twisted.websocket import (
    WebSocketAdapterProtocol,
    WebSocketClientProtocol,
)
from autobahn.websocket.protocol import WebSocketProtocol

HOOKS = {
    (WebSocketAdapterProtocol, "connectionMade"): "(self)",
    (WebSocketAdapterProtocol, "connectionLost"): "(self, reason)",
    (WebSocketAdapterProtocol, "dataReceived"): "(self, data)",
    (WebSocketAdapterProtocol, "_onOpen"): "(self)",
    (WebSocketProtocol, "consumeData"): "(self)",
    (WebSocketProtocol, "processData"): "(self)",
    (WebSocketProtocol, "processControlFrame"): "(self)",
    (WebSocketProtocol, "onCloseFrame"): "(self, code, reasonRaw)",
    (WebSocketProtocol, "_protocol_violation"): "(self, reason)",
    (WebSocketProtocol, "_invalid_payload"): "(self, reason)",
    (WebSocketProtocol, "sendFrame"): "(self, opcode, payload, fin, rsv, mask, payload_len, chopsize, sync)",
    (WebSocketProtocol, "sendCloseFrame"): "(self, code, reasonUtf8, isReply)",
    (WebSocketProtocol, "sendPing"): "(self, payload)",
    (WebSocketClientProtocol, "processHandshake"): "(self)",
}


@pytest.mark.parametrize(
    ("owner", "name", "signature"), [(*key, value) for key, value in HOOKS.items()], ids=lambda v: str(v)
)
def test_the_hook_is_as_we_know_it(owner, name, signature):
    parameters = inspect.signature(getattr(owner, name)).parameters
    assert f"({', '.join(parameters)})" == signature


@pytest.mark.parametrize("kind", ["server", "client"])
def test_every_option_that_autobahn_would_copy_is_set_by_us(kind):
    """Nothing is copied from the factory, so a missing option is an AttributeError during a session."""
    from esxiproxy.net.console.backend import Backend
    from esxiproxy.net.console.frontend import Frontend, FrontendFactory

    FrontendFactory(None)
    ours = Frontend if kind == "server" else Backend
    own = WebSocketProtocol.CONFIG_ATTRS_SERVER if kind == "server" else WebSocketProtocol.CONFIG_ATTRS_CLIENT
    unused = {"flashSocketPolicy"}
    for option in [*WebSocketProtocol.CONFIG_ATTRS_COMMON, *own]:
        assert option in unused or hasattr(ours, option), option
