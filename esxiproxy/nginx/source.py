"""The parser of nginx configurations: a tree of directives with file and line, read by crossplane."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NEED_ARGUMENT = frozenset(
    {
        *("listen", "location", "proxy_pass", "ssl_certificate", "ssl_certificate_key"),
        *("ssl_client_certificate", "proxy_ssl_trusted_certificate", "include"),
    }
)
"""Directives that need an argument."""
_WILDCARD = re.compile(r"[*?\[]")
_PLACE = re.compile(r" in \S+:([0-9]{1,9})\Z")


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive; ``block`` are the directives in its braces, None if it has no braces."""

    name: str
    args: tuple[str, ...]
    file: str
    line: int
    block: tuple[Directive, ...] | None = None

    @property
    def place(self) -> str:
        """The place of the directive as ``FILE:LINE``."""
        return f"{self.file}:{self.line}"

    @property
    def text(self) -> str:
        """The directive's name and arguments, without its block."""
        return " ".join((self.name, *self.args))

    def inside(self) -> Iterator[Directive]:
        """Yield this directive and all in its block, in the file's order."""
        yield self
        for directive in self.block or ():
            yield from directive.inside()


@dataclass(frozen=True, slots=True)
class Complaint:
    """A message about a directive that could not be converted, with its file and line."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


class Complaints:
    """The complaints of one conversion, without duplicates."""

    def __init__(self) -> None:
        self._found: dict[Complaint, None] = {}
        self._about: set[tuple[str, int, str]] = set()

    def add(self, directive: Directive, text: str) -> None:
        """Add a complaint about a directive."""
        self._about.add((directive.file, directive.line, directive.name))
        self._found[Complaint(directive.file, directive.line, f"{directive.name}: {text}")] = None

    def are_about(self, directive: Directive) -> bool:
        """Return whether there is a complaint about this directive."""
        return (directive.file, directive.line, directive.name) in self._about

    def take(self, others: Sequence[Complaint]) -> None:
        """Add these complaints."""
        self._found.update(dict.fromkeys(others))

    def sorted(self) -> list[Complaint]:
        """Return the complaints by file, in the order of their first complaints, and line."""
        files = list(dict.fromkeys(complaint.file for complaint in self._found))
        return sorted(self._found, key=lambda found: (files.index(found.file), found.line))


class SourceError(Exception):
    """Raised if the nginx configuration cannot be read; ``str()`` has a line for each reason."""


def read(path: str) -> tuple[tuple[Directive, ...], tuple[Complaint, ...]]:
    """Parse a file and its includes.

    Return the directives, with those of included files in place of each ``include``, and a complaint about
    each missing file.  An ``include`` of a missing file stays in the tree.
    Raises SourceError.
    """
    try:
        import crossplane
    except ImportError as error:
        raise SourceError("import-nginx needs crossplane: pip install 'esxiproxy[nginx]'") from error
    # Contexts are not checked, because a file may consist of server blocks only, as in conf.d.
    payload = crossplane.parse(path, check_ctx=False)
    faults: list[Complaint] = []
    missing: list[Complaint] = []
    for fault in payload["errors"]:
        complaint = _complaint(fault)
        (missing if _is_missing_include(fault, path) else faults).append(complaint)
    if faults:
        raise SourceError("\n".join(map(str, faults)))
    tree = tuple(_Joined(payload["config"]).file(0))
    # crossplane does not count arguments in a file that consists of server blocks only.
    for directive in (directive for top in tree for directive in top.inside()):
        if directive.name in _NEED_ARGUMENT and not directive.args:
            faults.append(Complaint(directive.file, directive.line, f"{directive.name} has no argument"))
    if faults:
        raise SourceError("\n".join(map(str, faults)))
    return tree, tuple(missing)


class _Joined:
    """The parsed files joined into one tree.

    crossplane's own joining loses the file that a directive is from.
    """

    def __init__(self, files: Sequence[Mapping[str, Any]]) -> None:
        self._files = files
        self._open: list[int] = []

    def file(self, number: int) -> Iterator[Directive]:
        """Yield the directives of a file.  Raises SourceError if the file includes itself."""
        name = self._files[number]["file"]
        if number in self._open:
            raise SourceError(f"{name}:1: the file includes itself")
        self._open.append(number)
        yield from self._block(name, self._files[number]["parsed"])
        self._open.pop()

    def _block(self, file: str, statements: Sequence[Mapping[str, Any]]) -> Iterator[Directive]:
        for statement in statements:
            if "includes" in statement:
                for number in statement["includes"]:
                    yield from self.file(number)
                args = tuple(statement["args"])
                if not statement["includes"] and not _WILDCARD.search("".join(args)):
                    yield Directive("include", args, file, statement["line"])  # the file is missing
                continue
            block = statement.get("block")
            yield Directive(
                statement["directive"],
                tuple(statement["args"]),
                file,
                statement["line"],
                None if block is None else tuple(self._block(file, block)),
            )


def _is_missing_include(fault: Mapping[str, Any], path: str) -> bool:
    return fault["line"] is not None and fault["error"].startswith("[Errno") and Path(path).is_file()


def _complaint(fault: Mapping[str, Any]) -> Complaint:
    line = fault["line"] or 1
    text = str(fault["error"])
    if (place := _PLACE.search(text)) and int(place[1]) == line:
        text = text[: place.start()]
    if text.startswith("[Errno"):
        text = text.partition("] ")[2]
        text = text if fault["line"] is None else f"include: {text}: its directives are not converted"
    return Complaint(fault["file"], line, text)
