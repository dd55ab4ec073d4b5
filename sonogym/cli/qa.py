"""``sonogym qa``: a probe measured with the virtual quality-assurance phantom."""

from __future__ import annotations

from pathlib import Path

import typer

_HELP = """Measure a probe with a virtual quality-assurance phantom and write a report.

Resolution along three axes, distances, dead zone, contrast, uniformity and penetration: the tests that AAPM Ultrasound
Task Group 1 and IEC 61390/61391 describe, each against its closed form. Exit code 1 if a value is out of its tolerance.

Examples:
  [bold]sonogym qa C5-2v[/bold]
  [bold]sonogym qa L11-5v --out reports[/bold]
  [bold]sonogym qa my_probe.toml --out reports --json reports/my_probe.json[/bold]
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("qa", help=_HELP)(_qa)


def _qa(
    probe: str = typer.Argument(..., help="Probe preset or a .toml file."),
    out: Path | None = typer.Option(None, help="Folder for the report, PROBE.md and PROBE.png."),
    json_file: Path | None = typer.Option(None, "--json", help="Write the rows to this file."),
) -> None:
    from tqdm import tqdm

    from sonogym.cli.qa_report import json_content, print_rows, write_report
    from sonogym.cli.tables import write_json
    from sonogym.ultrasound.qa.protocol import STEPS, run_quality
    from sonogym.ultrasound.transducer import load_probe

    transducer = load_probe(probe)
    with tqdm(total=STEPS, desc=f"phantom of {transducer.name}", unit="test", leave=False) as bar:
        quality = run_quality(transducer, bar.update)
    print_rows(quality)
    if out is not None:
        write_report(out, quality)
        typer.echo(f"wrote {out / transducer.name}.md and .png")
    if json_file is not None:
        write_json(json_file, json_content(quality))
    if not quality.passed:
        raise typer.Exit(1)
