"""``sonogym benchmark render|env|train``: speed and memory as ratios measured in one run."""

from __future__ import annotations

import enum
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

_HELP = """Measure speed on this machine and print a table.

Examples:
  [bold]sonogym benchmark render[/bold]
  [bold]sonogym benchmark env --json env.json[/bold]
  [bold]sonogym benchmark train --quick[/bold]
"""


class What(enum.StrEnum):
    """Parts that can be measured."""

    RENDER = "render"
    ENV = "env"
    TRAIN = "train"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("benchmark", help=_HELP)(_benchmark)


def _benchmark(
    what: What = typer.Argument(..., help="render, env or train."),
    json_file: Path | None = typer.Option(None, "--json", help="Write the rows to this file."),
    quick: bool = typer.Option(False, "--quick", help="Fewer sizes and repeats."),
) -> None:
    from sonogym.cli.tables import print_table, write_json

    rows = _MEASURE[what](quick)
    columns = ["name", "size", "batch", "threads", "ms", "per_second", "spread", "baseline", "ratio"]
    print_table(f"benchmark {what.value}", columns, [[_short(row.get(column)) for column in columns] for row in rows])
    if json_file is not None:
        write_json(json_file, {"machine": machine(), "rows": rows})


def machine() -> str:
    """Processor, cores, Python and system in words."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str("" if value is None else value)


def timed(run: Callable[[], object], repeats: int, longest: float = math.inf) -> tuple[float, float]:
    """Median seconds of ``run`` and its spread, (max - min) / median, after one unmeasured call.

    No call is begun after ``longest`` seconds.
    """
    run()
    seconds: list[float] = []
    while len(seconds) < repeats and (not seconds or sum(seconds) < longest):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    median = sorted(seconds)[len(seconds) // 2]
    return median, (max(seconds) - min(seconds)) / median


def _render(quick: bool) -> list[dict[str, Any]]:
    from sonogym.cli.benchmark_render import render_rows

    return render_rows(quick)


def _env(quick: bool) -> list[dict[str, Any]]:
    from sonogym.cli.benchmark_env import env_rows

    return env_rows(quick)


def _train(quick: bool) -> list[dict[str, Any]]:
    from sonogym.cli.benchmark_env import train_rows

    return train_rows(quick)


_MEASURE: dict[What, Callable[[bool], list[dict[str, Any]]]] = {
    What.RENDER: _render,
    What.ENV: _env,
    What.TRAIN: _train,
}
