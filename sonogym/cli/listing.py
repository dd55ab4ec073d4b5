"""``sonogym envs``: the names other commands take."""

from __future__ import annotations

from pathlib import Path

import typer

_HELP = """List tasks, planes, probes and patient splits.

Example: [bold]sonogym envs[/bold]
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("envs", help=_HELP)(_envs)


def _envs(json_file: Path | None = typer.Option(None, "--json", help="Also write the lists to this file.")) -> None:
    from sonogym.anatomy.library import SPLITS
    from sonogym.anatomy.plane_specs import plane_names
    from sonogym.cli.tables import print_table, write_json
    from sonogym.registry import TASKS
    from sonogym.resources import asset_names

    lists = {
        "tasks": [f"{name} ({identifier})" for name, identifier in TASKS.items()],
        "planes": list(plane_names()),
        "probes": asset_names("probes", ".toml"),
        "patients": [f"procedural:{split} (0-{len(seeds) - 1})" for split, seeds in SPLITS.items()],
        "recipes": asset_names("recipes", ".toml"),
    }
    print_table("sonogym", ["kind", "names"], [[kind, ", ".join(names)] for kind, names in lists.items()])
    if json_file is not None:
        write_json(json_file, lists)
