"""``sonogym train``: learn a task into a run folder that survives a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

_HELP = """Train a policy and compare it with the expert, the blind and the random one on unseen patients.

The run folder holds config.toml, progress.csv, tensorboard/, checkpoints/, policy.safetensors + .toml, curve.png,
evaluation.json and evaluation.md. Ctrl-C saves and stops; the same command with --resume goes on.

Examples:
  [bold]sonogym train navigation --minutes 5[/bold]
  [bold]sonogym train navigation --algo ppo --recipe quick --patients procedural:train/0-31 --steps 500000[/bold]
  [bold]sonogym train navigation --recipe full --set network.memory=gru --set dagger.batch=2048 --out runs/gru[/bold]
  [bold]sonogym train navigation --recipe full --out runs/gru --resume[/bold]
  [bold]sonogym train navigation --algo ppo --init runs/dagger --set ppo.learning_rate=3e-4[/bold]
"""
_INTERRUPTED = 130


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("train", help=_HELP)(_train)


def _train(
    task: str = typer.Argument(..., help="Name of the task (sonogym envs lists them)."),
    algo: str | None = typer.Option(None, help="ppo or dagger; the recipe's by default."),
    recipe: str = typer.Option("quick", help="quick, full, published, another recipe's name, or a .toml file."),
    patients: str | None = typer.Option(None, help="Patients to train on, such as procedural:train/0-31."),
    minutes: float | None = typer.Option(None, help="Budget in minutes of wall clock."),
    steps: int | None = typer.Option(None, help="Budget in environment steps instead."),
    seed: int | None = typer.Option(None, help="Seed of everything drawn at random."),
    out: Path | None = typer.Option(None, help="Run folder; runs/TASK-ALGO-SEED by default."),
    resume: bool = typer.Option(False, "--resume", help="Go on with the run in the folder."),
    init: str | None = typer.Option(None, help="Policy file or run folder to start from."),
    blind: bool = typer.Option(False, "--blind", help="Leave the image out: what can be had without looking."),
    change: list[str] = typer.Option([], "--set", help="KEY=VALUE on any option, such as ppo.learning_rate=3e-4."),
) -> None:
    from sonogym.errors import InvalidInputError
    from sonogym.registry import load, task_id

    task_id(task)
    if minutes is not None and steps is not None:
        raise InvalidInputError("a run has one budget: give --minutes or --steps, not both")
    named = {"patients": patients, "minutes": minutes, "steps": steps, "seed": seed, "init": init}
    changes = _changes(algo, blind, {key: value for key, value in named.items() if value is not None})
    with_changes = load("sonogym.agents.recipes:with_changes")
    config = with_changes(load("sonogym.agents.recipes:load_recipe")(recipe, task), [*changes, *change])
    folder = out or Path("runs") / f"{task}-{config.algorithm}-{config.seed}"
    if resume:
        stored = load("sonogym.agents.run_folder:RunFolder")(folder).config()
        config = with_changes(stored, [*changes, *change])
    if not _run(config, folder, resume):
        typer.echo(f"stopped; go on with: sonogym train {task} --out {folder} --resume", err=True)
        raise typer.Exit(_INTERRUPTED)


def _changes(algo: str | None, blind: bool, named: dict[str, Any]) -> list[str]:
    """Options as KEY=VALUE; the algorithm comes after the network it is checked against."""
    import json

    changes = [f"{key}={json.dumps(value)}" for key, value in named.items()]
    if blind:
        changes.append("network.blind=true")
    if algo == "ppo":
        changes.append('network.memory="none"')
    return changes + ([f"algorithm={json.dumps(algo)}"] if algo else [])


def _run(config: Any, folder: Path, resume: bool) -> bool:
    """Train; false if a signal ended the run early."""
    import json
    import signal

    from rich.console import Console
    from rich.markdown import Markdown

    from sonogym.cli.patients import make_patients
    from sonogym.registry import load

    make_patients(config.task, config.options())
    budgets: list[Any] = []

    def stop(number: int, frame: Any) -> None:
        if not budgets or budgets[0].interrupted:
            raise KeyboardInterrupt
        budgets[0].interrupt()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        finished = load("sonogym.agents.train:train")(config, folder, resume, budgets.append)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if budgets[0].interrupted:
        return False
    table = finished.path / "evaluation.md"
    if table.is_file():
        Console(width=200).print(Markdown(table.read_text(encoding="utf-8")))
    typer.echo(json.dumps({"run": str(finished.path), "steps": budgets[0].steps}))
    return True
