"""What a probe's face feels: force, pressure and coupling from its pose and the patient alone (contact.md).

The face is a few points, each on a column of tissue over bone that pushes back along the face's normal there:
p_i = F0 / A_c (exp(delta_i / d0_i) - 1), A_c the area in contact, F0 and d0 of :mod:`sonogym.robot.contact_force`, and
delta the depth of the point under the undeformed skin. A flat face pressed evenly over an even bone feels that law.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonogym.anatomy.bone import ASIDE, NODES, column_above_bone
from sonogym.anatomy.stack import VolumeStack
from sonogym.errors import InvalidInputError, require_between
from sonogym.geometry import Pose, grids
from sonogym.geometry.compiled import array
from sonogym.robot import kernel_face
from sonogym.robot.contact_force import LOSS, rate_factor
from sonogym.ultrasound.contact import GAP_NONE, SOFTNESS, coupling_of
from sonogym.ultrasound.pressure import spring_depth, spring_force
from sonogym.ultrasound.transducer import Transducer

LATERAL, ELEVATION = 7, 3  # points across the face; the bone is looked for along the middle row
FRICTION = 0.1  # Coulomb coefficient of a gelled face on skin (design; see docs/contact.md)
STICKING_SPEED = 1e-3  # m/s below which friction grows with the speed instead of jumping (design)
MOST_FRICTION = 2.0
_NODE = np.array(NODES, np.float32) * np.float32(1e-3)


@dataclass(frozen=True, kw_only=True)
class ContactFactors:
    """What differs between episodes; None is the default. (envs,) each.

    ``stiffness`` multiplies F0; ``friction`` is the Coulomb coefficient; ``loss`` the share of the force by which
    pressing lies above rest and release below it; ``gel`` [m] the thickest layer of gel that still couples.
    Raises :class:`InvalidInputError` for values no body has: zero stiffness, negative friction, a loss outside [0, 1).
    """

    stiffness: Float[Tensor, " envs"] | None = None
    friction: Float[Tensor, " envs"] | None = None
    loss: Float[Tensor, " envs"] | None = None
    gel: Float[Tensor, " envs"] | None = None

    def __post_init__(self) -> None:
        limits = {"stiffness": (0.05, 20.0, ""), "friction": (0.0, MOST_FRICTION, ""), "loss": (0.0, 0.9, "")}
        for name, (low, high, unit) in {**limits, "gel": (5e-4, 0.02, "m")}.items():
            value = getattr(self, name)
            if value is not None and value.numel():
                require_between(f"{name} of the contact", float(value.min()), low, high, unit)
                require_between(f"{name} of the contact", float(value.max()), low, high, unit)


@dataclass(frozen=True, kw_only=True)
class ContactReading:
    """Of each environment, in the probe's axes (x lateral, y elevation, z into the tissue).

    ``force`` [N] along -z on the probe, never negative; ``friction`` (envs, 2) [N] on the probe along x and y;
    ``indentation`` [m] of the face's centre under the undeformed skin, negative in the air; ``bone_depth`` [m] of the
    bone below the undeformed skin, harmonic mean over the face (the softest column a body has: 90 mm); ``stiffness``
    [N/m] dF / d(indentation); ``contact_area`` [m^2]; ``peak_pressure`` [Pa]; ``coupled`` share of the face that passes
    sound; ``centre_of_pressure`` (envs, 2) [m], 0 in the air; ``lift`` (envs, 2) [m]: by how much more the +x and +y
    edge stands off the skin than the -x and -y one. Near this place F = (F + F0) exp(d(indentation) / d0) - F0 with
    ``force_scale`` F0 [N] and ``depth_scale`` d0 [m].
    """

    force: Float[Tensor, " envs"]
    friction: Float[Tensor, "envs 2"]
    indentation: Float[Tensor, " envs"]
    bone_depth: Float[Tensor, " envs"]
    stiffness: Float[Tensor, " envs"]
    contact_area: Float[Tensor, " envs"]
    peak_pressure: Float[Tensor, " envs"]
    coupled: Float[Tensor, " envs"]
    centre_of_pressure: Float[Tensor, "envs 2"]
    lift: Float[Tensor, "envs 2"]
    force_scale: Float[Tensor, " envs"]
    depth_scale: Float[Tensor, " envs"]


class Contact:
    """The contact of one kind of probe with the patients of ``skin`` and ``bone`` (distances [m])."""

    def __init__(self, skin: VolumeStack, bone: VolumeStack, transducer: Transducer) -> None:
        """Raises :class:`InvalidInputError` for a probe that lies inside the body."""
        if transducer.inserted:
            raise InvalidInputError(f"probe {transducer.name!r} lies inside the body: no skin pushes on its face")
        self.skin, self.bone = skin, bone
        device = skin.flat.device
        origin, direction = _face(transducer)
        row = transducer.height * ((torch.arange(ELEVATION) + 0.5) / ELEVATION - 0.5)
        points = origin[:, None].repeat(1, ELEVATION, 1)
        points[..., 1] = row
        ahead = points[:, ELEVATION // 2] + direction  # a metre in front of the middle row
        self._points = torch.cat((points.reshape(-1, 3), torch.zeros(1, 3), ahead)).to(device)  # between: the centre
        self._place, self._direction = points[..., :2].to(device), direction.to(device)
        self._face = (points.numpy(), direction.contiguous().numpy())
        self._face_area = transducer.width * transducer.height
        self._area = self._face_area / (LATERAL * ELEVATION)

    def read(
        self,
        patient_from_probe: Pose,
        anatomy_index: Int[Tensor, " envs"],
        velocity: Float[Tensor, "envs 3"] | None = None,
        factors: ContactFactors | None = None,
    ) -> ContactReading:
        """What the face feels at each pose; ``velocity`` [m/s] of the probe in its own axes, at rest if absent.

        Compiled where no gradient is asked for: :meth:`read_reference` to rounding.
        """
        factors = factors or ContactFactors()
        given = (patient_from_probe.quaternion, velocity, *vars(factors).values())
        if self.skin.compiled(patient_from_probe.translation) and not any(
            x is not None and x.requires_grad for x in given
        ):
            return self._fused(patient_from_probe, anatomy_index, velocity, factors)
        return self.read_reference(patient_from_probe, anatomy_index, velocity, factors)

    def _fused(
        self, pose: Pose, index: Int[Tensor, " envs"], velocity: Tensor | None, factors: ContactFactors
    ) -> ContactReading:
        out = kernel_face.empty(len(index))
        moving = np.empty((0, 3), np.float32) if velocity is None else array(velocity)
        kernel_face.feel(
            self.skin.arrays(index)[:4], self.bone.arrays(index)[:4], _NODE, np.float32(ASIDE), index.numpy(),
            array(pose.quaternion), array(pose.translation), moving, _filled(factors, len(index)),
            self._face, self._area, STICKING_SPEED, out,
        )  # fmt: skip
        return _reading(torch.from_numpy(out))

    def read_reference(
        self,
        patient_from_probe: Pose,
        anatomy_index: Int[Tensor, " envs"],
        velocity: Float[Tensor, "envs 3"] | None,
        factors: ContactFactors,
    ) -> ContactReading:
        """:meth:`read`, defined."""
        points = grids.affine(patient_from_probe.matrix()[:, None], self._points)
        depth, column, centre = self._beneath(points, anatomy_index)
        pressed = depth.clamp_min(0.0)
        column = column + pressed  # bone below the undeformed skin
        touching = torch.sigmoid(depth / SOFTNESS)
        touched = touching.sum((1, 2))
        spring = spring_depth(column)
        area = self._area * touched
        pressure_scale = (spring_force(area) / area.clamp_min(1e-9))[:, None, None]
        if factors.stiffness is not None:
            pressure_scale = pressure_scale * factors.stiffness[:, None, None]
        elastic = pressure_scale * torch.expm1(pressed / spring)
        upright = self._direction[:, None, 2] * self._area  # the part of a point's area that pushes along z
        slope = pressure_scale * torch.exp(pressed / spring) / spring * (depth > 0)
        rest, stiffness = (elastic * upright).sum((1, 2)), (slope * upright).sum((1, 2))
        force_scale = (pressure_scale * upright * (depth > 0)).sum((1, 2))
        rate = rate_factor(None if velocity is None else velocity[:, 2], factors.loss, rest)
        force = rest * rate
        return ContactReading(
            force=force,
            friction=_friction(force, velocity, factors.friction),
            indentation=centre,
            bone_depth=(touching.sum((1, 2)) / (touching / column).sum((1, 2))),
            stiffness=stiffness * rate,
            contact_area=area,
            peak_pressure=elastic.amax((1, 2)) * rate,
            coupled=coupling_of(depth, _gel(factors, depth)).mean((1, 2)),
            centre_of_pressure=self._centre(elastic * upright, rest),
            lift=torch.stack(
                (_gap(depth[:, -1]) - _gap(depth[:, 0]), _gap(depth[..., -1]) - _gap(depth[..., 0])), dim=-1
            ),
            force_scale=force_scale,
            depth_scale=(rest + force_scale) / stiffness.clamp_min(1e-6),
        )

    def _beneath(
        self, points: Float[Tensor, "envs points 3"], index: Int[Tensor, " envs"]
    ) -> tuple[Float[Tensor, "envs lateral elevation"], Float[Tensor, "envs lateral 1"], Float[Tensor, " envs"]]:
        """Depth [m] of the points under the undeformed skin, tissue [m] between them and bone, depth of the centre."""
        count = LATERAL * ELEVATION
        ahead = points[:, count + 1 :]
        depth = -self.skin.trilinear(points[:, : count + 1].contiguous(), index)
        middle = points[:, :count].unflatten(1, (LATERAL, ELEVATION))[:, :, ELEVATION // 2]
        column = column_above_bone(self.bone, index, middle, ahead - middle)
        return depth[:, :-1].unflatten(1, (LATERAL, ELEVATION)), column[..., None], depth[:, -1]

    def _centre(self, force: Float[Tensor, "envs lateral elevation"], total: Float[Tensor, " envs"]) -> Tensor:
        return (force[..., None] * self._place).sum((1, 2)) / total.clamp_min(1e-6)[:, None]


def _face(transducer: Transducer) -> tuple[Float[Tensor, "lateral 3"], Float[Tensor, "lateral 3"]]:
    """Middles [m] and normals of equal strips across the face; that of a phased probe is flat though its lines fan."""
    origin, direction = transducer.scanlines(2 * LATERAL + 1)
    origin, direction = origin[1::2].clone(), direction[1::2].clone()
    if transducer.kind != "convex":
        origin = torch.zeros_like(origin)
        origin[:, 0] = transducer.width * ((torch.arange(LATERAL) + 0.5) / LATERAL - 0.5)
        direction = torch.tensor([0.0, 0.0, 1.0]).expand(LATERAL, 3)
    return origin, direction


def _filled(factors: ContactFactors, envs: int) -> np.ndarray:
    """Stiffness, friction, loss and gel (envs, 4), those that are None at their default."""
    pairs = ((factors.stiffness, 1.0), (factors.friction, FRICTION), (factors.loss, LOSS), (factors.gel, GAP_NONE))
    filled = np.empty((envs, len(pairs)))
    for column, (value, default) in enumerate(pairs):
        filled[:, column] = default if value is None else value.numpy()
    return filled


def _reading(columns: Float[Tensor, "envs columns"]) -> ContactReading:
    """A reading from the columns of :func:`kernel_face.feel`."""
    parts = columns.T.contiguous()
    force, _, _, indentation, bone, stiffness, area, peak, coupled, _, _, _, _, scale, depth = parts.unbind(0)
    return ContactReading(
        force=force, friction=parts[1:3].T, indentation=indentation, bone_depth=bone, stiffness=stiffness,
        contact_area=area, peak_pressure=peak, coupled=coupled, centre_of_pressure=parts[9:11].T, lift=parts[11:13].T,
        force_scale=scale, depth_scale=depth,
    )  # fmt: skip


def _gap(depth: Float[Tensor, "envs points"]) -> Float[Tensor, " envs"]:
    return (-depth).clamp_min(0.0).mean(-1)


def _gel(factors: ContactFactors, depth: Tensor) -> Float[Tensor, "#envs #1 #1"]:
    return depth.new_full((1, 1, 1), GAP_NONE) if factors.gel is None else factors.gel.to(depth)[:, None, None]


def _friction(
    force: Float[Tensor, " envs"], velocity: Float[Tensor, "envs 3"] | None, coefficient: Tensor | None
) -> Float[Tensor, "envs 2"]:
    """Coulomb: -mu F v / |v| against the sliding, growing linearly with the speed below STICKING_SPEED."""
    if velocity is None:
        return force.new_zeros(len(force), 2)
    mu = FRICTION if coefficient is None else coefficient
    speed = velocity[:, :2].norm(dim=-1).clamp_min(STICKING_SPEED)
    return -(mu * force / speed)[:, None] * velocity[:, :2]
