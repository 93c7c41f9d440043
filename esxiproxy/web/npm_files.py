"""Pinned files of npm packages, and how they are fetched.

They are no part of the repository.  This file needs the standard library only: ``setup.py`` imports it before
anything is installed.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

_REGISTRY = "https://registry.npmjs.org"
_TIMEOUT = 30
"""Seconds until an attempt to fetch one package ends."""
_MAX_PACKAGE = 8 << 20
_MAX_FILE = 4 << 20


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """A file of an npm package: its path in the package, its path here, and its SHA-256."""

    path: str
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class PinnedPackage:
    """A version of an npm package, and the files that are taken out of it."""

    name: str
    version: str
    files: tuple[PinnedFile, ...]


def pinned_by(sums: Path, name: str, version: str) -> PinnedPackage:
    """Return a package whose files are listed in the form of ``sha256sum``; they keep their paths."""
    lines = [line.split(maxsplit=1) for line in sums.read_text("ascii").splitlines() if line]
    return PinnedPackage(name, version, tuple(PinnedFile(path, path, digest) for digest, path in lines))


class FetchError(Exception):
    """A package cannot be fetched, or is not the one that is pinned; the text says why."""


def missing(folder: Path, packages: Sequence[PinnedPackage]) -> list[str]:
    """Return the names of files that are not in the folder or differ from their pins."""
    return [
        file.name
        for package in packages
        for file in package.files
        if not (folder / file.name).is_file() or _sha256((folder / file.name).read_bytes()) != file.sha256
    ]


def fetch(folder: Path, packages: Sequence[PinnedPackage]) -> None:
    """Fetch what is missing in the folder.  Raises FetchError; the folder has only pinned files then."""
    absent = set(missing(folder, packages))
    for package in packages:
        wanted = [file for file in package.files if file.name in absent]
        if not wanted:
            continue
        found = _read(_download(package), wanted, f"{package.name}@{package.version}")
        for file in wanted:
            path = folder / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            # Another process may fetch as well: each file appears as a whole.
            new = path.with_name(f".{path.name}.{os.getpid()}")
            new.write_bytes(found[file.name])
            new.replace(path)


def _download(package: PinnedPackage) -> bytes:
    """Return the archive of a package, by way of npm if the machine has it."""
    npm = shutil.which("npm")
    return _pack(npm, package) if npm else _get(package)


def _pack(npm: str, package: PinnedPackage) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{package.name}@{package.version}", "--pack-destination", folder]
        command += ["--silent", "--fetch-retries=1", f"--fetch-timeout={_TIMEOUT * 1000}"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=2 * _TIMEOUT, check=False, cwd=folder
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FetchError(f"npm failed: {error}") from None
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
            raise FetchError(f"npm pack {package.name}@{package.version} failed: {lines[-1]}")
        return archives[0].read_bytes()


def _get(package: PinnedPackage) -> bytes:
    registry = os.environ.get("NPM_CONFIG_REGISTRY") or _REGISTRY
    base = package.name.rpartition("/")[2]
    url = f"{registry.rstrip('/')}/{package.name}/-/{base}-{package.version}.tgz"
    try:
        with urlopen(url, timeout=_TIMEOUT) as answer:
            octets: bytes = answer.read(_MAX_PACKAGE + 1)
    except (URLError, OSError, ValueError) as error:
        raise FetchError(f"{url} cannot be fetched: {getattr(error, 'reason', error)}") from None
    if len(octets) > _MAX_PACKAGE:
        raise FetchError(f"{url} is longer than {_MAX_PACKAGE} bytes")
    return octets


def _read(archive: bytes, wanted: Iterable[PinnedFile], name: str) -> dict[str, bytes]:
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
            for file in wanted:
                member = opened.extractfile(f"package/{file.path}")
                found[file.name] = b"" if member is None else member.read(_MAX_FILE)
    except (tarfile.TarError, KeyError, OSError, EOFError) as error:
        raise FetchError(f"{name} is not the package that is pinned: {error}") from None
    for file in wanted:
        if (actual := _sha256(found[file.name])) != file.sha256:
            raise FetchError(f"{file.path} of {name} has the SHA-256 {actual}, and {file.sha256} is pinned")
    return found


def _sha256(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()
