"""Where esxiproxy spends its time in one case, as py-spy sees it."""

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
"""What stands in more of the stacks than this is the reactor and twistd, and is left out."""


def profile(mode: Mode, case: str, seconds: float, programs: Programs) -> int:
    """Run the case on esxiproxy alone with py-spy beside it; print the most expensive functions and lines."""
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
    """From collapsed stacks: functions by their own time, by all time below them, and lines by their own."""
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
    """Without what all paths have in common."""
    return re.sub(r"\(.*?(?:site-packages/|(?=esxiproxy/)|python3\.\d+/)", "(", frame)


def _function(frame: str) -> str:
    """A frame without its line number."""
    return re.sub(r":\d+\)$", ")", frame)
