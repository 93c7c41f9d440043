"""Session ids: unique, also in the children of a process."""

import os
import re

from esxiproxy.net.sessions import session_id


def test_ids_have_64_random_bits_and_do_not_repeat():
    found = [session_id() for _ in range(5000)]
    assert len(set(found)) == 5000
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in found)


def test_a_forked_child_has_ids_of_its_own():
    session_id()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, "".join(session_id() for _ in range(500)).encode())
        os._exit(0)
    os.close(writer)
    assert os.waitpid(child, 0)[1] == 0
    with open(reader, "rb") as file:
        octets = file.read().decode()
    theirs = {octets[place : place + 16] for place in range(0, len(octets), 16)}
    assert len(theirs) == 500
    assert not theirs & {session_id() for _ in range(500)}
