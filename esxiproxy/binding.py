"""Binds Twisted endpoints, and takes over unix sockets that a killed process has left."""

from __future__ import annotations

import grp
import os
import secrets
import socket
import stat
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    UNIXServerEndpoint,
    serverFromString,
)
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.core.config.listen_address import LONGEST_PATH
from esxiproxy.core.startup import BindError

Thing = TypeVar("Thing")
_LISTEN_DELAY = 0.05
"""Seconds after which a socket that a running process has bound is probed again."""

_log = Logger()


class Binding:
    """A Twisted endpoint description, and the port that is bound to it.

    ``inherited`` is a listening socket that is used instead of binding ``endpoint``.  It is not shut down by
    ``release``, since other processes may share it.
    """

    def __init__(self, endpoint: str, reactor: Any, inherited: socket.socket | None = None) -> None:
        self.endpoint = endpoint
        self.port: IListeningPort | None = None
        """The bound port, None while nothing is bound."""
        self._reactor = reactor
        self._inherited = inherited
        self._path = ""
        self._file: os.stat_result | None = None

    def bind(self, factory: Any) -> None:
        """Bind, and listen with the factory.  Raises BindError, or the error of the endpoint."""
        if self._inherited is not None:
            self._inherited.setblocking(False)
            descriptor, family = self._inherited.fileno(), self._inherited.family
            self.port = self._reactor.adoptStreamPort(descriptor, family, factory)
            return
        endpoint: Any = serverFromString(self._reactor, self.endpoint)
        if isinstance(endpoint, AdoptedStreamServerEndpoint):
            # systemd's socket stays open, so that a later reload finds it under the same number.
            cast(Any, endpoint)._close = lambda _descriptor: None
        if isinstance(endpoint, UNIXServerEndpoint):
            self._path = os.path.abspath(os.fsdecode(cast(Any, endpoint)._address))
            remove_stale(os.fsdecode(cast(Any, endpoint)._address))
        failures: list[Failure] = []
        endpoint.listen(factory).addCallbacks(self._bound, failures.append)
        if failures:
            failures[0].raiseException()

    def _bound(self, port: IListeningPort) -> None:
        self.port = port
        with suppress(OSError, ValueError):  # an abstract address has no file
            self._file = os.stat(self._path) if self._path else None

    @property
    def is_removed(self) -> bool:
        """Whether clients cannot reach a unix socket any more, since its file was removed or replaced."""
        if self.port is None or self._file is None:
            return False
        try:
            return not os.path.samestat(os.stat(self._path), self._file)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # whether the file is there cannot be found out
            return False

    def release(self, shared: bool = False) -> Deferred[None]:
        """Stop listening.  A ``shared`` socket is not shut down, so that other processes can accept on it."""
        is_removed = self.is_removed
        port, self.port = self.port, None
        if is_removed:
            self._leave_files(port)
        if shared and port is not None:
            cast(Any, port)._shouldShutdown = False
        return succeed(None) if port is None else maybeDeferred(cast(Any, port.stopListening))

    def _leave_files(self, port: Any) -> None:
        """Keep Twisted from removing the file at the path and its lock, which are those of another socket."""
        if not os.path.lexists(self._path) and _lock_owner(self._path) == os.getpid():
            _unlink_lock(self._path)
        port.lockFile = None
        port._bindPath = b"\0" + port._bindPath  # Twisted does not remove an abstract address
        port._logConnectionLostMsg = lambda: None  # it would log the NUL

    @property
    def address(self) -> str:
        """The bound address as text, such as ``127.0.0.1:443`` or ``unix:/run/proxy.sock``."""
        assert self.port is not None
        host: Any = self.port.getHost()
        if not hasattr(host, "port"):
            name = host.name
            return f"unix:{name.decode() if isinstance(name, bytes) else name}"
        return f"[{host.host}]:{host.port}" if ":" in host.host else f"{host.host}:{host.port}"


def remove_stale(path: str) -> None:
    """Remove a unix socket on which no process listens any more, and its lock file.

    A killed process leaves both.  The PID in the lock file may belong to another process by now, in a
    container almost always, so a connection to the socket decides.  Raises BindError when the path is in use.
    """
    if path.startswith("\0"):  # an abstract address has no file
        return
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        owner = _running_lock_owner(path)
        if owner is not None:
            raise BindError(
                f"process {owner} has locked {path}, whose socket was removed: stop that process, "
                f"or remove {path}.lock if the process is not a proxy"
            ) from None
        _unlink_lock(path)
        return
    except OSError as error:
        raise BindError(f"{path} cannot be examined: {error.strerror}") from error
    if not stat.S_ISSOCK(mode):
        raise BindError(f"{path} exists and is not a socket: remove it, or listen elsewhere")
    _check_stale(path, path)
    aside = os.path.join(os.path.dirname(path), secrets.token_hex(4))
    try:
        os.rename(path, aside)
        try:  # another process may have bound the path since
            if len(os.fsencode(aside)) <= LONGEST_PATH:
                _check_stale(aside, path)
        except BindError:
            os.rename(aside, path)
            raise
        os.unlink(aside)
        _unlink_lock(path)
    except OSError as error:
        raise BindError(
            f"{path} is a socket of no process, and cannot be removed: {error.strerror}"
        ) from error
    _log.info("removed {path}, the socket of a process that no longer runs", path=path)


def _check_stale(place: str, path: str) -> None:
    """Raise BindError unless the kernel says that no process listens on the socket at ``place``.

    A process that starts binds its socket a moment before it listens.  So when the process that holds the
    lock is running, the socket is probed a second time.
    """
    refused = _refuses(place, path)
    if refused and _running_lock_owner(path) is not None:
        time.sleep(_LISTEN_DELAY)
        refused = _refuses(place, path)
    if not refused:
        raise BindError(f"another process listens on {path}: stop it, or listen elsewhere")


def _refuses(place: str, path: str) -> bool:
    """Return whether a connection to the socket is refused.  Raises BindError if it cannot be used."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(place)
        except ConnectionRefusedError:
            return True
        except BlockingIOError:  # its queue is full
            return False
        except OSError as error:
            raise BindError(
                f"{path} exists and may be in use: {error.strerror}; remove it if no process uses it"
            ) from error
    return False


def _running_lock_owner(path: str) -> int | None:
    """Return the PID in the lock file of a socket if it is a running process other than this one."""
    owner = _lock_owner(path)
    if owner is None or owner == os.getpid():
        return None
    try:
        os.kill(owner, 0)
    except PermissionError:  # it runs as another user
        return owner
    except (OSError, OverflowError):
        return None
    return owner


def _lock_owner(path: str) -> int | None:
    """Return the PID in the lock file of a socket, None if there is none."""
    try:
        return int(os.readlink(f"{path}.lock"))
    except (OSError, ValueError):
        return None


def _unlink_lock(path: str) -> None:
    """Remove Twisted's lock file of a socket, which is a symbolic link."""
    lock = f"{path}.lock"
    if os.path.islink(lock):
        with suppress(OSError):
            os.unlink(lock)


def set_socket_group(path: str, group: str) -> Callable[[], None]:
    """Let the members of a group open a unix socket, or its owner only when ``group`` is empty.

    Return a function that gives the socket its former group and mode back.  A socket that is as wanted is not
    changed, since a process that has given up root may not change it.  Raises BindError.
    """
    try:
        before = os.stat(path)
        _set_access(path, grp.getgrnam(group).gr_gid if group else before.st_gid, 0o660 if group else 0o600)
    except (OSError, KeyError) as error:
        why = getattr(error, "strerror", None) or "there is no such group"
        raise BindError(
            f"[admin] socket_group: {path} cannot be given to {group or 'its owner alone'}: {why}; "
            "run as root or as a member of the group"
        ) from error
    return partial(_restore_access, path, before)


def _set_access(path: str, group: int, mode: int) -> None:
    """Give a socket this group and mode; only its owner may open it meanwhile.  Raises OSError."""
    found = os.stat(path)
    if found.st_gid != group:
        os.chmod(path, 0o600)
        try:
            os.chown(path, -1, group)
        except OSError:
            os.chmod(path, stat.S_IMODE(found.st_mode))
            raise
    if stat.S_IMODE(os.stat(path).st_mode) != mode:
        os.chmod(path, mode)


def _restore_access(path: str, before: os.stat_result) -> None:
    try:
        if os.path.samestat(os.stat(path), before):
            _set_access(path, before.st_gid, stat.S_IMODE(before.st_mode))
    except OSError as error:
        _log.error(
            "{path} cannot be given its former group and mode back: {error}; it keeps those of the refused "
            "configuration: restart the proxy",
            path=path,
            error=error.strerror,
        )


def match_endpoints(
    wanted: Iterable[tuple[str, str]], bound: Iterable[tuple[str, str, Thing]]
) -> dict[str, Thing]:
    """Return the bound thing that each wanted listener keeps, by the listener's name.

    ``wanted`` has (name, endpoint) and ``bound`` has (name, endpoint, thing).  The endpoints have to be
    equal; a thing of the same name is preferred to one of another name.
    """
    wanted, free, found = list(wanted), list(bound), dict[str, Thing]()
    for same_name in (True, False):
        for name, endpoint in wanted:
            for each in free:
                if name not in found and each[1] == endpoint and (not same_name or each[0] == name):
                    found[name] = each[2]
                    free.remove(each)
                    break
    return found
