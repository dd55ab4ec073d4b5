"""``sonogym anatomy planes``: the standard planes of a patient, with their windows and how hard they are to find."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from sonogym.errors import InvalidInputError


def planes_command(
    patient: Annotated[str, typer.Argument(metavar="PATIENT", help="An imported folder, or procedural:SPLIT/NUMBER.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the table here as well.")] = None,
) -> None:
    """List the standard planes of a patient: acoustic window, contact, depth, difficulty, and why one is out of reach.

    \b
    Examples:
      sonogym anatomy planes procedural:test/7
      sonogym anatomy planes patients/ann --json ann.json
    """
    from sonogym.anatomy.cache import require_writable
    from sonogym.anatomy.library import load_patient
    from sonogym.anatomy.plane_difficulty import difficulties
    from sonogym.anatomy.planes import plane_views
    from sonogym.cli.tables import write_json

    if json_file is not None:
        require_writable(json_file)
    anatomy = load_patient(patient)
    if not anatomy.landmarks:
        raise InvalidInputError(
            f"patient {patient!r} has no landmarks, and planes are placed by them: import it with --landmark or labels"
        )
    views = plane_views(anatomy)
    hard = difficulties(views)
    rows = [_row(view, hard[name]) for name, view in views.items()]
    if json_file is not None:
        write_json(json_file, {"patient": anatomy.name, "planes": rows})
    _print(anatomy.name, rows)


def _print(name: str, rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"planes of {name}")
    table.add_column("plane", no_wrap=True)
    for column in ("window", "on skin", "depth mm", "twin mm", "difficulty", "out of reach because"):
        table.add_column(column)
    for row in rows:
        table.add_row(*_cells(row))
    Console().print(table)


def _row(view: Any, difficulty: Any) -> dict[str, Any]:
    from sonogym.anatomy.plane_specs import find_spec

    spec = find_spec(view.name)
    return {
        "plane": view.name,
        "reachable": view.reachable,
        "obstacle": view.obstacle,
        "window": None if math.isnan(view.window) else round(view.window, 3),
        "coupled": round(view.coupled, 3),
        "depth_mm": round(1e3 * view.depth, 1),
        "miss_mm": round(1e3 * view.miss, 2),
        "start_mm": round(1e3 * difficulty.start, 1),
        "twin_mm": round(1e3 * difficulty.twin, 1) if math.isfinite(difficulty.twin) else None,
        "difficulty": round(difficulty.score, 3),
        "shows": spec.shows,
        "notes": spec.notes,
        "patient_from_probe": [[round(value, 6) for value in line] for line in view.pose.matrix().tolist()],
    }


def _cells(row: dict[str, Any]) -> list[str]:
    window, twin = row["window"], row["twin_mm"]
    return [
        row["plane"],
        "?" if window is None else f"{100 * window:.0f} %",
        f"{100 * row['coupled']:.0f} %",
        f"{row['depth_mm']:.0f}",
        "" if twin is None else f"{twin:.0f}",
        f"{row['difficulty']:.2f}",
        row["obstacle"],
    ]
