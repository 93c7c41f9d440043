"""What can befall the process and what it stands on: each one has a test of its name in `test_mishaps`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mishap:
    """One of them, and what is seen of it."""

    name: str
    how: str
    seen: str


MISHAPS = (
    Mishap(
        "full_disk",
        "the disk under the access log is full",
        "consoles open, run and close; lines are dropped, and the log counts them once a minute; "
        "when there is room again, lines are written again",
    ),
    Mishap(
        "vanished_folder",
        "the folder of the access log is gone when SIGUSR1 comes",
        "the log says that the file cannot be reopened, and the old file is written to",
    ),
    Mishap(
        "stuck_reader",
        "whoever reads the access log from the standard output stops reading",
        "consoles open, run and close; up to 1 MiB of lines wait, the rest is dropped and counted",
    ),
    Mishap(
        "full_disk_under_the_log",
        "the disk under the process's own log is full",
        "consoles open, run and close; lines are dropped, and when there is room again the log itself says "
        "how many",
    ),
    Mishap(
        "unread_log",
        "whoever reads the process's own log from the standard output stops reading",
        "consoles open, run and close; up to 1 MiB of lines wait, the rest is dropped; when the log is read "
        "again, it says how many",
    ),
    Mishap(
        "unread_log_of_workers",
        "the same, with several workers",
        "the master goes on watching: a worker that dies is replaced",
    ),
    Mishap(
        "unread_log_at_the_end",
        "the same, and SIGTERM",
        "the process waits a second for the reader, and ends with status 0",
    ),
    Mishap("gone_syslog", "there is no syslog", "lines are dropped, and the log counts them once a minute"),
    Mishap(
        "raising_observer",
        "an observer raises",
        "the log has the traceback, the other observers are told as well, the console does not notice",
    ),
    Mishap(
        "sigterm_while_opening",
        "SIGTERM while an upstream thinks",
        "new clients find no port; the opening goes on for `drain_timeout`, then it is a 503 `Draining`",
    ),
    Mishap(
        "sigterm_while_open",
        "SIGTERM while a console is open",
        "it runs on for `drain_timeout`, then both sides get a Close 1001 with the reason; "
        "the record is `Draining`",
    ),
    Mishap(
        "sigterm_between_requests",
        "SIGTERM while an HTTP connection waits for its next request",
        "it is closed at once",
    ),
    Mishap(
        "second_sigterm",
        "a second SIGTERM while consoles run on",
        "both sides of each are cut off at once, the record is `Draining`, the status of the process 0",
    ),
    Mishap(
        "sighup_with_a_bad_file",
        "SIGHUP, and the configuration has an error",
        "the log says which; everything goes on as it was, and no console notices",
    ),
    Mishap(
        "sigusr1_without_a_file",
        "SIGUSR1, and no log goes to a file",
        "nothing",
    ),
    Mishap(
        "sigkill",
        "SIGKILL",
        "both sides' connections are closed by the kernel; a client has no Close (1006 to a browser)",
    ),
    Mishap(
        "locked_state",
        "the database of the shared state is locked, or its disk is full",
        "a new console is a 503 `StateUnavailable`, after a second or at once; those that run go on; "
        "it goes on by itself, with all that has ended meanwhile given back",
    ),
    Mishap(
        "removed_state",
        "the database of the shared state is removed",
        "it is made again within 5 seconds, with all that the consoles here have taken",
    ),
    Mishap(
        "second_sigterm_with_a_locked_state",
        "a second SIGTERM while the database of the shared state is locked",
        "the process ends at once, with status 0; what it had comes back with its lease",
    ),
    Mishap(
        "few_descriptors",
        "there are few descriptors left",
        "a new console is a 503 `OutOfDescriptors`; those that run go on",
    ),
    Mishap(
        "no_descriptor",
        "there is none left to accept with",
        "clients wait in the kernel's queue; the log says so every 5 seconds at most; it goes on by itself",
    ),
)
