"""The Autobahn options and the initial state that both legs share."""

from __future__ import annotations

from autobahn.websocket.protocol import WebSocketProtocol


class AutobahnOptions:
    """Class attributes in place of those that Autobahn copies from its factory for each connection.

    They switch off the status page, draft versions, compression and the drop in place of a Close frame.
    Autobahn's timers are off, since they ignore the reactor that was passed to the factory.
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
