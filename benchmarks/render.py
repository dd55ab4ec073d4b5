"""Rendering speed on this machine, written to benchmarks/render.json and render.md.

Run: python benchmarks/render.py [--quick]
"""

from __future__ import annotations

import sys
from pathlib import Path

from sonogym.cli.benchmark import machine
from sonogym.cli.benchmark_render import render_rows
from sonogym.cli.tables import write_json

HERE = Path(__file__).parent
COLUMNS = ("name", "size", "batch", "threads", "ms", "per_second", "spread", "baseline", "baseline_ms", "ratio")


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    rows = render_rows("--quick" in sys.argv[1:])
    write_json(HERE / "render.json", {"machine": machine(), "rows": rows})
    table = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    table += [" | ".join(_cell(row[column]) for column in COLUMNS) for row in rows]
    head = [
        "# Rendering speed",
        "",
        f"`python benchmarks/render.py` on {machine()}.",
        "`ms` and `baseline_ms` are per frame; size is samples x lines; `ratio` = baseline / ms, measured in one run.",
        "",
    ]
    (HERE / "render.md").write_text("\n".join(head + [f"| {line} |" for line in table]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
