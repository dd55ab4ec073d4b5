"""Volumes from many planes: a swept or matrix block of parallel planes, or a fan tilted about the face."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from sonogym.anatomy.volume import Volume
from sonogym.errors import InvalidInputError, require_between
from sonogym.geometry import Pose, so3
from sonogym.ultrasound.frame import Frame, RenderParams
from sonogym.ultrasound.renderer import Renderer

CHUNK = 32  # planes rendered at once: what is in flight stays small however many there are
WIDEST_FAN = 2.6  # rad


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """``planes`` image planes, symmetric about the probe's own: ``spacing`` [m] apart along its elevation axis y, or
    ``tilt`` [rad] apart about the lateral axis through the middle of its face (positive towards +y).

    Raises :class:`InvalidInputError` unless exactly one of the two is given.
    """

    planes: int
    spacing: float = 0.0
    tilt: float = 0.0

    def __post_init__(self) -> None:
        require_between("planes of a sweep", self.planes, 1, 4096)
        if bool(self.spacing) == bool(self.tilt):
            raise InvalidInputError(
                f"a sweep takes either spacing [m] or tilt [rad], got spacing {self.spacing} and tilt {self.tilt}"
            )
        if self.spacing:
            require_between("spacing of a sweep", self.spacing, 1e-5, 0.05, "m", "millimetres?")
        else:
            require_between("planes of a fan", self.planes, 2, 4096)
            require_between("tilt between the planes of a fan", self.tilt, 1e-4, WIDEST_FAN / (self.planes - 1), "rad")

    @property
    def offsets(self) -> Float[Tensor, " planes"]:
        """Place [m] or tilt [rad] of each plane."""
        return (torch.arange(self.planes) - 0.5 * (self.planes - 1)) * (self.spacing or self.tilt)

    def poses(self, patient_from_probe: Pose) -> Pose:
        """The pose (planes,) of each plane, ``patient_from_probe`` () being that of the middle."""
        patient_from_probe = patient_from_probe.to("cpu")
        step = torch.zeros(self.planes, 3)
        quaternion = patient_from_probe.quaternion.expand(self.planes, 4)
        translation = patient_from_probe.translation.expand(self.planes, 3)
        if self.spacing:
            step[:, 1] = self.offsets
            return Pose(quaternion, translation + so3.rotate(quaternion, step))
        step[:, 0] = -self.offsets
        return Pose(so3.multiply(quaternion, so3.exp(step)), translation)


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """``images`` of each plane with its ``poses`` (planes,) and ``extent`` as in :class:`Frame`; ``volume`` holds them
    as voxels uint8 (1, x, y, z) along the probe's axes, with ``patient_from_voxel`` (RAS [m])."""

    images: UInt8[Tensor, "planes height width"]
    poses: Pose
    extent: tuple[float, float, float, float]
    volume: Volume


def acquire(
    renderer: Renderer,
    patient_from_probe: Pose,
    sweep: Sweep,
    anatomy_index: int = 0,
    params: RenderParams | None = None,
    progress: bool = False,
) -> Acquisition:
    """The volume seen from ``patient_from_probe`` (), each plane with receiver noise of its own (seed + plane).

    ``renderer`` must make images; ``params`` are those of one environment. Of a fan, the volume is interpolated between
    the planes on cubic voxels and holds what lies below the middle of the face. Memory: planes x height x width bytes
    for the images, as much again for the volume (more for a wide fan), and CHUNK frames in flight.
    Raises :class:`InvalidInputError`.
    """
    if "image" not in renderer.config.outputs:
        raise InvalidInputError("a volume is made of images: give RenderConfig(outputs=('image',)) to the renderer")
    if patient_from_probe.translation.shape != (3,):
        batch = tuple(patient_from_probe.translation.shape[:-1])
        raise InvalidInputError(f"patient_from_probe must be one pose without batch, got batch shape {batch}")
    poses = sweep.poses(patient_from_probe)
    frames = _frames(renderer, poses, anatomy_index, params or RenderParams.default(1), progress)
    images = torch.cat([frame.image[:, 0].cpu() for frame in frames if frame.image is not None])
    extent = frames[0].extent
    assert extent is not None
    place = _block if sweep.spacing else _fan
    voxels, axes = place(images, sweep, extent)
    matrix = patient_from_probe.to("cpu").matrix().double() @ axes
    return Acquisition(images=images, poses=poses, extent=extent, volume=Volume(voxels[None], matrix))


def _frames(renderer: Renderer, poses: Pose, index: int, params: RenderParams, progress: bool) -> list[Frame]:
    planes = torch.arange(len(poses.translation))
    frames = []
    for rows in tqdm(planes.split(CHUNK), disable=not progress, desc=f"{CHUNK} planes"):
        batch = params[torch.zeros_like(rows)]
        batch = replace(batch, noise_seed=batch.noise_seed + rows)
        frames.append(renderer.render(poses[rows], torch.full((len(rows),), index), batch))
    return frames


def _block(
    images: UInt8[Tensor, "planes height width"], sweep: Sweep, extent: tuple[float, float, float, float]
) -> tuple[UInt8[Tensor, "x y z"], Float[Tensor, "4 4"]]:
    """Parallel planes as they are, and probe_from_voxel."""
    left, right, bottom, top = extent
    _, height, width = images.shape
    size = ((right - left) / width, sweep.spacing, (bottom - top) / height)
    start = (left + 0.5 * size[0], float(sweep.offsets[0]), top + 0.5 * size[2])
    return images.permute(2, 0, 1).contiguous(), _grid(size, start)


def _fan(
    images: UInt8[Tensor, "planes height width"], sweep: Sweep, extent: tuple[float, float, float, float]
) -> tuple[UInt8[Tensor, "x y z"], Float[Tensor, "4 4"]]:
    """The point (x, y, z) lies in the plane tilted by atan2(y, z), at depth hypot(y, z): bilinear between planes."""
    left, right, bottom, top = extent
    planes, height, width = images.shape
    pixel = (right - left) / width
    half = int(bottom * torch.sin(sweep.offsets[-1].clamp_max(0.5 * torch.pi)) / pixel) + 1
    y = torch.arange(-half, half + 1) * pixel
    z = top + (torch.arange(height) + 0.5) * pixel
    across, deep = torch.meshgrid(y, z, indexing="ij")
    plane = torch.atan2(across, deep) / sweep.tilt + 0.5 * (planes - 1)
    row = (torch.hypot(across, deep) - float(z[0])) / pixel
    inside = (deep > 0) & (plane >= 0) & (plane <= planes - 1) & (row >= 0) & (row <= height - 1)
    first, upper = plane.floor().clamp(0, planes - 2), row.floor().clamp(0, height - 2)
    total = torch.zeros(*plane.shape, width)
    for i in (0, 1):
        for j in (0, 1):
            share = (1 - (plane - first - i).abs()) * (1 - (row - upper - j).abs()) * inside
            total += share[..., None] * images[(first + i).long(), (upper + j).long()]
    voxels = (total + 0.5).to(torch.uint8).permute(2, 0, 1).contiguous()
    return voxels, _grid((pixel, pixel, pixel), (left + 0.5 * pixel, float(y[0]), float(z[0])))


def _grid(size: tuple[float, float, float], start: tuple[float, float, float]) -> Float[Tensor, "4 4"]:
    matrix = torch.diag(torch.tensor([*size, 1.0], dtype=torch.float64))
    matrix[:3, 3] = torch.tensor(start, dtype=torch.float64)
    return matrix
