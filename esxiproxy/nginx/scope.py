"""The directives that apply in a block, its own and inherited ones, and its variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from esxiproxy.nginx.source import Directive

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


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

    def constants(self) -> dict[str, str]:
        """Return the variables with a constant value: the server_name, and those of ``set``."""
        known: dict[str, str] = {}
        for scope in self.chain():
            names = scope.own("server_name")
            if names and names[0].args:
                known["server_name"] = names[0].args[0]
            for directive in scope.own("set"):
                if len(directive.args) == 2:
                    name, value = directive.args
                    known.pop(name.lstrip("$"), None)
                    text = expand(value, known)
                    if not unknown_variables(text):
                        known[name.lstrip("$")] = text
        return known


def expand(text: str, known: Mapping[str, str]) -> str:
    """Replace the known variables in a text."""
    return _VARIABLE.sub(lambda found: known.get(found[1] or found[2], found[0]), text)


def unknown_variables(text: str) -> list[str]:
    """Return the variables in a text, with their ``$``."""
    return [f"${found[1] or found[2]}" for found in _VARIABLE.finditer(text)]
