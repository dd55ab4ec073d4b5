"""Whether a scan shows a trunk the right way round, before anything is made of it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from sonogym.anatomy.cleanup import bounding_box
from sonogym.errors import InvalidInputError

SMALLEST_TRUNK = 0.028  # m2: the widest cross-section of heads is below (19 x 15 cm), of adults' trunks above .035
LARGEST_SIDE = 0.80  # m: trunk with both arms
NO_SKIN = 0.9  # share of the side surface that is cut: nothing is left for a probe to stand on
LOWEST_TRUNK = 25e-3  # m: fewer slices hold no vertebra
MOST_CUT = 0.2  # share of the side surface: a field of view that small says nothing of the body's size
BONE_HU = 200.0
SKULL = 9e-3  # m: the scalp is thinner
SKULL_SHARE = 0.4  # of the skin
LEAST_BONE = 8e-5  # m3: two vertebrae; less shows no spine
FRONT = 0.55  # of the body's depth from behind: the bones of a trunk centre farther back


def require_trunk(
    hu: Float[np.ndarray, "x y z"], body: Bool[np.ndarray, "x y z"], spacing: float, share_cut: float
) -> None:
    """Raise :class:`InvalidInputError` for a head, a limb, a size no body has, a few slices, or a scan without skin.

    ``hu`` and ``body`` lie on an isotropic grid of ``spacing`` [m]; ``share_cut`` of the side surface is cut.
    """
    if body.shape[2] * spacing < LOWEST_TRUNK:
        raise InvalidInputError(
            f"the scan is {1e3 * body.shape[2] * spacing:.0f} mm high, and less than a vertebra shows no plane: give "
            f"{1e3 * LOWEST_TRUNK:.0f} mm or more"
        )
    if share_cut > NO_SKIN:
        raise InvalidInputError(
            f"the scan shows no skin: its field of view cuts {100 * share_cut:.0f} % of the body's sides, and a probe "
            "stands on skin. Give the scan before it was cropped (or is air positive, with the sign of the HU lost?)"
        )
    step = max(1, round(4e-3 / spacing))
    coarse = (slice(None, None, step),) * 3
    hu, body = hu[coarse], body[coarse]
    area = body.sum(axis=(0, 1)) * (step * spacing) ** 2
    box = bounding_box(body, 0)
    width, depth, length = ((side.stop - side.start) * step * spacing for side in box)
    if max(width, depth) > LARGEST_SIDE:
        raise InvalidInputError(
            f"the body is {100 * width:.0f} x {100 * depth:.0f} cm wide and deep, no trunk is: is the voxel spacing of "
            "the header right?"
        )
    if area.max() > SMALLEST_TRUNK or share_cut > MOST_CUT:
        return
    shell = _skull_share(hu > BONE_HU, body, step * spacing)
    what = "a head (bone close under the skin all round)" if shell > SKULL_SHARE else "a limb, a head or a neck"
    raise InvalidInputError(
        f"the scan shows no trunk but {what}: its widest cross-section is {1e4 * area.max():.0f} cm2 over "
        f"{100 * length:.0f} cm (a trunk's is above {1e4 * SMALLEST_TRUNK:.0f}). Missing: thoracic or lumbar vertebrae "
        "with the skin of the back. Give a scan of chest or abdomen, or correct the voxel spacing in the header"
    )


def require_back_behind(hu: Float[np.ndarray, "x y z"], body: Bool[np.ndarray, "x y z"], spacing: float) -> None:
    """Raise :class:`InvalidInputError` where the bones lie in the front half of the body: the affine is turned."""
    step = max(1, round(4e-3 / spacing))
    bone = (hu[::step, ::step, ::step] > BONE_HU) & body[::step, ::step, ::step]
    if bone.sum() * (step * spacing) ** 3 < LEAST_BONE:
        return
    rows = bounding_box(body[::step, ::step, ::step], 0)[1]
    place = (np.average(np.arange(bone.shape[1]), weights=bone.sum(axis=(0, 2))) - rows.start) / (
        rows.stop - rows.start
    )
    if place > FRONT:
        raise InvalidInputError(
            f"the bones centre {100 * place:.0f} % of the way from back to front: the header's affine turns the "
            "patient front to back. Correct its second column (RAS: y grows to the front, whichever side the patient "
            "lay on)"
        )


def _skull_share(bone: np.ndarray, body: np.ndarray, spacing: float) -> float:
    """Share of the surface that has bone within the scalp's thickness."""
    padded = np.pad(body, ((1, 1), (1, 1), (0, 0)))
    surface = (padded & ~ndimage.binary_erosion(padded, border_value=1))[1:-1, 1:-1]
    near = ndimage.distance_transform_edt(~bone, sampling=spacing) < SKULL + spacing
    return float(near[surface].mean())
