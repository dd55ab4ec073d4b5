"""``sonogym film``: an arm sweeps a probe over a patient at a constant force."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sonogym.errors import InvalidInputError, require_between

if TYPE_CHECKING:
    import numpy as np

    from sonogym.cli.film_scan import Scan
    from sonogym.cli.stage import Stage
    from sonogym.robot.camera import Camera

_COLOURS = 96  # of the GIF's palette (design)
_DISTANCE = 1.65  # m from the camera to what it looks at (design)
_HELP = """Film of a sweep: an arm with dynamics draws the probe along the skin, pressed to a set-point.

Scene, ultrasound image with its depth scale, and force over time, as an animated GIF. Needs PyBullet (pip install
pybullet; wheels up to Python 3.11). The sweep runs across the image plane, its middle is the standard plane.

Examples:
  [bold]sonogym film --patient procedural:test/7 --plane transverse_L4 --out sweep.gif[/bold]
  [bold]sonogym film --patient procedural:test/7 --plane liver --robot franka_panda --sweep-mm 60 --out liver.gif[/bold]
  [bold]sonogym film --patient scans/case1 --plane transverse_L3 --force-n 8 --breathing --out l3.gif[/bold]
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("film", help=_HELP)(_film)


def _film(
    patient: str = typer.Option(..., help="procedural:train|val|test/NUMBER or the folder of an imported patient."),
    plane: str = typer.Option(..., help="Standard plane in the middle of the sweep (listed by 'sonogym envs')."),
    out: Path = typer.Option(..., help="GIF file to write."),
    robot: str = typer.Option("kuka_iiwa", help="Arm preset (kuka_iiwa, franka_panda) or a .toml file."),
    probe: str = typer.Option("C5-2v", help="Probe preset or a .toml file."),
    sweep_mm: float = typer.Option(120.0, help="Length of the sweep."),
    force_n: float = typer.Option(5.0, help="Set-point of the contact force."),
    seconds: float = typer.Option(10.0, help="Length of the film, landing and rest included."),
    breathing: bool = typer.Option(False, "--breathing", help="The patient breathes quietly, 4 s a breath."),
    rate: float = typer.Option(10.0, help="Pictures a second, or the nearest that divides 20."),
    azimuth_deg: float | None = typer.Option(None, help="Of the camera, from the arm's x; faces the image if absent."),
    elevation_deg: float = typer.Option(24.0, help="Height of the camera over what it looks at."),
    seed: int = typer.Option(0, help="Seed of the speckle and the noise."),
) -> None:
    from tqdm import tqdm

    from sonogym.anatomy.cache import write_atomically
    from sonogym.cli.film_frame import SCENE, write_gif
    from sonogym.cli.film_scan import RATE, Scan
    from sonogym.cli.scene import look_at
    from sonogym.cli.stage import set_stage

    if out.suffix.lower() != ".gif":
        raise InvalidInputError(f"--out must end in .gif, got {str(out)!r}")
    require_between("--sweep-mm", sweep_mm, 1.0, 400.0, "mm")
    require_between("--force-n", force_n, 1.0, 20.0, "N")
    require_between("--seconds", seconds, 3.0, 60.0, "s")
    require_between("--rate", rate, 1.0, RATE, "Hz", "at most the rate of the control")
    require_between("--elevation-deg", elevation_deg, -80.0, 80.0, "degrees")
    require_between("--seed", seed, 0, 2**31 - 1)
    stage = set_stage(patient, plane, robot, probe, 1e-3 * sweep_mm)
    scan = Scan(length=1e-3 * sweep_mm, force=force_n, seconds=seconds, breathing=breathing, seed=seed)
    azimuth = None if azimuth_deg is None else math.radians(azimuth_deg)
    camera = look_at(stage.base_from_probe[0], azimuth, math.radians(elevation_deg), SCENE, _DISTANCE)
    every = round(RATE / rate)
    pictures = _pictures(stage, scan, camera, every)
    frames = list(tqdm(pictures, desc="film", unit="frame", total=math.ceil(seconds * RATE / every), leave=False))
    write_atomically(out, lambda path: write_gif(path, frames, RATE / every, _COLOURS))
    typer.echo(f"wrote {out}: {len(frames)} frames, {1e-6 * out.stat().st_size:.1f} MB")


def _pictures(stage: Stage, scan: Scan, camera: Camera, every: int) -> Iterator[np.ndarray]:
    """The frames of the film, as the scan goes on: of each ``every``-th state."""
    from sonogym.cli.film_frame import Force, compose
    from sonogym.cli.film_scan import RATE, scan_simulator, scan_states

    times: list[float] = []
    readings: list[float] = []
    simulator = scan_simulator(stage, scan)
    for step, state in enumerate(scan_states(simulator, stage, scan)):
        assert state.reading is not None
        assert state.robot is not None
        times.append(step / RATE)
        readings.append(float(state.reading[0]))
        if step % every:
            continue
        fan = stage.fan(simulator.render(state))
        force = Force(times=times, readings=readings, set_point=scan.force, end=scan.seconds)
        yield compose(stage.picture(state.robot, fan, camera), fan, force)
