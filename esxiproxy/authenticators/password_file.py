"""Reads the password files of Apache's ``htpasswd``: one user a line, ``NAME:HASH``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from esxiproxy.core.config.file_content import file_content
from esxiproxy.core.passwords import PasswordHash, UnusableHash, parse_hash
from esxiproxy.core.session.connection_limits import ANONYMOUS_NAME
from esxiproxy.plugins import BadValue

MAX_NAME = 255
"""Maximum number of bytes of a user name, as in ``htpasswd``."""
_MAX_FILE = 16 << 20
_MAX_SHOWN = 20
"""Mistakes that one message lists."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A line of a password file that cannot be used, and the reason."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


class PasswordFileError(BadValue):
    """A password file with mistakes.  The text lists them with their lines."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        more = len(self.mistakes) - _MAX_SHOWN
        listed = [str(mistake) for mistake in self.mistakes[:_MAX_SHOWN]]
        super().__init__("; ".join(listed + ([f"and {more} more"] if more > 0 else [])))


@dataclass(frozen=True, slots=True)
class Passwords:
    """The users of a password file, and the hashes of their passwords."""

    users: Mapping[str, PasswordHash] = field(repr=False)
    _hashes: tuple[PasswordHash, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hashes", tuple(self.users.values()))

    def decoy(self, name: str, key: bytes) -> PasswordHash | None:
        """Return a hash to check for a name that is not in the file; None for an empty file.

        The answer is ignored.  The check takes as long as that of a user.  A name always gets the same hash,
        so that its time does not vary where that of a user would not.  ``key`` is random.
        """
        if not self._hashes:
            return None
        digest = blake2b(name.encode("utf-8", "surrogatepass"), key=key, digest_size=8).digest()
        return self._hashes[int.from_bytes(digest) % len(self._hashes)]


def read_passwords(path: Path) -> Passwords:
    """Return the users of a password file.  Raises BadValue, with all mistakes of the file."""
    return parse_passwords(file_content(path, _MAX_FILE))


def parse_passwords(content: bytes) -> Passwords:
    """Return the users in the content of a password file.  Raises PasswordFileError."""
    users: dict[str, PasswordHash] = {}
    lines: dict[str, int] = {}
    mistakes: list[Mistake] = []
    for number, line in enumerate(content.split(b"\n"), 1):
        line = line.strip(b" \t\r")
        if not line or line.startswith(b"#"):
            continue
        try:
            name, password_hash = _user(line)
            if name in lines:
                raise UnusableHash(f"the user {name} is in line {lines[name]} already: remove one of them")
        except UnusableHash as error:
            mistakes.append(Mistake(number, str(error)))
        else:
            users[name], lines[name] = password_hash, number
    if mistakes:
        raise PasswordFileError(mistakes)
    return Passwords(users)


def _user(line: bytes) -> tuple[str, PasswordHash]:
    """Return the name and the hash of a line.  A comment may stand behind a second colon."""
    try:
        name, colon, rest = line.decode().partition(":")
    except UnicodeDecodeError:
        raise UnusableHash("is not UTF-8") from None
    if not colon:
        raise UnusableHash("has no colon: write NAME:HASH")
    if not name or not name.isprintable() or name != name.strip():
        raise UnusableHash("the name is empty, has control characters or is surrounded by spaces")
    if len(name.encode()) > MAX_NAME:
        raise UnusableHash(f"the name has more than {MAX_NAME} bytes")
    if name == ANONYMOUS_NAME:
        raise UnusableHash(f"{name} is the name of clients that have not logged in: use another one")
    return name, parse_hash(rest.partition(":")[0].strip())
