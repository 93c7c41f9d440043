"""Random bytes that are read from the system many at once."""

import os
from threading import Thread

import pytest

from esxiproxy.core import random_bytes as module
from esxiproxy.core.random_bytes import random_bytes


def test_no_bytes_are_returned_twice_in_any_thread():
    found: list[bytes] = []
    threads = [Thread(target=lambda: found.extend(random_bytes(16) for _ in range(2000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8000 and {len(each) for each in found} == {16}


@pytest.mark.parametrize("count", [0, 4, 8, 16])
def test_as_many_bytes_as_wanted_are_returned(count):
    assert len(random_bytes(count)) == count


def test_a_forked_process_does_not_have_the_bytes_of_its_parent():
    while not module._unused:
        random_bytes(4)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, b"%d" % len(module._unused))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 10) == b"0" and module._unused
    os.close(reading), os.close(writing)
