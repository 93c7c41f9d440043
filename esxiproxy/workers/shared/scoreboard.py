"""The shared memory of a generation: the connections and the last heartbeat of each worker."""

from __future__ import annotations

import mmap
import os

from esxiproxy.workers.shared.balancing import WorkerLoad

_FIELDS = 2
_SIZE = 8
_NANOSECONDS = 1e9


class Scoreboard:
    """Two numbers for each worker: its open connections, and the time of its last heartbeat.

    Only the worker itself writes its numbers, and the master clears them when it has exited.  The time is
    negative when the worker accepts no more connections.  Each number is eight bytes and aligned, so a read
    never returns a part of an old and a part of a new number.  Slightly stale values are acceptable: the
    balance is off by one connection at most.
    """

    def __init__(self, descriptor: int, workers: int) -> None:
        self.descriptor = descriptor
        self._workers = workers
        self._map = mmap.mmap(descriptor, workers * _FIELDS * _SIZE)
        self._memory = memoryview(self._map).cast("q")

    @classmethod
    def new(cls, workers: int) -> Scoreboard:
        """Create a scoreboard without heartbeats.  Raises OSError."""
        descriptor = os.memfd_create("esxiproxy-workers")
        try:
            os.ftruncate(descriptor, workers * _FIELDS * _SIZE)
            return cls(descriptor, workers)
        except OSError:
            os.close(descriptor)
            raise

    def loads(self) -> list[WorkerLoad]:
        """Return the load of each worker, by number."""
        memory = self._memory
        return [
            WorkerLoad(memory[index], memory[index + 1] / _NANOSECONDS)
            for index in range(0, self._workers * _FIELDS, _FIELDS)
        ]

    def set_connections(self, number: int, connections: int) -> None:
        """Write the number of open connections of a worker."""
        self._memory[number * _FIELDS] = connections

    def heartbeat(self, number: int, nanoseconds: int) -> None:
        """Write the time of a heartbeat of a worker that accepts connections."""
        self._memory[number * _FIELDS + 1] = nanoseconds

    def heartbeat_draining(self, number: int, nanoseconds: int) -> None:
        """Write the time of a heartbeat of a worker that accepts no connections."""
        self._memory[number * _FIELDS + 1] = -nanoseconds

    def clear(self, number: int) -> None:
        """Clear the numbers of a worker that has exited."""
        self.heartbeat(number, 0)
        self.set_connections(number, 0)

    def close(self) -> None:
        """Close the memory in this process; the kernel frees it when all processes have closed it."""
        self._memory.release()
        self._map.close()  # the mapping has its own descriptor
        os.close(self.descriptor)
