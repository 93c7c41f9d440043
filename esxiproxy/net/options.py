"""Autobahn's options, as both legs have them."""

from __future__ import annotations


class Options:
    """Every option that Autobahn would copy from its factory at each connection, set once and for all.

    With ``CONFIG_ATTRS`` empty nothing is copied (and nothing pretty-printed).  All timers are off:
    Autobahn's ignore the reactor that they were given.  No web page, no draft versions, no compression, no
    drop in place of a close code.
    """

    CONFIG_ATTRS = ()
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
