"""Tissue classes from Hounsfield units where no structure is labelled; the skin and bone shell of every patient.

Limits in HU follow the design page of the image physics (section 3); they are read on low-passed HU, since a CT's
noise would otherwise speckle the classes. Distances are choices that keep layers at least one voxel thick.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from sonogym.anatomy.tissues import BONE, Tissue

UNDECIDED = 255
LOW_PASS = 1e-3  # m, standard deviation
GAS_HU, FAT_HU, BONE_HU = -250.0, -25.0, 170.0
CONTRAST_BONE_HU = 200.0  # without labels: contrast in vessels and kidneys passes 170
CORTEX_HU = 450.0  # blood with contrast stays below; the cortex of every bone is above somewhere
CORTEX_VOLUME = 2e-7  # m3: what is smaller is a calcified vessel wall
CORTEX_REACH = 10e-3  # m: half a vertebral body
MARROW_HU, MARROW_BLUR = 80.0, 2.5e-3  # HU, m: marrow above, spinal canal below
CORTEX_GAP = 9e-3  # m: where vessels enter a bone, and where its wall is too thin to see
SLICE_GAP = 6e-3  # m: slices in which a body's wall does not close; discs are as thick, but darker
SKIN_LAYER, SHELL = 2e-3, 1.5e-3  # m
THINNEST_VESSEL = 7e-3  # m: bright parts that are thinner belong to the bone they touch
LUNG_HU = (-930.0, -400.0)  # gas in bowel lies below
LUNG_VOLUME, LUNG_SHARE = 1e-4, 0.1  # m3; of the largest part: stool in the colon is smaller
WALL_GAP = (45.0, 45e-3)  # deg, m: gaps of the muscle wall, around and along the body, that are bridged
BEHIND = 35.0  # deg to either side of straight back: there the spine closes the wall and nothing is bridged
FURROW = 15e-3  # m: a dip of the wall up to this depth, as over the spine, is no gap
COARSE = 3e-3  # m
ANGLES = 120


def low_passed(hu: Float[np.ndarray, "x y z"], spacing: float) -> Float[np.ndarray, "x y z"]:
    """HU smoothed with a Gaussian of 1 mm."""
    return ndimage.gaussian_filter(hu, LOW_PASS / spacing, truncate=3.0)


def tissues_from_hu(
    hu: Float[np.ndarray, "x y z"],
    body: Bool[np.ndarray, "x y z"],
    outside: Bool[np.ndarray, "x y z"],
    named: UInt8[np.ndarray, "x y z"],
    spacing: float,
) -> UInt8[np.ndarray, "x y z"]:
    """Tissue of every voxel: ``named`` where it is decided, else by HU; air outside the body; skin; cortical shells.

    ``hu`` float32 on an isotropic RAS grid of ``spacing`` [m]; ``outside``: beyond the field of view, where the body's
    edge is no skin; ``named``: tissue ids, :data:`UNDECIDED` (255) where the HU decide.
    """
    smooth = low_passed(hu, spacing)
    any_name = bool((named[body] != UNDECIDED).any())
    tissue = np.where(body, named, np.uint8(Tissue.AIR))
    if not any_name:
        _paint_lungs(tissue, smooth, spacing)
    _paint_bright(tissue, hu, smooth, spacing, any_name)
    _paint_gas(tissue, smooth)
    open_ = tissue == UNDECIDED
    fat = open_ & (smooth < FAT_HU)
    tissue[open_ & (smooth >= FAT_HU)] = Tissue.MUSCLE
    tissue[fat] = Tissue.VISCERAL_FAT
    tissue[fat & subcutaneous(fat, np.isin(tissue, BONE), body, outside, spacing)] = Tissue.SUBCUTANEOUS_FAT
    depth = max(1, round(SKIN_LAYER / spacing))
    tissue[body & ~ndimage.binary_erosion(body | outside, iterations=depth, border_value=1)] = Tissue.SKIN
    paint_shell(tissue, spacing)
    return tissue


def paint_shell(tissue: UInt8[np.ndarray, "x y z"], spacing: float) -> None:
    """Bone made of a cortical shell of 1.5 mm (at least a voxel) around trabecular bone, sealed, in place."""
    bone = np.isin(tissue, BONE)
    core = ndimage.binary_erosion(bone, iterations=max(1, round(SHELL / spacing)), border_value=1)
    tissue[bone] = Tissue.CORTICAL_BONE
    tissue[core] = Tissue.TRABECULAR_BONE


def subcutaneous(
    fat: Bool[np.ndarray, "x y z"],
    bone: Bool[np.ndarray, "x y z"],
    body: Bool[np.ndarray, "x y z"],
    outside: Bool[np.ndarray, "x y z"],
    spacing: float,
) -> Bool[np.ndarray, "x y z"]:
    """Where fat lies farther from the body's axis than the muscle wall in its direction.

    The wall is the outermost muscle or bone of each axial slice and angle, with gaps (linea alba, flank) bridged from
    their neighbours; found on a grid of about 3 mm, as the distances do not need more.
    """
    step = max(1, round(COARSE / spacing))
    coarse = (slice(None, None, step),) * 3
    body_, outside_ = body[coarse], outside[coarse]
    rim = ~ndimage.binary_erosion(body_ | outside_, iterations=2, border_value=1)
    solid = ndimage.binary_opening(body_ & ~fat[coarse] & ~rim) | bone[coarse]
    radius, angle = _polar(body_)
    wall = _wall_radius(solid, radius, angle, step * spacing)
    beyond = radius > wall[angle, np.arange(body_.shape[2])]
    for axis, count in enumerate(fat.shape):
        beyond = np.repeat(beyond, step, axis=axis).take(range(count), axis=axis)
    return fat & beyond


def _polar(body: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance from the body's axis [voxels] and bin of the angle around it, for every voxel."""
    x, y, _ = (np.arange(n, dtype=np.float32) for n in body.shape)
    count = np.maximum(body.sum(axis=(0, 1)), 1)
    centre_x = ndimage.uniform_filter1d((body.sum(axis=1) * x[:, None]).sum(axis=0) / count, 9, mode="nearest")
    centre_y = ndimage.uniform_filter1d((body.sum(axis=0) * y[:, None]).sum(axis=0) / count, 9, mode="nearest")
    dx = (x[:, None, None] - centre_x).astype(np.float32)
    dy = (y[None, :, None] - centre_y).astype(np.float32)
    turn = np.arctan2(dy, dx) / (2 * np.pi) % 1.0
    return np.hypot(dx, dy), np.minimum((turn * ANGLES).astype(np.int16), ANGLES - 1)


def _wall_radius(solid: np.ndarray, radius: np.ndarray, angle: np.ndarray, voxel: float) -> np.ndarray:
    """Outermost solid voxel per (angle, z) [voxels]; gaps deeper than a furrow take their neighbours' radius."""
    wall = np.zeros((ANGLES, solid.shape[2]), np.float32)
    _, _, z = np.nonzero(solid)
    np.maximum.at(wall, (angle[solid], z), radius[solid])
    size = (round(WALL_GAP[0] / 360.0 * ANGLES) | 1, round(WALL_GAP[1] / voxel) | 1)
    bridged = ndimage.grey_closing(wall, size, mode=("wrap", "nearest"))
    turn = (np.arange(ANGLES) + 0.5) * 360.0 / ANGLES
    gap = (bridged - wall > FURROW / voxel) & (np.abs(turn - 270.0) > BEHIND)[:, None]
    return np.where(gap, bridged, wall) + 0.5


def _closed(mask: np.ndarray, steps: int) -> np.ndarray:
    padded = np.pad(mask, steps, mode="edge")
    grown = ndimage.binary_dilation(padded, ndimage.generate_binary_structure(3, 2), iterations=steps)
    shrunk = ndimage.binary_erosion(grown, ndimage.generate_binary_structure(3, 2), iterations=steps, border_value=1)
    return shrunk[(slice(steps, -steps),) * 3]


def _paint_lungs(tissue: np.ndarray, smooth: np.ndarray, spacing: float) -> None:
    """Large aerated parts that are not pure gas, with the vessels inside them."""
    parts, count = ndimage.label((tissue == UNDECIDED) & (smooth < LUNG_HU[1]))
    if count == 0:
        return
    index = np.arange(1, count + 1)
    volume = np.bincount(parts.ravel(), minlength=count + 1)[1:] * spacing**3
    aerated = ndimage.mean(smooth > LUNG_HU[0], parts, index)
    large = volume > max(LUNG_VOLUME, LUNG_SHARE * float(volume[aerated > 0.5].max(initial=0.0)))
    lung = np.isin(parts, index[large & (aerated > 0.5)])
    lung = _closed(lung, max(1, round(4e-3 / spacing)))
    tissue[lung & (tissue == UNDECIDED)] = Tissue.LUNG


def _paint_gas(tissue: np.ndarray, smooth: np.ndarray) -> None:
    """Gas in bowel and beside the lungs; its blurred edge is wall, not fat."""
    open_ = tissue == UNDECIDED
    low = smooth < GAS_HU
    around = ndimage.binary_dilation(tissue == Tissue.LUNG, ndimage.generate_binary_structure(3, 3), iterations=2)
    tissue[open_ & low & around] = Tissue.LUNG
    gas = low & ((open_ & ~around) | np.isin(tissue, (Tissue.BOWEL, Tissue.STOMACH)))
    tissue[gas] = Tissue.AIR
    edge = ndimage.binary_dilation(gas | (tissue == Tissue.LUNG), ndimage.generate_binary_structure(3, 3))
    tissue[edge & (tissue == UNDECIDED) & (smooth < FAT_HU)] = Tissue.MUSCLE


def _paint_bright(tissue: np.ndarray, hu: np.ndarray, smooth: np.ndarray, spacing: float, any_name: bool) -> None:
    """Bright voxels without a name: bone near cortex or named bone, with its marrow; blood with contrast elsewhere."""
    bright = (tissue == UNDECIDED) & (smooth > (BONE_HU if any_name else CONTRAST_BONE_HU))
    named_bone = np.isin(tissue, BONE)
    parts, count = ndimage.label(bright & (hu > CORTEX_HU))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    seeds = (sizes * spacing**3 > CORTEX_VOLUME)[parts] | named_bone
    reach = max(1, round((3e-3 if any_name else CORTEX_REACH) / spacing))
    bone = ndimage.binary_dilation(seeds, iterations=reach, mask=bright | named_bone)
    if not any_name:
        thick = ndimage.binary_opening(bright, iterations=max(1, round(0.5 * THINNEST_VESSEL / spacing)))
        bone = ndimage.binary_propagation(bone, mask=bone | (bright & ~thick))
        bone |= _marrow(bone, smooth, spacing) & (tissue == UNDECIDED)
    tissue[bone] = Tissue.TRABECULAR_BONE
    tissue[bright & ~bone] = Tissue.BLOOD


def _marrow(bone: np.ndarray, smooth: np.ndarray, spacing: float) -> np.ndarray:
    """What bone encloses in axial slices, gaps of its wall bridged, as far as HU say marrow, not spinal canal."""
    enclosed = np.zeros_like(bone)
    steps = max(1, round(0.5 * CORTEX_GAP / spacing))
    for z in range(bone.shape[2]):
        if bone[:, :, z].any():
            closed = ndimage.binary_closing(np.pad(bone[:, :, z], steps + 1), iterations=steps)
            inner = (slice(steps + 1, -steps - 1),) * 2
            enclosed[:, :, z] = ndimage.binary_fill_holes(closed)[inner] & ~bone[:, :, z]
    along = np.zeros((3, 3, 3), bool)
    along[1, 1] = True
    steps = max(1, round(0.5 * SLICE_GAP / spacing))
    enclosed |= ndimage.binary_closing(np.pad(enclosed | bone, steps), along, iterations=steps)[
        (slice(steps, -steps),) * 3
    ]
    sigma = MARROW_BLUR / spacing
    share = ndimage.gaussian_filter((~bone).astype(np.float32), sigma)  # bone itself must not lift its neighbours' mean
    mean = ndimage.gaussian_filter(np.where(bone, 0.0, smooth), sigma) / np.maximum(share, 1e-3)
    return enclosed & ~bone & (mean > MARROW_HU)
