"""Several processes that use one database at the same moment."""

import subprocess
import sys

from tests.support.programs import environment

_PATIENT = "from esxiproxy.state import tables; tables.BUSY_TIMEOUT = 30.0\n"
"""SQLite does not let the processes in by turns, so one may have to wait long on a busy machine."""


def race(script, path, count):
    """Run the script in so many processes; return the number that each of them prints.

    The arguments of a process are the path and its own number.  It waits for a line of input before it
    begins, and for another one before it ends.
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment()}
    command = [sys.executable, "-c", _PATIENT + script, str(path)]
    racers = [subprocess.Popen([*command, str(number)], **pipes) for number in range(count)]
    for racer in racers:
        racer.stdin.write("go\n"), racer.stdin.flush()
    printed = [int(racer.stdout.readline()) for racer in racers]
    for racer in racers:
        racer.communicate("go\n", timeout=60)
    return printed
