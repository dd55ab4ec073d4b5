"""Whether labels and CT speak of one patient, the same way round."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int16
from scipy import ndimage

from sonogym.anatomy.tissues import Tissue
from sonogym.anatomy.totalsegmentator import levels, tissue_of
from sonogym.errors import InvalidInputError

SMALLEST = 2e-6  # m3: smaller pieces are mostly edge
CORTEX_QUARTER = 100.0  # HU: a quarter of every bone is above, muscle with contrast is not
AERATED = -300.0  # HU
_MAY_BE_AIR = (Tissue.LUNG, Tissue.AIR, Tissue.BOWEL, Tissue.STOMACH, None)
_BONY = 150.0  # HU
_CLEARER = 0.1  # share of bone labels that fall on bone by which a flip must be better to be believed
_ORDERED = 2  # steps from vertebra to vertebra: fewer prove no order
_FLIPS = {0: "left and right", 1: "front and back", 2: "head and feet"}


def check_labels(
    ids: Int16[np.ndarray, "x y z"],
    names: Mapping[int, str],
    hu: Float[np.ndarray, "x y z"],
    spacing: float,
    table: str,
) -> None:
    """Raise :class:`InvalidInputError` naming the structures whose HU contradict their name.

    ``ids`` and ``hu`` lie on one isotropic grid of ``spacing`` [m]; ``table`` is where the names came from.
    """
    wrong = []
    for i, box in enumerate(ndimage.find_objects(ids), start=1):
        values = hu[box][ids[box] == i] if box and i in names else np.zeros(0)
        if values.size * spacing**3 >= SMALLEST and _contradicts(tissue_of(names[i]), values):
            wrong.append(f"{names[i]} (median {float(np.median(values)):.0f} HU)")
    if wrong:
        raise InvalidInputError(
            f"the CT contradicts the labels: {', '.join(wrong[:5])}{' ..' if len(wrong) > 5 else ''}. The ids follow "
            f"another table than {table} (choose v1 or v2), or the labels are of another scan"
        )


def _contradicts(tissue: Tissue | None, values: np.ndarray) -> bool:
    if tissue == Tissue.TRABECULAR_BONE:
        return float(np.percentile(values, 75)) < CORTEX_QUARTER
    return tissue not in _MAY_BE_AIR and float(np.median(values)) < AERATED


def require_same_way_round(
    ids: Int16[np.ndarray, "x y z"], names: Mapping[int, str], hu: Int16[np.ndarray, "x y z"]
) -> None:
    """Raise :class:`InvalidInputError` where the labels, flipped along an axis, meet the bones of the CT far better.

    Both lie on the grid they are stored on (axes closest to right, anterior, superior).
    """
    bony = [i for i, name in names.items() if tissue_of(name) == Tissue.TRABECULAR_BONE]
    step = tuple(slice(None, None, max(1, n // 120)) for n in ids.shape)
    table = np.zeros(int(ids.max()) + 1, bool)
    table[bony] = True
    bone, bright = table[ids[step]], hu[step] > _BONY
    if not bone.any():
        return
    straight = bright[bone].mean()
    for axis, ends in _FLIPS.items():
        flipped = bright[np.flip(bone, axis)].mean()
        if flipped > straight + _CLEARER:
            raise InvalidInputError(
                f"the labels are mirrored against the CT: {100 * straight:.0f} % of their bone falls on bone, "
                f"{100 * flipped:.0f} % with {ends} exchanged. Export the labels again with the CT's own header"
            )


def require_sides(ids: Int16[np.ndarray, "x y z"], names: Mapping[int, str], situs_inversus: bool = False) -> None:
    """Raise :class:`InvalidInputError` where left structures lie right of their fellows, or vertebrae run upwards.

    ``ids`` lie on a grid whose axes run to the right, forward and to the head. ``situs_inversus``: the liver is known
    to lie on the left, and must.
    """
    boxes = dict(enumerate(ndimage.find_objects(ids), start=1))
    centre = {
        names[i]: np.array([0.5 * (side.start + side.stop) for side in box])
        for i, box in boxes.items()
        if box is not None and i in names
    }
    _require_left_and_right(centre, situs_inversus)
    heights = [centre[f"vertebrae_{level}"][2] for level in levels(centre)]
    down = [a > b for a, b in itertools.pairwise(heights)]
    rising = _head_first(list(levels(centre)))
    if len(down) >= _ORDERED and np.mean(np.array(down) == rising) < 0.5:
        raise InvalidInputError(
            "head and feet are exchanged: the vertebrae run the wrong way. The header's affine is wrong; correct it"
        )


def _require_left_and_right(centre: Mapping[str, np.ndarray], situs_inversus: bool) -> None:
    pairs = [(name, name.replace("_left", "_right")) for name in centre if "_left" in name]
    organs = ("spleen", "liver")
    told = [(a, b) for a, b in (*pairs, organs) if a in centre and b in centre]
    crossed = [a for a, b in told if centre[a][0] > centre[b][0]]
    if situs_inversus:
        if organs in told and "spleen" not in crossed:
            raise InvalidInputError("no situs inversus: the liver lies right of the spleen; leave --situs-inversus out")
    elif 2 * len(crossed) > len(told):
        raise InvalidInputError(
            f"left and right are exchanged: {', '.join(crossed[:4])} and others lie to the right of their fellows. The "
            "header's affine is wrong or the labels are mirrored; correct it. For a patient known to have a situs "
            "inversus, add --situs-inversus"
        )


def _head_first(known: list[str]) -> np.ndarray:
    """For each level but the last, whether it lies over the next one in a body."""
    order = [{"C": 0, "T": 7, "L": 19, "S": 24}[level[0]] + int(level[1:]) for level in known]
    return np.diff(order) > 0
