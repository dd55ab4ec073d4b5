"""``sonogym render``: one picture of one patient."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sonogym.errors import InvalidInputError, require_between

if TYPE_CHECKING:
    from sonogym.anatomy import Anatomy
    from sonogym.geometry import Pose
    from sonogym.ultrasound.acquisition import Sweep
    from sonogym.ultrasound.frame import RenderConfig, RenderParams
    from sonogym.ultrasound.transducer import Transducer

MARGIN = 0.015  # m kept around the view: slice thickness and smoothing
DISPLAY_PITCH = 0.7e-3  # m: fine enough for a picture to be looked at (physics.md section 3)
_HELP = """Render one ultrasound picture to a PNG file.

Examples:
  [bold]sonogym render --patient procedural:test/7 --plane transverse_L4 --out l4.png[/bold]
  [bold]sonogym render --patient procedural:test/7 --plane liver_kidney --probe P4-2v --labels --out rk.png[/bold]
  [bold]sonogym render --patient scans/case1 --pose "0.01 -0.11 0.2 0.707 -0.707 0 0" --depth-mm 120 --out p.png[/bold]
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("render", help=_HELP)(_render)


def _render(
    patient: str = typer.Option(..., help="procedural:train|val|test/NUMBER or the folder of an imported patient."),
    out: Path = typer.Option(..., help="PNG file to write."),
    plane: str | None = typer.Option(None, help="Standard plane (listed by 'sonogym envs')."),
    pose: str | None = typer.Option(None, help="patient_from_probe 'x y z qw qx qy qz' in metres, instead of --plane."),
    probe: str = typer.Option("C5-2v", help="Probe preset or a .toml file."),
    labels: bool = typer.Option(False, "--labels", help="Put the tissue map with its legend beside the picture."),
    axes: bool = typer.Option(False, "--axes", help="Draw axes in millimetres."),
    depth_mm: float | None = typer.Option(None, help="Imaging depth; the probe's own by default."),
    press_mm: float | None = typer.Option(None, help="Indentation at a --plane; the probe's own by default."),
    lines: int = typer.Option(512, help="Scan lines."),
    samples: int = typer.Option(1024, help="Samples along a line."),
    size: int = typer.Option(640, help="Height of the picture in pixels."),
    gain: float = typer.Option(0.0, help="Gain in dB."),
    seed: int = typer.Option(0, help="Seed of the speckle and the noise."),
    steering_deg: float = typer.Option(0.0, help="Angle that the lines of a linear probe are turned by."),
    sweep: int | None = typer.Option(None, help="Render this many parallel planes: a montage and a .nii.gz volume."),
    sweep_spacing: float = typer.Option(1.0, help="Distance between the planes of --sweep in mm."),
    device: str = typer.Option("cpu", help="cpu, cuda or mps."),
    json_file: Path | None = typer.Option(None, "--json", help="Write pose, extent and settings to this file."),
) -> None:
    from sonogym.anatomy.library import load_patient

    if out.suffix.lower() != ".png":
        raise InvalidInputError(f"--out must end in .png, got {str(out)!r}")
    view = _view(probe, steering_deg, depth_mm, press_mm, lines, samples, size, gain, seed, device)
    block = _block(sweep, sweep_spacing, labels or axes)
    anatomy = load_patient(patient)
    placed = _pose(anatomy, plane, pose, view.press)
    if block is not None:
        typer.echo(f"wrote {out} and {_write_sweep(out, view, anatomy, placed, block)}")
        return
    extent = _write_frame(out, view, anatomy, placed, labels, axes)
    typer.echo(f"wrote {out}")
    if json_file is not None:
        content = _facts(patient, plane, placed, view, extent)
        _write_facts(json_file, {**content, "lines": lines, "samples": samples, "gain_db": gain, "seed": seed})


@dataclass(frozen=True, kw_only=True)
class _View:
    """What the options say of probe and scanner, checked before any patient is read; ``size`` in pixels."""

    transducer: Transducer
    depth: float
    press: float
    size: int
    config: RenderConfig
    params: RenderParams
    device: str


def _view(
    probe: str, steering_deg: float, depth_mm: float | None, press_mm: float | None, lines: int, samples: int,
    size: int, gain: float, seed: int, device: str,
) -> _View:  # fmt: skip
    from sonogym.ultrasound.requests import check_device
    from sonogym.ultrasound.transducer import load_probe

    require_between("--size", size, 32, 4096, "pixels")
    require_between("--seed", seed, 0, 2**31 - 1)
    require_between("--gain", gain, -100, 100, "dB")
    check_device(device)
    transducer = replace(load_probe(probe), steering=math.radians(steering_deg))
    depth = transducer.depth if depth_mm is None else _metres("--depth-mm", depth_mm, 5.0, 300.0)
    press = transducer.press if press_mm is None else _metres("--press-mm", press_mm, -30.0, 60.0)
    config = _config(transducer, (lines, samples), depth)
    return _View(
        transducer=transducer, depth=depth, press=press, size=size, config=config, params=_params(gain, seed),
        device=device,
    )  # fmt: skip


def _block(planes: int | None, spacing_mm: float, decorated: bool) -> Sweep | None:
    from sonogym.ultrasound.acquisition import Sweep

    if planes is None:
        return None
    if decorated:
        raise InvalidInputError("--labels and --axes belong to one picture; leave them out with --sweep")
    return Sweep(planes=planes, spacing=_metres("--sweep-spacing", spacing_mm, 0.01, 50.0))


def _write_sweep(out: Path, view: _View, anatomy: Anatomy, placed: Pose, block: Sweep) -> Path:
    from sonogym.cli.picture import picture_size
    from sonogym.cli.sweep import write_sweep
    from sonogym.ultrasound.renderer import Renderer

    size = picture_size(view.transducer, view.depth, view.size)
    config = replace(view.config, outputs=("image",), image_size=size)
    near = _near(anatomy, view.transducer, block.poses(placed), view.depth)
    return write_sweep(out, Renderer([near], view.transducer, config, view.device), placed, block, view.params)


def _write_frame(out: Path, view: _View, anatomy: Anatomy, placed: Pose, labels: bool, axes: bool) -> list[float]:
    """Write one picture; returns left, right, bottom, top of it [mm]."""
    import torch

    from sonogym.ultrasound.renderer import Renderer

    near = _near(anatomy, view.transducer, placed.unsqueeze(0), view.depth)
    renderer = Renderer([near], view.transducer, view.config, view.device)
    frame = renderer.render(placed.unsqueeze(0), torch.zeros(1, dtype=torch.long), view.params)
    assert frame.labels is not None
    tissue = frame.labels[0].cpu() if labels else None
    return _write_picture(out, view.transducer, frame.beam[0, 0].cpu(), tissue, view.depth, view.size, axes)


def _metres(name: str, value: float, low: float, high: float) -> float:
    require_between(name, value, low, high, "mm")
    return 1e-3 * value


def _pose(anatomy: Anatomy, plane: str | None, text: str | None, press: float) -> Pose:
    """The probe from its plane (moved inward by ``press`` [m]) or from seven numbers."""
    import torch

    from sonogym.anatomy.planes import plane_pose
    from sonogym.geometry import Pose

    if (plane is None) == (text is None):
        raise InvalidInputError("give either --plane NAME or --pose 'x y z qw qx qy qz'")
    if plane is not None:
        return plane_pose(anatomy, plane) @ Pose(torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, press]))
    try:
        numbers = torch.tensor([float(word) for word in str(text).replace(",", " ").split()])
    except ValueError:
        raise InvalidInputError(f"--pose takes seven numbers 'x y z qw qx qy qz', got {text!r}") from None
    if numbers.shape != (7,) or not bool(torch.isfinite(numbers).all()):
        raise InvalidInputError(f"--pose takes seven finite numbers 'x y z qw qx qy qz', got {text!r}")
    if float(numbers[:3].abs().max()) > 3.0:
        raise InvalidInputError(f"--pose places the probe {text!r} more than 3 m away: metres are expected")
    norm = float(numbers[3:].norm())
    require_between("length of the --pose quaternion", norm, 0.99, 1.01, hint="w first")
    return Pose(numbers[3:] / norm, numbers[:3])


def _near(anatomy: Anatomy, transducer: Transducer, pose: Pose, depth: float) -> Anatomy:
    """The part of ``anatomy`` that the beam reaches from poses (n,), so that only this is refined to DISPLAY_PITCH."""
    import torch

    from sonogym.anatomy.anatomy import content_digest
    from sonogym.anatomy.volume import Volume
    from sonogym.geometry import grids
    from sonogym.ultrasound.requests import FASTEST

    origin, direction = transducer.scanlines(16)
    seen = pose[:, None].apply(torch.cat((origin, origin + FASTEST * depth * direction))).double().flatten(0, 1)
    voxel = grids.affine(anatomy.labels.voxel_from_patient, seen)
    reach = MARGIN / torch.tensor(anatomy.labels.spacing)
    shape = torch.tensor(anatomy.labels.voxels.shape[1:])
    low = (voxel.amin(0) - reach).floor().long().clamp_min(0)
    high = torch.minimum((voxel.amax(0) + reach).ceil().long() + 1, shape)
    if bool((low >= high).any()):
        raise InvalidInputError(
            f"the probe at {pose.translation[0].tolist()} m sees no part of patient {anatomy.name!r}"
        )
    window = (slice(None), *(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True)))
    matrix = anatomy.labels.patient_from_voxel.double().clone()
    matrix[:3, 3] = grids.affine(matrix, low.double())
    ct, labels = (Volume(volume.voxels[window], matrix) for volume in (anatomy.ct, anatomy.labels))
    return replace(anatomy, ct=ct, labels=labels, digest=content_digest(anatomy.digest, low.tolist(), high.tolist()))


def _config(transducer: Transducer, shape: tuple[int, int], depth: float) -> RenderConfig:
    from sonogym.ultrasound.frame import RenderConfig

    return RenderConfig(
        lines=shape[0],
        samples=shape[1],
        depth=depth,
        planes=5,
        outputs=("labels",),
        pitch=DISPLAY_PITCH,
        reverberation=True,
        ring_down=True,
        steering=transducer.steering,
    )


def _params(gain: float, seed: int) -> RenderParams:
    import torch

    from sonogym.ultrasound.frame import RenderParams

    word = torch.tensor([seed])
    return replace(RenderParams.default(1), gain=torch.tensor([gain]), speckle_seed=word, noise_seed=word)


def _write_picture(
    out: Path, transducer: Transducer, beam: Any, tissue: Any | None, depth: float, size: int, axes: bool
) -> list[float]:
    """Write the PNG; returns left, right, bottom, top of the picture [mm]."""
    from sonogym.anatomy.cache import write_atomically
    from sonogym.cli.picture import draw, picture_size
    from sonogym.ultrasound.scan_conversion import ScanConverter

    samples, lines = beam.shape
    convert = ScanConverter(transducer, lines, samples, depth, *picture_size(transducer, depth, size))
    extent = [1e3 * edge for edge in convert.extent]
    image = convert(beam).numpy()
    labels = None if tissue is None else (convert.nearest(tissue).numpy(), convert.inside.numpy())
    write_atomically(out, lambda path: draw(path, image, labels, extent, axes))
    return extent


def _facts(patient: str, plane: str | None, pose: Pose, view: _View, extent: list[float]) -> dict[str, Any]:
    return {
        "patient": patient,
        "plane": plane,
        "patient_from_probe": {"translation_m": pose.translation.tolist(), "quaternion_wxyz": pose.quaternion.tolist()},
        "probe": view.transducer.name,
        "depth_mm": 1e3 * view.depth,
        "extent_mm": extent,
    }


def _write_facts(path: Path, content: dict[str, Any]) -> None:
    from sonogym.cli.tables import write_json

    write_json(path, content)
