"""Autobahn's options and its state at the start, as both legs have them."""

from __future__ import annotations

from autobahn.websocket.protocol import WebSocketProtocol


class AutobahnOptions:
    """What Autobahn would copy from its factory and set up at each connection, once and for all.

    No web page, no draft versions, no compression, no drop in place of a close code.  All timers are off:
    Autobahn's ignore the reactor that they were given.
    """

    logOctets = logFrames = trackTimings = False
    utf8validateIncoming = False
    applyMask = True
    maxFramePayloadSize = maxMessagePayloadSize = autoFragmentSize = 0
    failByDrop = False
    echoCloseCodeReason = True
    openHandshakeTimeout = closeHandshakeTimeout = 0
    tcpNoDelay = True
    autoPingInterval = autoPingTimeout = 0
    autoPingSize = 12
    autoPingRestartOnAnyTraffic = False
    perMessageCompressionAccept = staticmethod(lambda _offers: None)

    state = WebSocketProtocol.STATE_CONNECTING
    inside_message = False
    websocket_version = 13
    autoPingPending = None
    _perMessageCompress = None
