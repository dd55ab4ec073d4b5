"""What is asked of a renderer, checked before anything is computed."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from sonogym.anatomy.bricks import BrickStack
from sonogym.errors import InvalidInputError, unknown_name
from sonogym.geometry import Pose
from sonogym.ultrasound.frame import RenderParams

FASTEST = 1.1  # the fastest soft tissue over the assumed speed of sound: how much further than shown sound may come
_UNIT = 1e-3  # furthest from 1 that the length of a quaternion may be
_DEVICES = ("cpu", "cuda", "mps")


def check_device(name: str) -> torch.device:
    """The device called ``name``; raises :class:`InvalidInputError` if this machine does not have it."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise unknown_name("device", name, _DEVICES) from None
    if device.type not in _DEVICES:
        raise unknown_name("device", name, _DEVICES)
    if (device.index or 0) >= _count(device.type):
        raise InvalidInputError(f"device {name!r} is not available on this machine; use 'cpu'")
    return device


def check_request(
    pose: Pose, index: Int[Tensor, " envs"], params: RenderParams, counts: tuple[int, int], on_host: bool
) -> None:
    """Refuse wrong batch shapes and, ``on_host``, impossible values (elsewhere looking at them would halt the device).

    ``counts`` are those of patients and of beam variants. Raises :class:`InvalidInputError`.
    """
    if index.ndim != 1:
        raise InvalidInputError(f"anatomy_index must have shape (envs,), got {tuple(index.shape)}")
    envs = len(index)
    if pose.translation.shape != (envs, 3) or pose.quaternion.shape != (envs, 4):
        raise InvalidInputError(
            f"patient_from_probe must have batch shape ({envs},) like anatomy_index, got "
            f"{tuple(pose.translation.shape[:-1])}"
        )
    if params.gain.shape != (envs,):
        raise InvalidInputError(f"render parameters are for {len(params.gain)} environments, poses for {envs}")
    if on_host and envs:
        _check_values(pose, index, counts[0])
        for name in ("gain", "tgc"):
            if not np.isfinite(getattr(params, name).detach().numpy()).all():
                raise InvalidInputError(f"{name} holds NaN or infinity: {getattr(params, name).tolist()}")
        _check_variant(params, counts[1])


def check_reach(voxels: BrickStack, index: Int[Tensor, " envs"], pose: Pose, reach: float) -> None:
    """Raise :class:`InvalidInputError` where a probe is more than ``reach`` [m] away from the patient's voxels.

    A probe nearer than that may look past them and see nothing: an environment at the end of a scan does.
    """
    patient, place = index.numpy(), pose.translation.detach().numpy()
    matrix, top = voxels.voxel_from_patient.numpy()[patient], voxels.shape.numpy()[patient] - 1
    voxel = (matrix[:, :3, :3] @ place[..., None])[..., 0] + matrix[:, :3, 3]
    past = np.maximum(np.maximum(-voxel, voxel - top), 0.0)
    away = np.sqrt((past**2).sum(-1) / (matrix[:, 0, :3] ** 2).sum(-1))  # the grid is isotropic
    if (away > reach).any():
        missed = np.flatnonzero(away > reach).tolist()
        raise InvalidInputError(
            f"patient_from_probe {_few(missed)} lies outside the patient: {float(away.max()):.3g} m from its volume, "
            "where no scan line reaches it (poses are in metres, in the patient's RAS frame)"
        )


def _check_values(pose: Pose, index: Tensor, patients: int) -> None:
    numbers = index.numpy()
    if not 0 <= numbers.min() <= numbers.max() < patients:
        raise InvalidInputError(f"anatomy_index must be in 0 .. {patients - 1}, got {index.tolist()}")
    place, quaternion = pose.translation.detach().numpy(), pose.quaternion.detach().numpy()
    finite = np.isfinite(place).all(-1) & np.isfinite(quaternion).all(-1)
    if not finite.all():
        missed = np.flatnonzero(~finite).tolist()
        raise InvalidInputError(f"patient_from_probe {_few(missed)} is not finite: it holds NaN or infinity")
    length = np.sqrt((quaternion**2).sum(-1))
    off = abs(length - 1.0) > _UNIT
    if off.any():
        raise InvalidInputError(
            f"patient_from_probe {_few(np.flatnonzero(off).tolist())} needs unit quaternions (w, x, y, z), "
            f"got length {float(length[off][0]):g}; divide them by their length"
        )


def _check_variant(params: RenderParams, count: int) -> None:
    variant = None if params.variant is None else params.variant.numpy()
    if variant is not None and not 0 <= variant.min() <= variant.max() < count:
        raise InvalidInputError(
            f"variant must be in 0 .. {count - 1}, got {variant.tolist()}; RenderConfig's frequency_factors and "
            f"focus_factors make variants"
        )


def _few(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:4]))
    return f"[{shown}{', ...' if len(numbers) > 4 else ''}]"


def _count(kind: str) -> int:
    if kind == "cuda":
        return torch.cuda.device_count()
    return int(kind == "cpu" or torch.backends.mps.is_available())
