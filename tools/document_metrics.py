"""The table in `docs/metrics.md`, made of the metrics: `python -m tools.document_metrics` writes it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from esxiproxy.ops.metrics.collectors import COMPUTED
from esxiproxy.ops.metrics.metrics import FAMILIES, PREFIX, Family

PATH = Path(__file__).parents[1] / "docs" / "metrics.md"
_HEADER = "| metric | type | labels | meaning |\n|---|---|---|---|\n"


def document() -> str:
    """Return the page with its table made again."""
    before, _, rest = PATH.read_text(encoding="utf-8").partition(_HEADER)
    _, _, after = rest.partition("\n\n")
    return before + _HEADER + _rows([*FAMILIES, *COMPUTED]) + "\n\n" + after


def _rows(families: Iterable[Family]) -> str:
    return "\n".join(
        f"| `{PREFIX}{family.name}` | {family.kind.__name__.lower()} "
        f"| {', '.join(f'`{label}`' for label in family.labels)} | {family.help} |"
        for family in families
    )


if __name__ == "__main__":
    PATH.write_text(document(), encoding="utf-8")
