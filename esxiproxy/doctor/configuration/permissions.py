"""The permissions of the files of a configuration: whether the proxy can use them, and who else can."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from esxiproxy.doctor.configuration.account import Account
from esxiproxy.doctor.configuration.files import FileUse, NamedFile
from esxiproxy.doctor.configuration.result import CheckKind, CheckResult, CheckVerdict

Fault = tuple[CheckVerdict, str]


@dataclass(frozen=True, slots=True)
class _Status:
    """The mode of a file, None if it does not exist, and whether all users reach its folder.

    ``folders`` are those on the way to the file, from the root, and those on the way to its real place if the
    file or a folder is a symbolic link.
    """

    mode: int | None
    is_reached: bool
    folders: tuple[Path, ...]


def permission_findings(files: Iterable[NamedFile], account: Account) -> list[CheckResult]:
    """Return the findings on files that the user cannot use, or that others can read or change.

    Symbolic links are followed.  Called while no other thread runs.
    """
    statuses = [(file, _status(file.path)) for file in files]
    with account.acting():
        unusable = [list(_unusable(file, status, account)) for file, status in statuses]
    results = []
    for (file, status), faults in zip(statuses, unusable, strict=True):
        for verdict, finding in (*faults, *_exposed(file, status)):
            name = file.key or "file"
            results.append(CheckResult(CheckKind.FILE, verdict, file.section, name, str(file.path), finding))
    return results


def _status(path: Path) -> _Status:
    try:
        mode = path.stat().st_mode
    except OSError:
        mode = None
    named, real = path.absolute().parents, Path(os.path.realpath(path)).parents
    is_reached = all(_mode_of(folder) & stat.S_IXOTH for folder in real)
    return _Status(mode, is_reached, tuple(dict.fromkeys((*reversed(named), *reversed(real)))))


def _mode_of(folder: Path) -> int:
    try:
        return folder.stat().st_mode
    except OSError:
        return 0


# What the proxy cannot do


def _unusable(file: NamedFile, status: _Status, account: Account) -> Iterator[Fault]:
    """Yield the uses of a file that are not permitted.  The process has the permissions of the user."""
    user, folder = f"the user {account.name}", file.path.absolute().parent
    closed = next((each for each in status.folders if not _may(each, os.X_OK)), None)
    if closed is not None:
        yield _error(f"{user} cannot enter the folder {closed}: {_grant(account, 'x', closed)}")
    elif file.use is FileUse.SOCKET:
        if not _may(folder, os.W_OK | os.X_OK):
            grant = _grant(account, "rwx", folder)
            yield _error(f"{user} cannot create the socket in {folder}: {grant}")
    elif status.mode is None and file.use is FileUse.READ:
        yield _error("does not exist: create it, or correct the key")
    elif status.mode is None:
        if not _may(folder, os.W_OK | os.X_OK):
            grant = _grant(account, "rwx", folder)
            yield _error(f"does not exist, and {user} cannot create it in {folder}: {grant}")
    elif file.use is FileUse.READ:
        rights, mode = ("rx", os.R_OK | os.X_OK) if stat.S_ISDIR(status.mode) else ("r", os.R_OK)
        if not _may(file.path, mode):
            yield _error(f"{user} cannot read it: {_grant(account, rights, file.path)}")
    elif file.use is FileUse.HOST_KEY:
        if not _may(file.path, os.R_OK):
            yield _error(f"{user} cannot read it: {_own(account, file.path)}")
    elif not _may(file.path, os.W_OK if file.use is FileUse.APPEND else os.W_OK | os.R_OK):
        yield _error(f"{user} cannot write to it: {_own(account, file.path)}")
    elif not _may(folder, os.W_OK | os.X_OK):
        yield _closed_to_new_files(file, folder, account)


def _closed_to_new_files(file: NamedFile, folder: Path, account: Account) -> Fault:
    """Return the finding on a folder in which the user can write to a file and create no others."""
    grant = _grant(account, "rwx", folder)
    cannot = f"the user {account.name} cannot create files in {folder}"
    if file.use is FileUse.DATABASE:
        return _error(f"{cannot}, as SQLite does, so new consoles are refused (StateUnavailable): {grant}")
    return _warning(
        f"{cannot}, so after a rotation the log is opened again only if logrotate creates it: {grant}, or "
        "write `create` into the configuration of logrotate"
    )


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


# What others can do


def _exposed(file: NamedFile, status: _Status) -> Iterator[Fault]:
    """Yield the rights of others on a file that they should not have."""
    mode = status.mode
    if mode is None:
        return
    path, every = shlex.quote(str(file.path)), "every user of this machine can"
    if file.use is FileUse.HOST_KEY and mode & 0o077:
        yield _error(
            "users other than its owner can use the host key, so the proxy does not start: remove the file, "
            "and the next start creates a new key"
        )
        return
    if status.is_reached and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        yield _warning(f"{every} change it: chmod o-w {path}")
    if not file.is_secret or stat.S_ISDIR(mode):
        return
    if status.is_reached and mode & stat.S_IROTH:
        yield _warning(f"{every} read this secret: chmod o-r {path}")
    if mode & stat.S_IWGRP:
        yield _warning(f"the group of the file can change this secret: chmod g-w {path}")


def _error(finding: str) -> Fault:
    return CheckVerdict.ERROR, finding


def _warning(finding: str) -> Fault:
    return CheckVerdict.WARNING, finding


def _grant(account: Account, rights: str, path: Path) -> str:
    """Return the command that gives the user these rights by the group of a file."""
    quoted = shlex.quote(str(path))
    return f"chgrp {account.group_name} {quoted} && chmod g+{rights} {quoted}"


def _own(account: Account, path: Path) -> str:
    return f"chown {account.name} {shlex.quote(str(path))}"
