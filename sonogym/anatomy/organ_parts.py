"""Parts that label sets leave out and ultrasound shows: blood in the heart, the kidney's sinus."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from sonogym.anatomy.cleanup import bounding_box
from sonogym.anatomy.hu_tissues import FAT_HU, UNDECIDED
from sonogym.anatomy.tissues import Tissue

HEART_WALL = 8e-3  # m: between the right (3-5) and the left ventricle's wall (8-11)
SINUS_REACH = 9e-3  # m: half the opening of the hilum


def paint_heart(named: UInt8[np.ndarray, "x y z"], spacing: float) -> None:
    """A heart labelled as one piece: a wall of ``HEART_WALL`` [m] around blood, in place."""
    heart = named == Tissue.MYOCARDIUM
    if not heart.any():
        return
    box = bounding_box(heart, 1)
    inner = ndimage.binary_erosion(heart[box], iterations=max(1, round(HEART_WALL / spacing)), border_value=1)
    named[box][inner] = Tissue.BLOOD


def paint_sinus(named: UInt8[np.ndarray, "x y z"], hu: Float[np.ndarray, "x y z"], spacing: float) -> None:
    """Unlabelled fat in the hollow of each kidney becomes kidney sinus, in place."""
    steps = max(1, round(SINUS_REACH / spacing))
    parts, _ = ndimage.label(named == Tissue.KIDNEY_CORTEX)
    for part in ndimage.find_objects(parts):
        box = tuple(slice(max(side.start - steps, 0), side.stop + steps) for side in part)
        kidney = np.pad(named[box] == Tissue.KIDNEY_CORTEX, steps)
        hollow = ndimage.binary_closing(kidney, iterations=steps)[(slice(steps, -steps),) * 3]
        named[box][hollow & (named[box] == UNDECIDED) & (hu[box] < FAT_HU)] = Tissue.KIDNEY_SINUS
