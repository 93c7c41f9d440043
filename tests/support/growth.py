"""How the cost of a call grows with its input, for tests of linear growth.

The processor time of this process is measured, the least of several runs, so that the load of the machine
changes little. Linear growth from n to 8n is a factor of 8, quadratic growth one of 64.
"""

import ast
import gc
import importlib
import pkgutil
import re
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from re import _constants as op
from re import _parser as parser

FACTOR = 24.0
"""Three times as much as linear growth from n to 8n, and well under the half of quadratic growth."""
MEASURABLE = 0.002
"""Seconds that a call on the long input takes before its growth is looked at.

Quadratic work on 8,000 bytes takes 30 ms and more, linear work less than one.
"""

UNITS = (
    *(bytes([octet]) for octet in b" \t,\"'\\%;:=/.-+_&?#@$[](<0aAz\r\n"),
    *(b"\r\n", b"\0", b"\x7f", b"\x80", b"\x85", b"\xc3\x85"),
    *b"%2 %25 %2525 %41 %c0 ./ ../ // ;/".split(),
    *(b"\\\\", b'\\"', b'",', b'"\\', b", ", b" ,", b"a ", b" a"),
    *b"a, a; a= a=1; a=b& :: :1 1. $a /ticket/ ticket token= cst- :// ://a@".split(),
    *(b" in ", b"[]", b"${", b"for=1,", b"a:"),
)
ENDINGS = (b"", b"\x01", b"b", b'"', b" !")

_METHODS = {"match": "match", "fullmatch": "fullmatch"}
_METHODS |= dict.fromkeys(("search", "sub", "subn", "split", "findall", "finditer"), "search")
_FUNCTIONS = {f"re.{method}" for method in _METHODS}


def modules(*packages):
    """Return every module of these packages."""
    for package in packages:
        root = importlib.import_module(package)
        yield root
        for found in pkgutil.walk_packages(root.__path__, package + "."):
            yield importlib.import_module(found.name)


def patterns(*packages):
    """Return every use of a pattern in these packages by its name: the pattern and the method.

    The patterns are those of constants, and those that a call of ``re`` has as its text.
    """
    named, used, found = {}, {}, {}
    for module in modules(*packages):
        named |= {
            (name, id(value)): value for name, value in vars(module).items() if isinstance(value, re.Pattern)
        }
        source = Path(module.__file__)
        for node in ast.walk(ast.parse(source.read_text())) if source.suffix == ".py" else ():
            if isinstance(node, ast.Attribute) and node.attr in _METHODS and isinstance(node.value, ast.Name):
                used.setdefault(node.value.id, set()).add(_METHODS[node.attr])
            if not isinstance(node, ast.Call) or ast.unparse(node.func) not in _FUNCTIONS:
                continue
            place = f"{module.__name__}:{node.lineno}"
            assert isinstance(node.args[0], ast.Constant), (
                f"{place}: name the pattern, so that it can be measured"
            )
            pattern, method = re.compile(node.args[0].value), _METHODS[node.func.attr]
            found[f"{place} {method}"] = getattr(pattern, method)
    for (name, _), pattern in named.items():
        assert name in used, f"{name}: how it is used is not seen"
        for method in used[name]:
            found[f"{name} {pattern.pattern!r:.30} {method}"] = getattr(pattern, method)
    return found


def runs(pattern):
    """Return functions of a size: each makes a long run behind a text that leads into the pattern."""
    found = [(b"", unit) for unit in UNITS]
    for start, units in _repeats(parser.parse(pattern.pattern, pattern.flags)):
        found += [(start, unit) for unit in units]
    for start, unit in dict.fromkeys(found):
        for ending in ENDINGS:
            yield partial(_run, isinstance(pattern.pattern, bytes), start, unit, ending)


def _run(raw, start, unit, ending, size):
    octets = start + unit * (size // len(unit)) + ending
    return octets if raw else octets.decode("latin-1")


def _repeats(tree, before=b""):
    """Yield a text that leads to each repeat in a parsed pattern, and what the repeat matches."""
    for code, argument in tree:
        if code in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
            body = argument[2]
            units = list(dict.fromkeys([*_members(body), b" ", b"a"]))
            yield before, units
            yield before + b"a", units
            yield from _repeats(body, before)
        elif code is op.SUBPATTERN:
            yield from _repeats(argument[-1], before)
        elif code is op.BRANCH:
            for branch in argument[1]:
                yield from _repeats(branch, before)
        before += _shortest([(code, argument)])


def _shortest(tree):
    """Return a short text that matches."""
    found = b""
    for code, argument in tree:
        if code in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
            found += _shortest(argument[2]) * argument[0]
        elif code is op.SUBPATTERN:
            found += _shortest(argument[-1])
        elif code is op.BRANCH:
            found += _shortest(argument[1][0])
        else:
            found += next(iter(_members([(code, argument)])), b"")
    return found


def _members(tree):
    """Return short texts that match, one for each kind of character at their beginning."""
    tree = list(tree)
    if not tree:
        return [b""]
    code, argument = tree[0]
    if code is op.LITERAL:
        first = [bytes([argument])] if argument < 256 else []
    elif code is op.SUBPATTERN:
        first = _members(argument[-1])
    elif code is op.BRANCH:
        first = [found for branch in argument[1] for found in _members(branch)]
    elif code in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
        first = _members(argument[2])
    elif code in (op.IN, op.NOT_LITERAL, op.ANY):
        matches = _in_class(code, argument)
        first = [octet for octet in _SAMPLES if matches(octet)]
    else:
        first = [b""]
    rest = _shortest(tree[1:])
    return [found + rest for found in first]


_SAMPLES = [bytes([octet]) for octet in b"a0 \t,;:/=%\"'\\.-A?&#\x85"]


def _in_class(code, argument):
    if code is op.ANY:
        return lambda octet: octet != b"\n"
    if code is op.NOT_LITERAL:
        return lambda octet: octet[0] != argument

    def matches(octet):
        found = False
        for kind, value in argument:
            if kind is op.LITERAL:
                found |= octet[0] == value
            elif kind is op.RANGE:
                found |= value[0] <= octet[0] <= value[1]
            elif kind is op.CATEGORY:
                escape = {op.CATEGORY_DIGIT: rb"\d", op.CATEGORY_SPACE: rb"\s", op.CATEGORY_WORD: rb"\w"}
                escape |= {
                    op.CATEGORY_NOT_DIGIT: rb"\D",
                    op.CATEGORY_NOT_SPACE: rb"\S",
                    op.CATEGORY_NOT_WORD: rb"\W",
                }
                found |= re.match(escape[value], octet) is not None
        return found is not any(kind is op.NEGATE for kind, _ in argument)

    return matches


def seconds(call, *args):
    """Return the processor time of one call, also if it refuses the input."""
    begun = time.process_time()
    with suppress(Exception):
        call(*args)
    return time.process_time() - begun


def grows(call, make, size):
    """Return whether the cost of ``call(make(n))`` grows faster than linearly from ``size`` to 8 ``size``."""
    if seconds(call, make(8 * size)) < MEASURABLE:
        return False
    for larger in (size, 2 * size):  # seen twice, in two places, or it was the machine
        gc.collect()
        short, long = make(larger), make(8 * larger)
        least = min(seconds(call, long) for _ in range(3))
        if least < MEASURABLE or least < FACTOR * max(min(seconds(call, short) for _ in range(7)), 1e-6):
            return False
    return True
