"""The directives that apply in a block, its own and inherited ones, and its variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from esxiproxy.nginx.source import Directive

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_LONGEST_VALUE = 4096
"""The longest value of a variable that is known: ``set $a $a$a`` doubles it."""


class Scope:
    """One block and, in ``outer``, the block around it."""

    def __init__(self, directives: Iterable[Directive], outer: Scope | None = None) -> None:
        self.directives = tuple(directives)
        self.outer = outer

    def own(self, name: str) -> list[Directive]:
        """Return the directives with this name in the block itself."""
        return [directive for directive in self.directives if directive.name == name]

    def nearest(self, name: str) -> Directive | None:
        """Return the last directive with this name in the block, or the inherited one, or None."""
        found = self.every(name)
        return found[-1] if found else None

    def every(self, name: str) -> list[Directive]:
        """Return all directives with this name that apply.  A block with one of its own inherits none."""
        return self.own(name) or (self.outer.every(name) if self.outer else [])

    def value(self, name: str, default: str = "") -> str:
        """Return the first argument of the directive that applies, or the default."""
        found = self.nearest(name)
        return found.args[0] if found and found.args else default

    def chain(self) -> list[Scope]:
        """Return this block and those around it, the outermost first."""
        return [*(self.outer.chain() if self.outer else []), self]

    def variables(self) -> dict[str, str]:
        """Return the server_name and the values of ``set``, which may have variables of the request."""
        known: dict[str, str] = {}
        for scope in self.chain():
            names = scope.own("server_name")
            if names and names[0].args:
                known["server_name"] = names[0].args[0]
            for directive in scope.own("set"):
                if len(directive.args) == 2:
                    name, text = directive.args[0].lstrip("$"), expand(directive.args[1], known)
                    known.pop(name, None)
                    if len(text) <= _LONGEST_VALUE:
                        known[name] = text
        return known


def expand(text: str, known: Mapping[str, str]) -> str:
    """Replace the known variables in a text."""
    return _VARIABLE.sub(lambda found: known.get(found[1] or found[2], found[0]), text)


def unknown_variables(text: str) -> list[str]:
    """Return the variables in a text, with their ``$``."""
    return [f"${found[1] or found[2]}" for found in _VARIABLE.finditer(text)]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text: a variable, whose ``text`` is its name without the ``$``, or other characters."""

    text: str
    is_variable: bool = False

    def __str__(self) -> str:
        return f"${{{self.text}}}" if self.is_variable else self.text


def pieces(text: str) -> tuple[Piece, ...]:
    """Return the variables in a text and the characters between them, none of which is empty."""
    found, end = [], 0
    for match in _VARIABLE.finditer(text):
        found += [Piece(text[end : match.start()]), Piece(match[1] or match[2], True)]
        end = match.end()
    return tuple(piece for piece in (*found, Piece(text[end:])) if piece.text)
