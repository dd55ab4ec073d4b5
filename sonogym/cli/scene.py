"""``sonogym scene``: a picture of arm, bed and patient with the ultrasound image where its plane lies."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sonogym.errors import InvalidInputError, require_between

if TYPE_CHECKING:
    from sonogym.geometry import Pose
    from sonogym.robot.camera import Camera

DISTANCE = 1.6  # m from the camera to what it looks at (design)
_HELP = """Picture of the scene: an arm holds a probe on a patient, the image is drawn where its plane lies.

Needs PyBullet (pip install pybullet; wheels up to Python 3.11). The camera looks at the image plane from the front
unless its place is given.

Examples:
  [bold]sonogym scene --patient procedural:test/7 --plane transverse_L4 --out scene.png[/bold]
  [bold]sonogym scene --patient procedural:test/7 --plane liver --robot franka_panda --out liver.png[/bold]
  [bold]sonogym scene --patient scans/case1 --plane spleen --azimuth-deg -60 --size 1280x960 --out k.png[/bold]
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("scene", help=_HELP)(_scene)


def _scene(
    patient: str = typer.Option(..., help="procedural:train|val|test/NUMBER or the folder of an imported patient."),
    plane: str = typer.Option(..., help="Standard plane (listed by 'sonogym envs')."),
    out: Path = typer.Option(..., help="PNG file to write."),
    robot: str = typer.Option("kuka_iiwa", help="Arm preset (kuka_iiwa, franka_panda) or a .toml file."),
    probe: str = typer.Option("C5-2v", help="Probe preset or a .toml file."),
    azimuth_deg: float | None = typer.Option(
        None, help="Of the camera, from the arm's x axis; faces the image if absent."
    ),
    elevation_deg: float = typer.Option(25.0, help="Height of the camera over what it looks at."),
    distance_mm: float = typer.Option(1e3 * DISTANCE, help="From the camera to what it looks at."),
    size: str = typer.Option("960x720", help="Width x height of the picture in pixels."),
    seed: int = typer.Option(0, help="Seed of the speckle and the noise."),
) -> None:
    from dataclasses import replace

    import torch
    from PIL import Image

    from sonogym.anatomy.cache import write_atomically
    from sonogym.cli.stage import set_stage
    from sonogym.ultrasound.frame import RenderParams

    if out.suffix.lower() != ".png":
        raise InvalidInputError(f"--out must end in .png, got {str(out)!r}")
    width, height = _size(size)
    require_between("--elevation-deg", elevation_deg, -80.0, 80.0, "degrees")
    require_between("--distance-mm", distance_mm, 300.0, 6000.0, "mm")
    require_between("--seed", seed, 0, 2**31 - 1)
    stage = set_stage(patient, plane, robot, probe)
    azimuth = None if azimuth_deg is None else math.radians(azimuth_deg)
    camera = look_at(
        stage.base_from_probe[0], azimuth, math.radians(elevation_deg), (width, height), 1e-3 * distance_mm
    )
    state = stage.robot.start(stage.base_from_probe, stage.index)
    word = torch.tensor([seed])
    params = replace(RenderParams.default(1), speckle_seed=word, noise_seed=word)
    fan = stage.fan(stage.renderer.render(stage.patient_from_probe, stage.index, params))
    picture = stage.picture(state, fan, camera)
    write_atomically(out, lambda path: Image.fromarray(picture).save(path, format="PNG"))
    typer.echo(f"wrote {out}")


def look_at(
    base_from_probe: Pose,
    azimuth: float | None,
    elevation: float,
    size: tuple[int, int],
    distance: float = DISTANCE,
) -> Camera:
    """A camera on the scene of a probe; ``azimuth`` None faces the image plane a little from the side."""
    from sonogym.geometry import so3
    from sonogym.robot.camera import Camera

    if azimuth is None:
        across = so3.to_matrix(base_from_probe.quaternion)[:, 1]
        azimuth = math.atan2(float(across[1]), float(across[0])) % math.pi
        # of the two sides of the plane the one away from the base and, of a transverse plane, towards the feet
        azimuth = azimuth - math.pi if azimuth > math.radians(50.0) else azimuth
        azimuth += math.radians(20.0)
    x, y, z = base_from_probe.translation.tolist()
    return Camera.around((0.68 * x, y, z + 0.18), azimuth, elevation, distance, *size)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise InvalidInputError(f"--size takes WIDTHxHEIGHT in pixels, got {text!r}")
    return int(width), int(height)
