"""The ``map`` blocks: which text of a request names which host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from esxiproxy.nginx.scope import Scope, pieces
from esxiproxy.nginx.source import Complaints, Directive

Maps = Mapping[str, "HostMap"]
"""The ``map`` blocks by the variables that they set."""


@dataclass(frozen=True, slots=True)
class HostMap:
    """A ``map`` block, whose value in ``variable`` depends on the variable ``source``.

    ``source`` is empty if the block depends on more than one variable.
    """

    directive: Directive
    source: str
    variable: str

    @property
    def default(self) -> Directive | None:
        """The entry for all other texts."""
        found = [entry for entry in self.directive.block or () if entry.name == "default"]
        return found[-1] if found else None

    @property
    def missing(self) -> frozenset[str]:
        """The values for a text without a host: an empty one, and the default."""
        return frozenset({"", *(self.default.args if self.default else ())})

    def entries(self, complaints: Complaints) -> Iterator[tuple[str, str, Directive]]:
        """Yield each text with its value, and complain of entries that are for several texts.

        A text whose value is empty has no host.
        """
        for entry in self.directive.block or ():
            if entry.name in ("default", "hostnames", "volatile", "include"):
                continue
            name = entry.name.removeprefix("\\").lower()
            if entry.name.startswith("~"):
                complaints.add(entry, "regular expressions are not converted: write its hosts into the list")
            elif name.startswith(("*.", ".")) or name.endswith(".*"):
                complaints.add(entry, "masks are not converted: write its hosts into the list")
            elif len(entry.args) != 1:
                complaints.add(entry, "is no entry of a map: a text and one value")
            elif entry.args[0]:
                yield name, entry.args[0], entry


def host_maps(scope: Scope) -> Maps:
    """Return the ``map`` blocks of a block."""
    found = {}
    for directive in scope.own("map"):
        if len(directive.args) == 2 and directive.args[1].startswith("$"):
            source = pieces(directive.args[0])
            name = source[0].text if len(source) == 1 and source[0].is_variable else ""
            variable = directive.args[1][1:]
            found[variable] = HostMap(directive, name, variable)
    return found


def is_answered(directive: Directive, maps: Maps, variables: frozenset[str]) -> bool:
    """Return whether an ``if`` only refuses requests that name no host, as a router does.

    ``variables`` are those that the host depends on.
    """
    if directive.name != "if" or len(directive.args) not in (2, 3) or directive.args[1] not in ("=", "~"):
        return False
    tested = pieces(directive.args[0])
    if len(tested) != 1 or not tested[0].is_variable or tested[0].text not in variables:
        return False
    value = directive.args[2] if len(directive.args) == 3 else ""
    values = maps[tested[0].text].missing if tested[0].text in maps else {""}
    if value not in (values if directive.args[1] == "=" else {"^$"}):
        return False
    answers = directive.block or ()
    return bool(answers) and all(
        answer.name == "return" and answer.args[:1] and answer.args[0] in _REFUSALS for answer in answers
    )


_REFUSALS = frozenset(str(status) for status in (*range(400, 418), 421, 444))
