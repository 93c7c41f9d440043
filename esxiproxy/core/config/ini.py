"""A strict parser of INI files that keeps line numbers.

``configparser`` reads the values.  It stops at the first fault, joins an indented line to the line above,
ignores text behind a ``]``, and has no line numbers.  Each line is therefore checked first.  Faulty lines
become problems, and ``configparser`` gets the rest.
"""

from __future__ import annotations

import re
import unicodedata
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from dataclasses import dataclass, field

from esxiproxy.core.config.errors import Problem

_COMMENT = re.compile(r"(?:^|\s)[;#]")
_HEADER = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True, slots=True)
class IniEntry:
    """The text of a key and its line number."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class IniSection:
    """A section: its header without brackets, the header's line and its keys.

    ``faulty`` has the keys whose lines cannot be parsed, which are not reported as missing.
    """

    header: str
    line: int
    entries: Mapping[str, IniEntry]
    faulty: frozenset[str] = frozenset()

    @property
    def kind(self) -> str:
        """The first word of the header."""
        return self.header.partition(" ")[0]

    @property
    def name(self) -> str:
        """The header without its first word."""
        return self.header.partition(" ")[2]

    def line_of(self, key: str | None) -> int:
        """Return the line of a key, or the line of the header if the section has no such key."""
        return self.line if key is None or key not in self.entries else self.entries[key].line


class _Parser(ConfigParser):
    """A ``configparser`` without interpolation, default values and lower-casing of keys."""

    def __init__(self) -> None:
        super().__init__(
            interpolation=None,
            delimiters=("=",),
            comment_prefixes=(";", "#"),
            inline_comment_prefixes=(";", "#"),
            default_section="",  # no header can be empty
            empty_lines_in_values=False,
        )

    def optionxform(self, optionstr: str) -> str:
        return optionstr


@dataclass(slots=True)
class _Open:
    """The section that the next lines belong to."""

    header: str
    line: int
    keys: dict[str, int] = field(default_factory=dict)
    faulty: set[str] = field(default_factory=set)


class _Scan:
    """A check of one line after another that collects good lines and problems."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.problems: list[Problem] = []
        self.sections: list[_Open] = []
        self.good: list[str] = []
        self._current: _Open | None = None
        self._lost = False

    def feed(self, line: int, raw: bytes) -> None:
        """Parse one line, and report its problems."""
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            self._fault(line, None, f"not UTF-8: byte 0x{raw[error.start]:02x} in column {error.start + 1}")
            return
        if comment := _COMMENT.search(text):
            text = text[: comment.start()]
        for column, character in enumerate(text, 1):
            if not character.isprintable() and character != "\t":
                name = unicodedata.name(character, "control character").lower()
                where = f"U+{ord(character):04X} in column {column}"
                self._fault(line, _first_word(text), f"invisible character: {name}, {where}")
                return
        if not (content := text.strip()):
            return
        if text[0].isspace():
            key = None if content.startswith("[") else _first_word(content)
            self._report(line, key, "indented, which would make it part of the line above: start in column 1")
        if content.startswith("["):
            self._header(line, content)
        else:
            self._key(line, content)

    def _header(self, line: int, content: str) -> None:
        found = _HEADER.fullmatch(content)
        header = " ".join(found[1].split()) if found else ""
        if not header:
            self._current, self._lost = None, True
            self._report(line, None, f"no section header: {content}")
            return
        first = next((section.line for section in self.sections if section.header == header), None)
        self._current = _Open(header, line)
        if first is not None:
            self._report(line, None, f"section given twice, first in line {first}")
        # The parser gets numbers as headers, so that a section that is given twice is checked twice.
        self.good.append(f"[{len(self.sections)}]")
        self.sections.append(self._current)

    def _key(self, line: int, content: str) -> None:
        key, equals, _ = (part.strip() for part in content.partition("="))
        if not equals:
            self._fault(line, _first_word(content), "no '=' in this line")
        elif not key:
            self._fault(line, None, "no key before the '='")
        elif self._current is None:
            if not self._lost:
                self._report(line, key, "stands before the first section")
        elif key in self._current.keys:
            self._report(line, key, f"given twice, first in line {self._current.keys[key]}")
        else:
            self._current.keys[key] = line
            self.good.append(content)

    def _fault(self, line: int, key: str | None, text: str) -> None:
        if self._current is not None and key is not None:
            self._current.faulty.add(key)
        self._report(line, key, text)

    def _report(self, line: int, key: str | None, text: str) -> None:
        section = None if self._current is None else self._current.header
        self.problems.append(Problem(self._file, line, section, key, text))


def parse(raw: bytes, file: str) -> tuple[tuple[IniSection, ...], tuple[Problem, ...]]:
    """Return the sections of a file in their order, and the problems of its lines.

    ``file`` is the name of the file in the problems.
    """
    if raw.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return (), (Problem(file, 1, None, None, "UTF-16: save it as UTF-8"),)
    scan = _Scan(file)
    for line, content in enumerate(_lines(raw), 1):
        scan.feed(line, content)
    parser = _Parser()
    parser.read_file(scan.good)
    return tuple(
        IniSection(
            section.header,
            section.line,
            {key: IniEntry(line, parser[str(number)][key]) for key, line in section.keys.items()},
            frozenset(section.faulty),
        )
        for number, section in enumerate(scan.sections)
    ), tuple(scan.problems)


def _lines(raw: bytes) -> Iterator[bytes]:
    """Yield the lines as an editor counts them.

    ``str.splitlines`` would split at other characters as well.
    """
    raw = raw.removeprefix(BOM_UTF8)
    yield from raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")


def _first_word(text: str) -> str | None:
    words = text.partition("=")[0].split()
    return words[0] if words and words[0].isprintable() else None
