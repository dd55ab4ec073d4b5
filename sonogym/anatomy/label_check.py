"""Whether labels and CT speak of one patient: a bone must hold cortex, a solid organ must not be air."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int16
from scipy import ndimage

from sonogym.anatomy.tissues import Tissue
from sonogym.anatomy.totalsegmentator import tissue_of
from sonogym.errors import InvalidInputError

SMALLEST = 2e-6  # m3: smaller pieces are mostly edge
CORTEX_QUARTER = 100.0  # HU: a quarter of every bone is above, muscle with contrast is not
AERATED = -300.0  # HU
_MAY_BE_AIR = (Tissue.LUNG, Tissue.AIR, Tissue.BOWEL, Tissue.STOMACH, None)


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
