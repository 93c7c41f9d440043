"""The selection of objects and properties by a PropertyFilterSpec."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from esxiproxy.sim.vcenter import schema, soap_faults
from esxiproxy.sim.vcenter.objects import ManagedObject
from esxiproxy.sim.vcenter.soap import Ref, Several, SoapElement

Resolve = Callable[[Ref], ManagedObject | None]


@dataclass(frozen=True, slots=True)
class _PropertySpec:
    type: str
    every: bool
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Traversal:
    name: str
    type: str
    path: str
    skip: bool
    next: tuple[_Traversal | str, ...]
    """The traversals that go on from here, or the names of others."""


@dataclass(frozen=True, slots=True)
class _ObjectSpec:
    ref: Ref
    skip: bool
    traversals: tuple[_Traversal | str, ...]


class FilterSpec:
    """One PropertyFilterSpec. Raises VimFault if it names a property that its type does not have."""

    def __init__(self, spec: SoapElement) -> None:
        self._properties = [
            _PropertySpec(
                each.text("type") or "",
                each.flag("all"),
                tuple(path.value for path in each.children("pathSet")),
            )
            for each in spec.children("propSet")
        ]
        for asked in self._properties:
            for path in asked.paths:
                if not schema.exists(asked.type, path):
                    raise soap_faults.invalid_property(path)
        self._objects = [
            _ObjectSpec(_ref(each), each.flag("skip"), _traversals(each))
            for each in spec.children("objectSet")
        ]
        self._named = {
            traversal.name: traversal
            for each in self._objects
            for traversal in _all(each.traversals)
            if traversal.name
        }

    @property
    def roots(self) -> Iterable[Ref]:
        """The objects that the selection starts at."""
        return [each.ref for each in self._objects]

    def select(self, resolve: Resolve) -> dict[Ref, tuple[str, ...]]:
        """Return the selected objects with the paths that are asked for, each object once."""
        found: dict[Ref, tuple[str, ...]] = {}
        visited: set[tuple[Ref, _Traversal]] = set()
        for each in self._objects:
            managed = resolve(each.ref)
            if managed is None:
                continue
            if not each.skip:
                self._add(managed, found)
            waiting = [(managed, each.traversals)]
            while waiting:
                here, traversals = waiting.pop(0)
                for traversal in self._resolved(traversals):
                    if not schema.is_a(here.ref.type, traversal.type) or (here.ref, traversal) in visited:
                        continue
                    visited.add((here.ref, traversal))
                    for ref in _references(here, traversal.path):
                        reached = resolve(ref)
                        if reached is None:
                            continue
                        if not traversal.skip:
                            self._add(reached, found)
                        if traversal.next:
                            waiting.append((reached, traversal.next))
        return found

    def _resolved(self, traversals: Iterable[_Traversal | str]) -> Iterable[_Traversal]:
        for each in traversals:
            if isinstance(each, _Traversal):
                yield each
            elif each in self._named:
                yield self._named[each]
            else:
                raise soap_faults.invalid_argument("selectSet")

    def _add(self, managed: ManagedObject, found: dict[Ref, tuple[str, ...]]) -> None:
        if managed.ref in found:
            return
        paths: dict[str, None] = {}
        asked_for = False
        for asked in self._properties:
            if schema.is_a(managed.ref.type, asked.type):
                asked_for = True
                paths.update(dict.fromkeys(managed.properties() if asked.every else asked.paths))
        if asked_for:
            found[managed.ref] = tuple(paths)


def _references(managed: ManagedObject, path: str) -> list[Ref]:
    value = managed.read(path)
    if isinstance(value, Several):
        return [each for each in value.values if isinstance(each, Ref)]
    return [value] if isinstance(value, Ref) else []


def _ref(spec: SoapElement) -> Ref:
    managed = spec.child("obj")
    if managed is None:
        raise soap_faults.invalid_argument("objectSet")
    return managed.ref


def _traversals(spec: SoapElement) -> tuple[_Traversal | str, ...]:
    read: list[_Traversal | str] = []
    for each in spec.children("selectSet"):
        name, path = each.text("name") or "", each.text("path")
        if path is None:
            read.append(name)
        else:
            read.append(_Traversal(name, each.text("type") or "", path, each.flag("skip"), _traversals(each)))
    return tuple(read)


def _all(traversals: Iterable[_Traversal | str]) -> Iterable[_Traversal]:
    for each in traversals:
        if isinstance(each, _Traversal):
            yield each
            yield from _all(each.next)
