"""Random bytes of the system for ids, keys and masks, without a system call for each."""

from __future__ import annotations

import os

_SIZE = 16
_CHUNKS = 256
_unused: list[bytes] = []


def random_bytes(count: int) -> bytes:
    """Return so many random bytes of the system, 16 at most.

    No byte is returned twice.  A forked process discards the unused bytes of its parent.
    """
    try:
        return _unused.pop()[:count]  # in one step, so that two threads do not get the same
    except IndexError:
        octets = os.urandom(_SIZE * _CHUNKS)
        chunks = [octets[at : at + _SIZE] for at in range(0, len(octets), _SIZE)]
        _unused.extend(chunks[1:])
        return chunks[0][:count]


os.register_at_fork(after_in_child=_unused.clear)
