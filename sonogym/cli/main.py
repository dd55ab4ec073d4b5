"""Entry point of the ``sonogym`` command: every error a user can mend ends in one line and exit code 2."""

from __future__ import annotations

import sys

import typer

from sonogym import __version__
from sonogym.cli import anatomy, benchmark, evaluate, film, listing, qa, render, scene, train
from sonogym.errors import SonogymError

app = typer.Typer(
    name="sonogym",
    help="Robotic-ultrasound simulator and reinforcement-learning gym.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for command in (train, evaluate, render, scene, film, anatomy, qa, benchmark, listing):
    command.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sonogym {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Robotic-ultrasound simulator and reinforcement-learning gym."""


def main() -> None:
    """Run the command line."""
    try:
        app()
    except SonogymError as error:
        typer.echo(f"sonogym: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("sonogym: interrupted", err=True)
        sys.exit(130)
