"""A profile of esxiproxy in one case, made by py-spy."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from bench.build import Programs
from bench.cases import cases
from bench.modes import Mode
from bench.stage import Stage

RATE = 500
SHOWN = 30
REACTOR = 0.9
"""Functions in a greater share of the stacks belong to the reactor and twistd, and are omitted."""


def profile(mode: Mode, case: str, seconds: float, programs: Programs) -> int:
    """Run a case on esxiproxy under py-spy and print the most expensive functions and lines."""
    spy = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    chosen = cases((1000,))[case]
    if chosen.once:
        print(f"{case} restarts the proxy: it cannot be profiled", file=sys.stderr)
        return 2
    if spy is None:
        print("py-spy is not installed: pip install py-spy", file=sys.stderr)
        return 2
    with (
        tempfile.TemporaryDirectory() as folder,
        Stage(programs, ["esxiproxy"], seconds, (1000,)) as stage,
    ):
        stacks = Path(folder) / "stacks"
        peer = stage.peers[0]
        command = [spy, "record", "--format", "raw", "--rate", str(RATE), "--pid", str(peer.pids()[0])]
        command += ["--duration", str(max(1, int(seconds))), "--output", str(stacks)]
        watch = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _peer, figures in chosen.measure(stage, mode, [peer]):
            print({name: round(figure, 3) for name, figure in figures.items()})
        _output, problem = watch.communicate(timeout=seconds + 60)
        if not stacks.exists():
            print(problem, file=sys.stderr)
            return 1
        print(report(stacks.read_text()))
    return 0


def report(text: str) -> str:
    """Count functions by their own and their cumulative time, and lines by their own, in collapsed stacks."""
    own, whole, lines = Counter[str](), Counter[str](), Counter[str]()
    total = 0
    for stack in text.splitlines():
        names, _, count = stack.rpartition(" ")
        frames = [_short(frame) for frame in names.split(";")]
        weight = int(count)
        total += weight
        lines[frames[-1]] += weight
        own[_function(frames[-1])] += weight
        for function in set(map(_function, frames)):
            whole[function] += weight
    for function in [name for name, weight in whole.items() if weight > REACTOR * total]:
        del whole[function]
    parts = []
    for title, counts in (("own time", own), ("with all below", whole), ("lines, own time", lines)):
        parts.append(f"{title}, % of {total} samples")
        parts += [f"{weight / total:7.1%}  {name}" for name, weight in counts.most_common(SHOWN)]
        parts.append("")
    return "\n".join(parts)


def _short(frame: str) -> str:
    """Remove the common prefix of paths from a frame."""
    return re.sub(r"\(.*?(?:site-packages/|(?=esxiproxy/)|python3\.\d+/)", "(", frame)


def _function(frame: str) -> str:
    """Remove the line number from a frame."""
    return re.sub(r":\d+\)$", ")", frame)
