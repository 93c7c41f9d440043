"""A Dockerfile for tests: its instructions, and the environment and commands of its last stage."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Dockerfile:
    """The instructions of each stage as pairs of a name and its argument."""

    stages: tuple[tuple[tuple[str, str], ...], ...]

    @classmethod
    def read(cls, path: Path) -> Dockerfile:
        """Return the instructions of a file, without comments and line breaks."""
        text = re.sub(r"(?m)^#.*\n", "", path.read_text()).replace("\\\n", " ")
        stages: list[list[tuple[str, str]]] = []
        for line in filter(str.strip, text.splitlines()):
            name, _, argument = line.partition(" ")
            if name == "FROM":
                stages.append([])
            if stages:
                stages[-1].append((name, " ".join(argument.split())))
        return cls(tuple(map(tuple, stages)))

    def all(self, stage: int, name: str) -> list[str]:
        """Return the arguments of all instructions of a name in a stage."""
        return [argument for found, argument in self.stages[stage] if found == name]

    def one(self, name: str) -> str:
        """Return the argument of the only instruction of a name in the last stage."""
        (argument,) = self.all(-1, name)
        return argument

    def command(self) -> list[str]:
        """Return the program that a container runs."""
        return json.loads(self.one("ENTRYPOINT")) + json.loads(self.one("CMD"))

    def health_check(self) -> list[str]:
        """Return the program that checks whether a container is healthy."""
        return json.loads(self.one("HEALTHCHECK").partition("CMD ")[2])

    def environment(self) -> dict[str, str]:
        """Return the variables of a container."""
        return dict(pair.split("=", 1) for text in self.all(-1, "ENV") for pair in text.split())
