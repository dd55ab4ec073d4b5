"""``sonogym evaluate``: what a policy is worth on patients of one's choice."""

from __future__ import annotations

from pathlib import Path

import typer

_HELP = """Play episodes with a policy and report success, errors, return and cost.

POLICY is default (the shipped one), expert, random, blind, a policy file or run folder, or module:callable.

Examples:
  [bold]sonogym evaluate navigation --policy default --patients procedural:test --episodes 200[/bold]
  [bold]sonogym evaluate navigation --policy runs/navigation-dagger-0 --out report[/bold]
  [bold]sonogym evaluate scanning --policy expert --set target=liver --episodes 32[/bold]
  [bold]sonogym evaluate navigation --policy mymodule:make_policy --patients procedural:test/7 --json out.json[/bold]
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("evaluate", help=_HELP)(_evaluate)


def _evaluate(
    task: str = typer.Argument(..., help="Name of the task (sonogym envs lists them)."),
    policy: str = typer.Option("default", help="default, expert, random, blind, a path, or module:callable."),
    patients: str = typer.Option(
        "procedural:test", help="procedural:train, val or test, procedural:test/7, procedural:test/0-31, or folders."
    ),
    episodes: int = typer.Option(100, help="Episodes to play."),
    seed: int = typer.Option(0, help="Seed of the episodes."),
    num_envs: int = typer.Option(32, "--num-envs", help="Environments stepped at once."),
    patient_count: int = typer.Option(32, "--patient-count", help="Of a whole split, use the first ones only."),
    out: Path | None = typer.Option(None, help="Folder for the report: table, plots, film."),
    json_file: Path | None = typer.Option(None, "--json", help="Write the figures to this file."),
    option: list[str] = typer.Option([], "--set", help="KEY=VALUE option of the task, such as plane=l3."),
) -> None:
    from sonogym.cli.patients import make_patients
    from sonogym.cli.tables import print_table, write_json
    from sonogym.registry import load

    environment = load("sonogym.agents.recipes:literals")(option)
    make_patients(task, {**environment, **load("sonogym.agents.environment:patient_options")(patients, patient_count)})
    evaluate = load("sonogym.agents.evaluate:evaluate")
    result = evaluate(
        task,
        policy,
        patients=patients,
        episodes=episodes,
        seed=seed,
        num_envs=num_envs,
        patient_count=patient_count,
        environment=environment,
    )
    report = "sonogym.agents.report"
    cells = load(f"{report}:table_cells")(result.summary)
    print_table(f"{task}: {policy}", ["measure", "value"], list(cells.items()))
    if json_file is not None:
        write_json(json_file, result.summary)
    if out is not None:
        for file in load(f"{report}:write_report")(out, result):
            typer.echo(str(file))
