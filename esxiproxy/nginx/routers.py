"""The router sections of inventories, and their lists of hosts as CSV."""

from __future__ import annotations

import os
from dataclasses import dataclass

from esxiproxy.nginx.inventories import FoundInventory
from esxiproxy.nginx.sections import OutputEntry, OutputSection, SectionNames
from esxiproxy.nginx.source import Complaints

_HEADER = "name,address"


@dataclass(frozen=True, slots=True)
class HostList:
    """A list of hosts: the path of its file, and its content in CSV."""

    path: str
    content: str


class RouterWriter:
    """A writer of router sections and their lists; without a ``folder`` the lists are comments."""

    def __init__(self, folder: str | None, complaints: Complaints) -> None:
        self.sections: list[OutputSection] = []
        self.lists: list[HostList] = []
        self._folder = folder
        self._complaints = complaints
        self._names = SectionNames()
        self._routers: dict[tuple[object, ...], str] = {}
        self._files: dict[tuple[tuple[str, str], ...], str] = {}

    def router(self, inventory: FoundInventory, template: str) -> str:
        """Return the name of the router of an inventory whose hosts have this template."""
        key = (inventory.meaning, template)
        if key not in self._routers:
            self._routers[key] = self._names.new(inventory.name)
            self.sections.append(self._section(self._routers[key], inventory, template))
        return self._routers[key]

    def _section(self, name: str, inventory: FoundInventory, template: str) -> OutputSection:
        known = self._files.get(inventory.hosts)
        file = known or self._path(f"{name}.csv")
        entries = (
            OutputEntry("type", "inventory"),
            OutputEntry("file", file),
            OutputEntry("template", template),
            OutputEntry("locate", inventory.place.locate, _note_on_place(inventory)),
        )
        lines = [_HEADER, *(f"{name},{address}" for name, address in inventory.hosts)]
        comments, notes = [inventory.directive.place], []
        if inventory.hosts:
            self._files[inventory.hosts] = file
            notes = [] if known else self._notes(inventory, file, lines)
        else:
            comments += self._to_be_written(inventory, file)
        if self._folder is not None and known is None:
            self.lists.append(HostList(file, "".join(f"{line}\n" for line in lines)))
        return OutputSection("router", name, entries, tuple(comments), notes=tuple(notes))

    def _path(self, name: str) -> str:
        return name if self._folder is None else os.path.join(os.path.abspath(self._folder), name)

    def _notes(self, inventory: FoundInventory, file: str, lines: list[str]) -> list[str]:
        """Return the list as comments, and complain that its file has to be written."""
        if self._folder is not None:
            return []
        count = f"{len(inventory.hosts)} host{'s' if len(inventory.hosts) > 1 else ''}"
        self._complaints.add(
            inventory.directive,
            f"the list of {count} is in comments: write it to {file}, or use --hosts FOLDER",
        )
        return [f"Write these lines, without '; ', to {file} in the folder of this file:", *lines]

    def _to_be_written(self, inventory: FoundInventory, file: str) -> list[str]:
        """Return comments on a list that nginx does not have, and complain that it has to be written."""
        names = f"every name that matches {inventory.rule}" if inventory.rule else "every name"
        example = f"NAME,{inventory.example}"
        self._complaints.add(
            inventory.directive,
            f"nginx accepts {names}, and a router only the hosts of its list: write the list {file}, which "
            f"begins with the line {_HEADER} and has a line like {example} for each host",
        )
        return [
            f"nginx accepts {names}, and a router only the hosts of its list.",
            f"Write the list {file}, with this line first and a line like the second one for each host:",
            f"  {_HEADER}",
            f"  {example}",
        ]


def _note_on_place(inventory: FoundInventory) -> str:
    kind = inventory.place.locate.partition(":")[0]
    if kind == "host":
        return "the names in the list are first labels"
    if kind == "cookie":
        return "the host does not get this cookie, and origins is same by default"
    return f"the host does not get this part of the {kind}"
