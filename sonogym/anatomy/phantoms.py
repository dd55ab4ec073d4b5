"""Analytic phantoms with known answers: a flat skin at y = 0 of the patient frame, tissue at y > 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int16, UInt8
from torch import Tensor

from sonogym.anatomy.anatomy import Anatomy, content_digest
from sonogym.anatomy.surface import SKIN_SPACING, Skin
from sonogym.anatomy.tissues import Tissue
from sonogym.anatomy.volume import Volume
from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose

SPACING = 1e-3  # m
SIZE = (0.16, 0.15, 0.05)  # m: left-right, depth, head-foot
MARGIN = 0.02  # m of air before the skin
_HOUNSFIELD = {Tissue.AIR: -1000, Tissue.LUNG: -750, Tissue.SUBCUTANEOUS_FAT: -100, Tissue.VISCERAL_FAT: -100}
_BONE_HOUNSFIELD = {Tissue.TRABECULAR_BONE: 300, Tissue.CORTICAL_BONE: 1200}
_SOFT_HOUNSFIELD = 40

Size = tuple[float, float, float]
Inside = Callable[[Float[Tensor, "x y z 3"]], Bool[Tensor, "x y z"]]


def phantom_pose(lateral: float = 0.0, elevation: float = 0.0, press: float = 0.0) -> Pose:
    """``patient_from_probe`` looking along +y, x to the patient's left, face centre ``press`` [m] below the skin."""
    origin = torch.tensor([-lateral, press, elevation])
    return Pose.from_axes(torch.tensor([-1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]), origin)


def homogeneous(tissue: Tissue = Tissue.LIVER, spacing: float = SPACING, size: Size = SIZE) -> Anatomy:
    """One tissue from the skin on."""
    return layers((), (tissue,), spacing, size)


def layers(
    thicknesses: Sequence[float], tissues: Sequence[Tissue], spacing: float = SPACING, size: Size = SIZE
) -> Anatomy:
    """Plane layers parallel to the skin, ``thicknesses`` [m] from the skin on; the last tissue fills the rest."""
    if len(tissues) != len(thicknesses) + 1 or any(thickness <= 0 for thickness in thicknesses):
        raise InvalidInputError(
            f"layers need one tissue more than (positive) thicknesses, got {list(tissues)} and {list(thicknesses)}"
        )
    shapes: list[tuple[Tissue, Inside]] = []
    top = 0.0
    for thickness, tissue in zip(thicknesses, tissues[1:], strict=True):
        top += thickness
        shapes.append((tissue, _deeper_than(top)))
    return phantom("layers", tissues[0], shapes, spacing, size)


def cyst(
    depth: float = 0.05,
    radius: float = 0.01,
    background: Tissue = Tissue.LIVER,
    content: Tissue = Tissue.FLUID,
    spacing: float = SPACING,
    size: Size = SIZE,
) -> Anatomy:
    """A cylinder along z (so that the slice thickness does not fill it in), its axis ``depth`` [m] below the skin."""
    return phantom("cyst", background, [(content, _cylinder(0.0, depth, radius))], spacing, size)


def plate(
    depth: float = 0.04,
    thickness: float = 0.003,
    width: float = 1.0,
    background: Tissue = Tissue.LIVER,
    content: Tissue = Tissue.CORTICAL_BONE,
    spacing: float = SPACING,
    size: Size = SIZE,
) -> Anatomy:
    """A plate parallel to the skin, ``width`` [m] wide about the mid-line, its near face ``depth`` [m] deep."""

    def inside(points: Tensor) -> Tensor:
        y = points[..., 1]
        return (y >= depth) & (y < depth + thickness) & (points[..., 0].abs() <= 0.5 * width)

    return phantom("plate", background, [(content, inside)], spacing, size)


def wires(
    places: Sequence[tuple[float, float]],
    radius: float = 1e-3,
    background: Tissue = Tissue.GEL,
    content: Tissue = Tissue.CONNECTIVE,
    spacing: float = SPACING,
    size: Size = SIZE,
) -> Anatomy:
    """Cylinders along z at (lateral, depth) [m] in the probe's sense of lateral."""
    shapes = [(content, _cylinder(lateral, depth, radius)) for lateral, depth in places]
    return phantom("wires", background, shapes, spacing, size)


def tilted(
    depth: float,
    angle: float,
    above: Tissue = Tissue.MUSCLE,
    below: Tissue = Tissue.CORTICAL_BONE,
    spacing: float = SPACING,
    size: Size = SIZE,
) -> Anatomy:
    """Two half-spaces whose interface crosses the mid-line ``depth`` [m] deep, turned by ``angle`` [rad] about z."""

    def inside(points: Tensor) -> Tensor:
        tilt = torch.tensor(angle, dtype=points.dtype)
        return (points[..., 1] - depth) * tilt.cos() - points[..., 0] * tilt.sin() >= 0

    return phantom("tilted", above, [(below, inside)], spacing, size)


def phantom(
    name: str,
    background: Tissue,
    shapes: Sequence[tuple[Tissue, Inside]],
    spacing: float = SPACING,
    size: Size = SIZE,
) -> Anatomy:
    """``background`` below the skin with ``shapes`` put in one after another; ``size`` [m] below the skin.

    A voxel face lies at y = 0. The skin distance is exactly -y. The CT holds one value for each tissue.
    """
    points, matrix = _grid(spacing, size)
    labels = torch.full(points.shape[:-1], int(background), dtype=torch.uint8)
    for tissue, inside in shapes:
        labels[inside(points)] = int(tissue)
    labels[points[..., 1] < 0] = int(Tissue.AIR)
    ct = _hounsfield(labels)
    return Anatomy(
        name=name,
        skin=flat_skin(size),
        landmarks={},
        digest=content_digest(labels, ct, matrix.tolist()),
        ct=Volume(ct[None], matrix),
        labels=Volume(labels[None], matrix),
        facts={"source": "analytic phantom"},
    )


def _grid(spacing: float, size: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
    """Voxel centres (x, y, z, 3) float64 [m] and the affine."""
    if not 1e-4 <= spacing <= 5e-3:
        raise InvalidInputError(f"spacing of a phantom must be in [0.0001, 0.005] m, got {spacing!r} (millimetres?)")
    across, deep, long = (max(round(edge / spacing), 2) for edge in size)
    before = round(MARGIN / spacing)
    count = (across, before + deep, long)
    start = torch.tensor([0.5 - 0.5 * across, 0.5 - before, 0.5 - 0.5 * long], dtype=torch.float64) * spacing
    matrix = torch.diag(torch.tensor([spacing, spacing, spacing, 1.0], dtype=torch.float64))
    matrix[:3, 3] = start
    axes = [torch.arange(n, dtype=torch.float64) * spacing + first for n, first in zip(count, start, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1), matrix


def flat_skin(size: tuple[float, float, float]) -> Skin:
    """The skin y = 0 of a phantom of ``size`` [m]: -y on the grid of :class:`Skin`, exact when read trilinearly."""
    edge = torch.tensor([size[0], size[1] + 2 * MARGIN, size[2]], dtype=torch.float64)
    count = (edge / SKIN_SPACING).ceil().long() + 2
    start = torch.tensor([-0.5 * size[0], -2 * MARGIN, -0.5 * size[2]], dtype=torch.float64)
    matrix = torch.diag(torch.tensor([SKIN_SPACING, SKIN_SPACING, SKIN_SPACING, 1.0], dtype=torch.float64))
    matrix[:3, 3] = start
    y = start[1] + SKIN_SPACING * torch.arange(int(count[1]), dtype=torch.float64)
    distance = (-y.float())[None, None, :, None].expand(1, *count.tolist()).contiguous()
    return Skin(Volume(distance, matrix))


def _hounsfield(labels: UInt8[Tensor, "x y z"]) -> Int16[Tensor, "x y z"]:
    table = torch.full((len(Tissue),), _SOFT_HOUNSFIELD, dtype=torch.int16)
    for tissue, value in {**_HOUNSFIELD, **_BONE_HOUNSFIELD}.items():
        table[int(tissue)] = value
    return table[labels.long()]


def _deeper_than(depth: float) -> Inside:
    return lambda points: points[..., 1] >= depth


def _cylinder(lateral: float, depth: float, radius: float) -> Inside:
    """``lateral`` counts to the patient's left, as the probe's x does in :func:`phantom_pose`."""
    return lambda points: torch.hypot(points[..., 0] + lateral, points[..., 1] - depth) <= radius
