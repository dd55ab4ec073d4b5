"""The patient without scanner table, mattress and clothes: the largest body component, filled."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from sonogym.errors import InvalidInputError

BODY_HU = -400.0  # between skin or fat (-100) and foam, loose cloth and lung
THINNEST = 9e-3  # m: plates, covers and cloth are thinner than this, fingers and ears too
SEAL = 6e-3  # m: nostrils and the gaps that noise opens; wider openings belong to the outside
SMALLEST_BODY = 1e-4  # m3: 0.1 litre


def body_mask(hu: Float[np.ndarray, "x y z"], spacing: float) -> Bool[np.ndarray, "x y z"]:
    """Largest connected part thicker than ``THINNEST`` [m], lungs and bowel gas included.

    ``hu`` lies on an isotropic grid of ``spacing`` [m]. Raises :class:`InvalidInputError` where no body is found.
    """
    solid = ndimage.gaussian_filter(hu, 0.5, truncate=3.0) > BODY_HU
    steps = max(1, round(0.5 * THINNEST / spacing))
    kernel = largest_component(_ball(solid, steps, grow=False))
    if kernel.sum() * spacing**3 < SMALLEST_BODY:
        raise InvalidInputError("no body is found: nothing above -400 HU is 9 mm thick and larger than 0.1 litre")
    body = _ball(kernel, steps, grow=True) & solid
    box = bounding_box(body, 2)
    body[box] = _filled(body[box], max(1, math.ceil(0.5 * SEAL / spacing)))
    return body


def largest_component(mask: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """The part of a mask with most voxels (6 neighbours); an empty mask stays empty."""
    parts, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax()


def bounding_box(mask: Bool[np.ndarray, "x y z"], margin: int) -> tuple[slice, slice, slice]:
    """The smallest box of voxels around a mask, widened by ``margin`` voxels within the grid."""
    box = []
    for axis, count in enumerate(mask.shape):
        others = tuple(a for a in range(3) if a != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        box.append(slice(max(int(hit[0]) - margin, 0), min(int(hit[-1]) + 1 + margin, count)))
    return box[0], box[1], box[2]


def cut_surface(
    body: Bool[np.ndarray, "x y z"], outside: Bool[np.ndarray, "x y z"]
) -> tuple[Bool[np.ndarray, "x y z"], float]:
    """Voxels of the body that end at the field of view and not at the skin, and their share of its side surface.

    The two ends of the scan are always cut and do not count.
    """
    beyond = np.pad(outside, ((1, 1), (1, 1), (0, 0)), constant_values=True)
    air = np.pad(~body, ((1, 1), (1, 1), (0, 0)), constant_values=True)
    surface, cut = np.zeros_like(body), np.zeros_like(body)
    for axis in (0, 1):
        for shift in (0, 2):
            window = tuple(slice(shift if a == axis else 1, None if shift == 2 and a == axis else -1) for a in (0, 1))
            window = tuple(slice(w.start, w.start + n) for w, n in zip(window, body.shape[:2], strict=True))
            surface |= body & air[window]
            cut |= body & beyond[window]
    return cut, float(cut.sum() / max(int((surface | cut).sum()), 1))


def _filled(body: np.ndarray, seal: int) -> np.ndarray:
    """Holes that no path wider than the seal joins to the sides; air cut by the two ends (lungs) is a hole too."""
    closed = np.pad(body, ((1, 1), (1, 1), (0, 0)))
    parts, _ = ndimage.label(~_ball(closed, seal, grow=True))
    sides = np.concatenate([parts[face].ravel() for face in (0, -1, (slice(None), 0), (slice(None), -1))])
    outer = np.zeros(int(parts.max()) + 1, bool)
    outer[np.unique(sides)] = True
    outer[0] = False
    air = _ball(outer[parts], seal, grow=True)[1:-1, 1:-1]
    return body | ~air


def _ball(mask: np.ndarray, steps: int, *, grow: bool) -> np.ndarray:
    """Dilation or erosion by about a ball of ``steps`` voxels: crosses and cubes in turn; the grid's end is no edge."""
    for step in range(steps):
        element = ndimage.generate_binary_structure(3, 1 if step % 2 == 0 else 2)
        mask = ndimage.binary_dilation(mask, element) if grow else ndimage.binary_erosion(mask, element, border_value=1)
    return mask
