"""The memory that the workers of a generation share: who holds how many connections, and who is alive."""

from __future__ import annotations

import mmap
import os

from esxiproxy.workers.shared.balancing import WorkerLoad

_FIELDS = 2
_SIZE = 8
_NANOSECONDS = 1e9


class Scoreboard:
    """Two numbers for each worker, which it alone writes: the connections held, and the time of writing.

    The time is negative when the worker is alive and takes no connections any more.  Each number is eight
    bytes at a multiple of eight, so that nobody ever reads half of one.  One that is a moment old does no
    harm: it is one connection more or less.
    """

    def __init__(self, descriptor: int, workers: int) -> None:
        self.descriptor = descriptor
        self._workers = workers
        self._map = mmap.mmap(descriptor, workers * _FIELDS * _SIZE)
        self._memory = memoryview(self._map).cast("q")

    @classmethod
    def new(cls, workers: int) -> Scoreboard:
        """A board on which nobody is alive yet.  Raises OSError."""
        descriptor = os.memfd_create("esxiproxy-workers")
        try:
            os.ftruncate(descriptor, workers * _FIELDS * _SIZE)
            return cls(descriptor, workers)
        except OSError:
            os.close(descriptor)
            raise

    def shares(self) -> list[WorkerLoad]:
        """What all of them say."""
        memory = self._memory
        return [
            WorkerLoad(memory[index], memory[index + 1] / _NANOSECONDS)
            for index in range(0, self._workers * _FIELDS, _FIELDS)
        ]

    def set_connections(self, number: int, connections: int) -> None:
        """Say how many it holds."""
        self._memory[number * _FIELDS] = connections

    def heartbeat(self, number: int, nanoseconds: int) -> None:
        """Say that it is alive at this time, and takes connections; 0: it is not."""
        self._memory[number * _FIELDS + 1] = nanoseconds

    def heartbeat_draining(self, number: int, nanoseconds: int) -> None:
        """Say that it is alive at this time, and takes no connections."""
        self._memory[number * _FIELDS + 1] = -nanoseconds

    def clear(self, number: int) -> None:
        """There is no such worker."""
        self.heartbeat(number, 0)
        self.set_connections(number, 0)

    def close(self) -> None:
        """Let go of it; the memory itself goes with the last process that has it."""
        self._memory.release()
        self._map.close()  # it has a descriptor of its own
        os.close(self.descriptor)
