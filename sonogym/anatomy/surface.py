"""The skin as a signed distance [m], positive outside the body, on a coarse smooth grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage, special
from torch import Tensor

from sonogym.anatomy.volume import Volume
from sonogym.errors import InvalidInputError
from sonogym.geometry import grids

_CAST_STEP = 3e-3  # m along a ray that grazes the skin: a fold is wider
_CAST_STEPS = 20  # towards the skin, each as long as the distance to it
_CAST_CLOSE = 2e-4  # m: a ray that has not come this close grazes the skin
SKIN_SPACING = 3e-3  # m: the distance is smooth, so a coarse grid with trilinear reading stays within .1 mm
BORDER = 12  # voxels of air kept around the body
NORMAL_STEP = 6e-3  # m: a probe face averages the slope over about its own width
CLEARANCE = 15e-3  # m from the middle of a probe to where the scan cut the body (design): the normal reads 9 mm around


@dataclass(frozen=True)
class Skin:
    """Signed distance volume (1, x, y, z) float32, metres, positive outside.

    ``clearance``: a volume of the distance [m] to where the field of view cut the body, for the surface there is no
    skin; None where it cut nothing.
    """

    distance: Volume
    clearance: Volume | None = None

    def at(self, points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points"]:
        """Signed distance [m] at patient points [m]."""
        return _read(self.distance, points)

    def usable(self, points: Float[Tensor, "*points 3"]) -> Bool[Tensor, "*points"]:
        """Whether a probe may stand at skin points [m]: the scan cut nothing off within :data:`CLEARANCE`."""
        if self.clearance is None:
            return torch.ones(points.shape[:-1], dtype=torch.bool)
        return _read(self.clearance, points) >= CLEARANCE

    def normal(self, points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 3"]:
        """Outward unit normal at patient points."""
        steps = NORMAL_STEP * torch.eye(3)
        gradient = torch.stack([self.at(points + step) - self.at(points - step) for step in steps], dim=-1)
        return gradient / gradient.norm(dim=-1, keepdim=True).clamp_min(1e-12)

    def project(self, points: Float[Tensor, "*points 3"], iterations: int = 8) -> Float[Tensor, "*points 3"]:
        """The skin point reached from each point along the distance gradient."""
        for _ in range(iterations):
            points = points - self.at(points)[..., None] * self.normal(points)
        return points

    def cast(
        self, origin: Float[Tensor, "*points 3"], direction: Float[Tensor, "*points 3"], reach: float = 0.4
    ) -> Float[Tensor, "*points 3"]:
        """Last skin crossing of rays from inside the body; raises :class:`InvalidInputError` where none is met.

        The rays are walked from their far ends inwards, by the distance to the skin at each step.
        """
        along = torch.full(origin.shape[:-1], reach)
        for _ in range(_CAST_STEPS):
            distance = self.at(origin + along[..., None] * direction)
            along = (along - distance.clamp_min(0.0)).clamp_min(0.0)
        creeping = distance > _CAST_CLOSE
        if bool(creeping.any()):
            along[creeping] = self._march(origin.expand(direction.shape)[creeping], direction[creeping], reach)
        return self.project(origin + along[..., None] * direction, iterations=2)

    def _march(
        self, origin: Float[Tensor, "rays 3"], direction: Float[Tensor, "rays 3"], reach: float
    ) -> Float[Tensor, " rays"]:
        """How far [m] along rays that graze the skin the last crossing lies, by equal steps."""
        steps = torch.arange(0.0, reach, _CAST_STEP)
        distance = self.at(origin[:, None] + steps[:, None] * direction[:, None])
        inside = distance < 0
        if not bool(inside.any(-1).all()):
            raise InvalidInputError(f"no skin is met within {reach} m of {origin.tolist()} along {direction.tolist()}")
        last = (inside.shape[-1] - 1 - inside.flip(-1).int().argmax(-1))[:, None]
        near = torch.take_along_dim(distance, last, -1)
        far = torch.take_along_dim(distance, (last + 1).clamp_max(inside.shape[-1] - 1), -1)
        share = (near / torch.where(far > near, near - far, -1.0)).clamp(0.0, 1.0)
        return (last + share)[:, 0] * _CAST_STEP


def _read(volume: Volume, points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points"]:
    voxel = grids.affine(volume.voxel_from_patient.float(), points)
    batch = points.shape[:-1]
    shape = torch.tensor(volume.voxels.shape[1:]).expand(*batch, 3)
    return grids.trilinear(volume.voxels.reshape(-1), torch.tensor(0).expand(batch), shape, voxel)


def skin_tensors(skin: Skin) -> dict[str, Tensor]:
    """What files keep of a skin."""
    tensors = {"skin": skin.distance.voxels, "skin_patient_from_voxel": skin.distance.patient_from_voxel.double()}
    return tensors if skin.clearance is None else {**tensors, "skin_clearance": skin.clearance.voxels}


def skin_from_tensors(tensors: Mapping[str, Tensor]) -> Skin:
    """The skin that :func:`skin_tensors` described."""
    matrix = tensors["skin_patient_from_voxel"]
    cut = tensors.get("skin_clearance")
    return Skin(Volume(tensors["skin"], matrix), None if cut is None else Volume(cut, matrix))


def mark_cut(skin: Skin, cut: Bool[np.ndarray, "x y z"], patient_from_voxel: Float[Tensor, "4 4"]) -> Skin:
    """``skin`` with the clearance from the body's ``cut`` voxels; itself where there are none."""
    index = np.argwhere(cut)
    if not len(index):
        return skin
    to_skin = (skin.distance.voxel_from_patient @ patient_from_voxel.double()).numpy()
    far = np.ones(skin.distance.voxels.shape[1:], bool)
    at = np.rint(index @ to_skin[:3, :3].T + to_skin[:3, 3]).astype(int)
    far[tuple(np.clip(at, 0, np.array(far.shape) - 1).T)] = False
    clearance = ndimage.distance_transform_edt(far, sampling=skin.distance.spacing).astype(np.float32)
    return Skin(skin.distance, Volume(torch.from_numpy(clearance)[None], skin.distance.patient_from_voxel))


def skin_from_body(body: Bool[Tensor, "x y z"], patient_from_voxel: Float[Tensor, "4 4"]) -> Skin:
    """Skin of a filled body mask; raises :class:`InvalidInputError` for an empty one."""
    if not bool(body.any()):
        raise InvalidInputError("the body mask is empty: the volume holds only air")
    level = signed_distance(body.numpy(), patient_from_voxel.double(), SKIN_SPACING, 0.8 * SKIN_SPACING, BORDER)
    distance = ndimage.gaussian_filter(level.voxels[0].numpy(), 0.7)
    return Skin(Volume(torch.from_numpy(distance)[None], level.patient_from_voxel))


def signed_distance(
    mask: Bool[np.ndarray, "x y z"], patient_from_voxel: Float[Tensor, "4 4"], spacing: float, blur: float, margin: int
) -> Volume:
    """Distance [m] to the faces of a mask, positive outside, float32 at voxels of ``spacing`` [m] along its axes.

    ``blur`` [m] is the low-pass that reads the faces between voxels; ``margin`` voxels of outside are added all round.
    """
    blurred, matrix = _blur_mask(mask, patient_from_voxel.numpy(), spacing, blur, margin)
    distance = _distance(blurred, blur, spacing).astype(np.float32)
    return Volume(torch.from_numpy(distance)[None], torch.from_numpy(matrix))


def _distance(blurred: np.ndarray, sigma: float, spacing: float) -> np.ndarray:
    """Signed distance [m] of a half-space mask blurred by ``sigma`` [m]: d = -sigma Phi^-1(mask) near the edge.

    Far from it, the distance to the closest voxel across the edge plus that voxel's own.
    """
    near = -sigma * special.ndtri(np.clip(blurred, 1e-3, 1.0 - 1e-3))
    return extended_distance(near, sigma, spacing)


def extended_distance(near: Float[np.ndarray, "x y z"], band: float, spacing: float) -> Float[np.ndarray, "x y z"]:
    """A signed distance [m] that holds everywhere, of one that holds within ``band`` [m] of its zero level."""
    inside = near < 0.0
    distance = np.empty_like(near)
    for side, sign in ((inside, -1.0), (~inside, 1.0)):
        steps, index = ndimage.distance_transform_edt(side, sampling=spacing, return_indices=True)
        distance[side] = (sign * steps + near[tuple(index)])[side]
    return np.where(np.abs(near) < band, near, distance)


def _blur_mask(
    mask: np.ndarray, matrix: np.ndarray, spacing: float, blur: float, margin: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mask blurred and resampled to ``spacing`` with a margin of nothing, and the new affine."""
    edge = np.linalg.norm(matrix[:3, :3], axis=0)
    zoom = spacing / edge
    blurred = ndimage.gaussian_filter(mask.astype(np.float32), blur / edge, mode="nearest")
    shape = [int(np.ceil(n / z)) + 2 * margin for n, z in zip(mask.shape, zoom, strict=True)]
    coarse = ndimage.affine_transform(blurred, zoom, offset=-margin * zoom, output_shape=shape, order=1, mode="nearest")
    scale = np.diag([*zoom, 1.0])
    scale[:3, 3] = -margin * zoom
    return coarse, matrix @ scale
