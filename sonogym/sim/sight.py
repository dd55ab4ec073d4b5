"""Which points of a patient an image shows: inside the fan, within its thickness, with no bone or gas in front."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonogym.anatomy.bricks import BrickStack
from sonogym.anatomy.tissues import BONE, TISSUE_COUNT, Tissue
from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose, grids
from sonogym.geometry.compiled import array, serves
from sonogym.sim import kernel_sight
from sonogym.sim.kernel_sight import STEPS
from sonogym.ultrasound.psf import elevation_width
from sonogym.ultrasound.transducer import Transducer

OPAQUE = (*BONE, Tissue.METAL, Tissue.STONE, Tissue.AIR, Tissue.LUNG)
_CLEAR = 0.93  # share of the way that must be free: the point's own surface may be bone


@dataclass(frozen=True, kw_only=True)
class Sight:
    """The view of ``transducer`` down to ``depth`` [m] into the patients of ``voxels`` (channel 0: tissue ids)."""

    voxels: BrickStack
    transducer: Transducer
    depth: float
    _opaque: Bool[Tensor, " tissues"] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.transducer.kind not in ("convex", "linear", "phased"):
            raise InvalidInputError(f"a {self.transducer.kind} probe has no fan to look along")
        opaque = torch.zeros(TISSUE_COUNT, dtype=torch.bool)
        opaque[[int(tissue) for tissue in OPAQUE]] = True
        object.__setattr__(self, "_opaque", opaque.to(self.voxels.flat.device))

    def inside(
        self, patient_from_probe: Pose, points: Float[Tensor, "envs points 3"], thickness: float = 0.0
    ) -> tuple[Bool[Tensor, "envs points"], Float[Tensor, "envs points 3"]]:
        """Whether points [m] lie within fan and thickness of the image, and where their scan lines start.

        The thickness is the -6 dB elevation width, at least ``thickness`` [m].
        """
        inverse = patient_from_probe.inverse().matrix().to(points.dtype)
        x, y, z = grids.affine(inverse[:, None], points).unbind(-1)
        if self.transducer.kind == "linear":
            across, span, face = x / self.transducer.width, z, torch.stack((x, 0.0 * x, 0.0 * x), dim=-1)
        else:
            radius = self.transducer.radius
            angle = torch.atan2(x, z + radius)
            across, span = angle / self.transducer.field_of_view, torch.hypot(x, z + radius) - radius
            face = torch.stack((radius * angle.sin(), 0.0 * x, radius * (angle.cos() - 1.0)), dim=-1)
        thin = y.abs() <= 0.5 * elevation_width(self.transducer, span.clamp_min(0.0)).clamp_min(thickness)
        seen = (across.abs() <= 0.5) & (span > 0.0) & (span <= self.depth) & thin
        return seen, grids.affine(patient_from_probe.matrix().to(points.dtype)[:, None], face)

    def __call__(
        self,
        patient_from_probe: Pose,
        anatomy_index: Int[Tensor, " envs"],
        points: Float[Tensor, "envs points 3"],
        thickness: float = 0.0,
    ) -> tuple[Bool[Tensor, "envs points"], Bool[Tensor, "envs points"]]:
        """Points [m] inside the image (see :meth:`inside`), and those of them that nothing opaque hides.

        Compiled on the CPU: :meth:`reference` but for points on an edge.
        """
        if not serves(patient_from_probe.quaternion, patient_from_probe.translation, points):
            return self.reference(patient_from_probe, anatomy_index, points, thickness)
        inside, clear = (torch.empty(points.shape[:-1], dtype=torch.bool) for _ in range(2))
        probe, voxels = self.transducer, self.voxels
        stack = (voxels.flat, voxels.offset, voxels.shape, voxels.leap, voxels.voxel_from_patient)
        kernel_sight.look(
            tuple(part.numpy() for part in stack), anatomy_index.numpy(),
            array(patient_from_probe.quaternion), array(patient_from_probe.translation), array(points),
            (probe.kind == "linear", probe.width, probe.radius, probe.field_of_view, self.depth, thickness),
            np.array((probe.elevation_depths, probe.elevation_widths)), _CLEAR, self._opaque.numpy(),
            inside.numpy(), clear.numpy(),
        )  # fmt: skip
        return inside, clear

    def reference(
        self,
        patient_from_probe: Pose,
        anatomy_index: Int[Tensor, " envs"],
        points: Float[Tensor, "envs points 3"],
        thickness: float = 0.0,
    ) -> tuple[Bool[Tensor, "envs points"], Bool[Tensor, "envs points"]]:
        """A call, defined."""
        inside, face = self.inside(patient_from_probe, points, thickness)
        env, point = inside.nonzero(as_tuple=True)
        share = _CLEAR * (torch.arange(STEPS, device=points.device) + 0.5) / STEPS
        start, end = face[env, point], points[env, point]
        along = torch.lerp(start[:, None], end[:, None], share[None, :, None])
        index = anatomy_index[env]
        tissue = self.voxels.nearest(along, index)[..., 0]
        clear = torch.zeros_like(inside)
        clear[env, point] = ~self._opaque[tissue.long()].any(-1)
        return inside, clear


def newly_seen(
    views: Bool[Tensor, "patients poses points"],
    anatomy_index: Int[Tensor, " envs"],
    covered: Bool[Tensor, "envs points"],
) -> Float[Tensor, "envs poses"]:
    """How many points that each pose of an environment's patient shows are not yet covered."""
    gain = torch.empty(len(covered), views.shape[1])
    kernel_sight.gains(views.numpy(), anatomy_index.numpy(), covered.numpy(), gain.numpy())
    return gain
