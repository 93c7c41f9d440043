"""Sizes and counts that bound the work of one event and of one turn of the reactor.

The compiled part has the same bounds under the same names (``compiled.h``), and three of its own.

A session queues 256 KiB at most, 128 KiB for each direction.  That is a write buffer that is just below
``HIGH_WATER``, with what one event reads (``READ_SIZE``, or ``TLS_READ_SIZE``) on top of it.
"""

HIGH_WATER = 32 * 1024
"""Bytes in a write buffer above which a push producer is paused.  It is resumed when the buffer is empty."""

READ_SIZE = 96 * 1024
"""Maximum bytes that one event reads from a plain socket.

Twisted's read size and high-water mark are 64 KiB each.  This pair needs as much memory and copies a third
faster.
"""

RECORD_SIZE = 16 * 1024
"""Maximum plaintext of a TLS record (RFC 8446 5.1).

A read with this much space takes a whole record, so that no plaintext stays in OpenSSL, where epoll does not
see it.
"""

RECORDS_PER_EVENT = 6
"""Maximum full TLS records that one event reads or writes before other streams are served."""

TLS_READ_SIZE = RECORDS_PER_EVENT * RECORD_SIZE
"""Maximum bytes that one event reads from a TLS stream; the protocol gets them in one piece."""

SMALL_RECORD = 1024
"""Size in bytes of a TLS record below which it is taken for the last one.

Behind a larger record, the next one is read at once.  Behind a smaller one, epoll reports whether there is
another.
"""

MAX_EVENTS = 256
"""Maximum streams that one call of epoll returns."""

STREAMS_PER_TURN = 64
"""Streams served after which the reactor gets its turn.  A batch of epoll is always served whole."""
