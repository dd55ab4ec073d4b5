"""Standard planes: the probe pose on the skin that shows a named view."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.anatomy.anatomy import Body
from sonogym.errors import UnknownNameError, unknown_name
from sonogym.geometry import Pose

LEVELS = ("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5")
_LEFT = torch.tensor([-1.0, 0.0, 0.0])
_UP = torch.tensor([0.0, 0.0, 1.0])
_POSTERIOR = torch.tensor([0.0, -1.0, 0.0])
_ANTERIOR = -_POSTERIOR

# target landmark, direction from it to the probe (patient RAS), image lateral axis
_ORGAN_PLANES = {
    "kidney_left_long": ("kidney_left", torch.tensor([-0.75, -0.66, 0.0]), _UP),
    "kidney_right_long": ("kidney_right", torch.tensor([0.75, -0.66, 0.0]), _UP),
    "kidney_left_short": ("kidney_left", torch.tensor([-0.75, -0.66, 0.0]), _ANTERIOR),
    "kidney_right_short": ("kidney_right", torch.tensor([0.75, -0.66, 0.0]), _ANTERIOR),
    "liver_kidney": ("kidney_right", torch.tensor([0.98, 0.2, 0.0]), _UP),
    "liver": ("liver", torch.tensor([0.75, 0.66, 0.0]), _LEFT),
    "gall_bladder": ("gall_bladder", torch.tensor([0.45, 0.89, 0.0]), _UP),
    "spleen": ("spleen", torch.tensor([-0.87, -0.5, 0.0]), _UP),
    "aorta_transverse": ("aorta_L3", _ANTERIOR, _LEFT),
    "aorta_long": ("aorta_L3", _ANTERIOR, _UP),
    "lung_right": ("lung_right", torch.tensor([0.5, -0.87, 0.0]), _UP),
}
PLANE_NAMES = (*(f"transverse_{level}" for level in LEVELS), *(f"sagittal_{level}" for level in LEVELS), *_ORGAN_PLANES)


def plane_pose(body: Body, plane: str) -> Pose:
    """``patient_from_probe`` of a standard plane: origin on the skin, z into the body along the skin's normal.

    Spine planes are reached from the back, transverse with x to the patient's left, sagittal with x towards the head.
    Raises :class:`UnknownNameError` for an unknown plane, or one whose landmark this patient lacks.
    """
    if plane not in PLANE_NAMES:
        raise unknown_name("plane", plane, PLANE_NAMES)
    if plane in _ORGAN_PLANES:
        landmark, outward, lateral = _ORGAN_PLANES[plane]
        return skin_pose(body, body.landmark(landmark), outward, lateral)
    kind, level = plane.split("_")
    axis = spine_axis(body, level)
    outward = _POSTERIOR - (_POSTERIOR @ axis) * axis
    lateral = _LEFT - (_LEFT @ axis) * axis if kind == "transverse" else axis
    return skin_pose(body, body.landmark(f"vertebra_{level}"), outward, lateral)


def skin_pose(body: Body, target: Float[Tensor, "3"], outward: Float[Tensor, "3"], lateral: Float[Tensor, "3"]) -> Pose:
    """Probe on the skin where a ray from ``target`` along ``outward`` leaves the body."""
    origin = body.skin.cast(target.float(), outward / outward.norm())
    return Pose.from_axes(lateral, -body.skin.normal(origin), origin)


def spine_axis(body: Body, level: str) -> Float[Tensor, "3"]:
    """Unit tangent of the spine (towards the head) at a vertebra, from its neighbours' centres."""
    body.landmark(f"vertebra_{level}")
    at = LEVELS.index(level)
    near = [body.landmarks.get(f"vertebra_{name}") for name in LEVELS[max(at - 1, 0) : at + 2]]
    known = [point for point in near if point is not None]
    if len(known) < 2:
        return _UP
    axis = (known[0] - known[-1]).float()
    return axis / axis.norm()


def reachable_planes(body: Body) -> list[str]:
    """Names of the planes whose landmarks this patient has."""
    names = []
    for plane in PLANE_NAMES:
        try:
            plane_pose(body, plane)
        except UnknownNameError:
            continue
        names.append(plane)
    return names
