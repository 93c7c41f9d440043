"""The regular expressions that name a host, of a location's path or of a server_name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from esxiproxy.core.config.errors import BadValue
from esxiproxy.nginx.paths import prefix_problem

_GROUP = r"\((?:\?P?<(\w{1,64})>|\?'(\w{1,64})')?([^()]*)\)"
_PATH = re.compile(rf"\^([^()]*){_GROUP}(?:(/?){_GROUP})?\$?")
_SERVER_NAME = re.compile(rf"~\^?{_GROUP}([^()]*)")
# Characters of an expression that stand for themselves; an unescaped dot stands for one here.
_LITERAL = re.compile(r"(?:[A-Za-z0-9_./~@:-]|\\[./~@:-])*")
_ATOM = re.compile(
    r"(?P<one>\[\^?(?:[A-Za-z0-9_./-]|\\[wd./-])+\]|\\[wd.-]|[A-Za-z0-9_.-])"
    r"(?P<times>[+*?]|\{[0-9]{1,3}(?:,[0-9]{0,3})?\})?"
)
_MAX_QUANTIFIERS = 2
"""Maximum number of quantifiers of a name's expression, which bounds the time of a comparison."""
_LONGEST_NAME = 253
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_WHOLE_REST = {"": ("/.*", "/.+", ".*", ".+"), "/": (".*", ".+")}
"""The expressions for everything behind the name, by the slash between them."""
_EXAMPLE = "a router reads a host from ^/h/(?<h>[a-z0-9-]+)(?<rest>/.*)$ and the like"


@dataclass(frozen=True, slots=True)
class NameRule:
    """The rule for the names that an expression matches.

    ``names`` are all of them if the expression lists them, else it is empty.
    """

    text: str
    names: tuple[str, ...]
    pattern: re.Pattern[str]

    def accepts(self, name: str) -> bool:
        """Return whether a name matches in some case: nginx and a router compare names without it."""
        forms = (name, name.lower(), name.upper())
        return len(name) <= _LONGEST_NAME and any(map(self.pattern.fullmatch, forms))


@dataclass(frozen=True, slots=True)
class PathPattern:
    """An expression for a path with a host's name behind ``prefix``.

    ``variables`` are those with the name, and ``rests`` the texts of ``proxy_pass`` for the path behind it.
    """

    prefix: str
    variables: frozenset[str]
    rests: frozenset[str]
    rule: NameRule


@dataclass(frozen=True, slots=True)
class ServerNamePattern:
    """An expression for a server_name: a host's name as the first label, a dot, and ``suffix``."""

    suffix: str
    variables: frozenset[str]
    rule: NameRule


def path_pattern(expression: str) -> PathPattern:
    """Parse the regular expression of a location.  Raise BadValue for one that no router can follow."""
    found = _PATH.fullmatch(expression)
    if found is None or not _LITERAL.fullmatch(found[1]):
        raise BadValue(f"the regular expression cannot be converted: {_EXAMPLE}")
    prefix, rule = _unescaped(found[1]), _rule(found[4])
    if not prefix.endswith("/"):
        raise BadValue(f"the name of the host is no whole segment of the path: {_EXAMPLE}")
    if problem := prefix_problem(prefix):
        raise BadValue(problem)
    if not rule.names and _matches_slash(found[4]):
        raise BadValue("the expression for the host matches a slash: write [^/]+")
    if found[8] is None:
        raise BadValue(f"no group has the path behind the host: {_EXAMPLE}")
    slash, rest = found[5], found[8]
    if rest not in _WHOLE_REST[slash]:
        raise BadValue(
            f"nginx forwards only paths that match {slash}{rest} behind the host, and a router every path: "
            "write (?<rest>/.*) in a copy of the file if that is meant"
        )
    rests = frozenset(f"{slash}${{{name}}}" for name in (found[6], found[7], "2") if name)
    return PathPattern(prefix, _names(found[2], found[3]), rests, rule)


def server_name_pattern(name: str) -> ServerNamePattern | None:
    """Parse ``~^(?<h>[^.]+)\\.console\\.example$``; return None for any other name."""
    found = _SERVER_NAME.fullmatch(name.removesuffix("$"))
    if found is None or not _LITERAL.fullmatch(found[4]):
        return None
    dot, *labels = _unescaped(found[4]).lower().split(".")
    if dot or not labels or not all(map(_LABEL.fullmatch, labels)):
        return None
    try:
        return ServerNamePattern(".".join(labels), _names(found[1], found[2]), _rule(found[3]))
    except BadValue:
        return None


def _names(*names: str | None) -> frozenset[str]:
    return frozenset({"1", *filter(None, names)})


def _unescaped(literal: str) -> str:
    return literal.replace("\\", "")


def _rule(expression: str) -> NameRule:
    """Parse the expression of a name: names separated by ``|``, or characters and character classes."""
    parts = expression.split("|")
    if all(part and _LITERAL.fullmatch(part) and "/" not in part for part in parts) and expression != ".":
        names = tuple(dict.fromkeys(_unescaped(part).lower() for part in parts))
        return NameRule(expression, names, re.compile("|".join(map(re.escape, names))))
    atoms, at = [], 0
    while at < len(expression):
        atom = _ATOM.match(expression, at)
        if atom is None or "--" in atom["one"]:
            raise BadValue(f"{expression} cannot be converted: {_EXAMPLE}")
        atoms.append(atom)
        at = atom.end()
    if not atoms or sum(atom["times"] is not None for atom in atoms) > _MAX_QUANTIFIERS:
        raise BadValue(f"{expression} cannot be converted: {_EXAMPLE}")
    try:
        return NameRule(expression, (), re.compile(expression, re.ASCII))
    except (re.error, OverflowError):
        raise BadValue(f"{expression} is no regular expression")


def _matches_slash(expression: str) -> bool:
    """Return whether a name that the expression matches may have a slash."""
    return any(re.compile(atom["one"]).fullmatch("/") for atom in _ATOM.finditer(expression))
