"""What holds in a block: its own directives, those that it inherits, and its variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from esxiproxy.nginx.source import Directive

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class Scope:
    """One block in the blocks around it."""

    def __init__(self, directives: Iterable[Directive], outer: Scope | None = None) -> None:
        self.directives = tuple(directives)
        self.outer = outer

    def own(self, name: str) -> list[Directive]:
        """The directives of that name in this very block."""
        return [directive for directive in self.directives if directive.name == name]

    def nearest(self, name: str) -> Directive | None:
        """The directive that holds here: this block's own, or what it inherits."""
        found = self.every(name)
        return found[-1] if found else None

    def every(self, name: str) -> list[Directive]:
        """The directives that hold here where there may be several: a block with one inherits none."""
        return self.own(name) or (self.outer.every(name) if self.outer else [])

    def value(self, name: str, default: str = "") -> str:
        """The first argument of the directive that holds here."""
        found = self.nearest(name)
        return found.args[0] if found and found.args else default

    def chain(self) -> list[Scope]:
        """This block and those around it, the outermost first."""
        return [*(self.outer.chain() if self.outer else []), self]

    def constants(self) -> dict[str, str]:
        """The variables whose value can be told from the file: what ``set`` says, from the outside in."""
        known: dict[str, str] = {}
        for scope in self.chain():
            names = scope.own("server_name")
            if names and names[0].args:
                known["server_name"] = names[0].args[0]
            for directive in scope.own("set"):
                if len(directive.args) == 2:
                    name, value = directive.args
                    known.pop(name.lstrip("$"), None)
                    text = expanded(value, known)
                    if not unknown(text):
                        known[name.lstrip("$")] = text
        return known


def expanded(text: str, known: Mapping[str, str]) -> str:
    """The text with the known variables in it replaced."""
    return _VARIABLE.sub(lambda found: known.get(found[1] or found[2], found[0]), text)


def unknown(text: str) -> list[str]:
    """The variables in a text, with their ``$``."""
    return [f"${found[1] or found[2]}" for found in _VARIABLE.finditer(text)]
