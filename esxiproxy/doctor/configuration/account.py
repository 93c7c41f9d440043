"""The user that runs the proxy, whose permissions the doctor takes on for a moment."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class UnknownAccount(ValueError):
    """Raised for a user that does not exist, or whose permissions cannot be taken on."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user, with the user's groups."""

    name: str
    user: int
    group: int
    groups: tuple[int, ...]

    @classmethod
    def current(cls) -> Account:
        """Return the user of this process."""
        user = os.geteuid()
        try:
            name = pwd.getpwuid(user).pw_name
        except KeyError:  # a container may run as a user without an entry
            name = str(user)
        return cls(name, user, os.getegid(), tuple(os.getgroups()))

    @classmethod
    def named(cls, name: str) -> Account:
        """Return the user of this name.  Raises UnknownAccount unless its permissions can be taken on."""
        try:
            entry = pwd.getpwnam(name)
        except (KeyError, ValueError):
            raise UnknownAccount(f"no user {name!r} on this machine") from None
        if entry.pw_uid == os.geteuid():
            return cls.current()
        if os.geteuid() != 0:
            raise UnknownAccount(
                f"the permissions of {name} can be checked by root and by {name} only: run it as one of them"
            )
        groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, groups)

    @property
    def group_name(self) -> str:
        """The name of the user's main group."""
        try:
            return grp.getgrgid(self.group).gr_name
        except KeyError:
            return str(self.group)

    @property
    def is_root(self) -> bool:
        """Whether the user may read and write every file."""
        return self.user == 0

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Give this process the permissions of the user in the block.

        Only root can take on those of another user.  No other thread may run meanwhile, since the permissions
        are those of the whole process.
        """
        user, group, groups = os.geteuid(), os.getegid(), os.getgroups()
        if user == self.user:
            yield
            return
        os.setgroups(self.groups)
        try:
            os.setegid(self.group)
            os.seteuid(self.user)
            yield
        finally:
            os.seteuid(user)
            os.setegid(group)
            os.setgroups(groups)
