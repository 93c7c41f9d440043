"""Faults of the process and its environment: each has a test of its name in this folder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mishap:
    """One fault of the process, and its visible effect."""

    name: str
    how: str
    seen: str


MISHAPS = (
    Mishap(
        "full_disk",
        "the disk under the access log is full",
        "consoles are not affected; lines are dropped, and the process's own log counts them once a minute; "
        "lines are written again when the disk has space",
    ),
    Mishap(
        "vanished_folder",
        "the folder of the access log is missing at SIGUSR1",
        "the log says that the file cannot be reopened, and the old file stays in use",
    ),
    Mishap(
        "stuck_reader",
        "the reader of the access log on the standard output stops reading",
        "consoles are not affected; 1 MiB of lines is buffered, the rest is dropped and counted",
    ),
    Mishap(
        "full_disk_under_the_log",
        "the disk under the process's own log is full",
        "consoles are not affected; lines are dropped, and their number is logged when the disk has space",
    ),
    Mishap(
        "unread_log",
        "the reader of the process's own log on the standard output stops reading",
        "consoles are not affected; 1 MiB of lines is buffered, the rest is dropped; the number of dropped "
        "lines is logged when the reader continues",
    ),
    Mishap(
        "unread_log_of_workers",
        "the reader of the log stops reading, with multiple workers",
        "the master keeps monitoring: a crashed worker is replaced",
    ),
    Mishap(
        "unread_log_at_the_end",
        "the reader of the log has stopped reading at SIGTERM",
        "the process waits a second for the reader and exits with status 0",
    ),
    Mishap(
        "gone_syslog", "syslog is not available", "lines are dropped, and the log counts them once a minute"
    ),
    Mishap(
        "raising_observer",
        "an observer raises",
        "the log has the traceback; other observers and the console are not affected",
    ),
    Mishap(
        "sigterm_while_opening",
        "SIGTERM before an upstream has answered",
        "new connections are refused; the handshake has `drain_timeout`, then it gets 503 `Draining`",
    ),
    Mishap(
        "sigterm_while_open",
        "SIGTERM while a console is open",
        "it stays open for `drain_timeout`, then both sides get a Close 1001 with the reason; "
        "the record has `Draining`",
    ),
    Mishap(
        "sigterm_between_requests",
        "SIGTERM while an HTTP connection is idle between requests",
        "the connection is closed at once",
    ),
    Mishap(
        "second_sigterm",
        "a second SIGTERM while consoles are open",
        "both sides of each are aborted at once, the record has `Draining`, the exit status is 0",
    ),
    Mishap(
        "sighup_with_a_bad_file",
        "SIGHUP, and the configuration has an error",
        "the log has the error; nothing changes, and consoles are not affected",
    ),
    Mishap(
        "sigusr1_without_a_file",
        "SIGUSR1 without a log file",
        "no effect",
    ),
    Mishap(
        "sigkill",
        "SIGKILL",
        "the kernel closes all connections; clients get no Close (1006 in a browser)",
    ),
    Mishap(
        "locked_state",
        "the database of the shared state is locked, or its disk is full",
        "new consoles get 503 `StateUnavailable`, after a second or at once; open consoles continue; slots "
        "that they release are returned when the database is available again",
    ),
    Mishap(
        "removed_state",
        "the database of the shared state is removed",
        "it is created again within 5 seconds, with the slots of the open consoles",
    ),
    Mishap(
        "second_sigterm_with_a_locked_state",
        "a second SIGTERM while the database of the shared state is locked",
        "the process exits at once with status 0; its slots are released when its lease expires",
    ),
    Mishap(
        "few_descriptors",
        "few file descriptors are left",
        "new consoles get 503 `OutOfDescriptors`; open consoles continue",
    ),
    Mishap(
        "no_descriptor",
        "no file descriptor is left to accept with",
        "clients wait in the kernel's queue; a warning is logged every 5 seconds at most; accepting resumes "
        "when a descriptor is free",
    ),
)
