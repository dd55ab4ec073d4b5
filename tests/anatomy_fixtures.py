"""A small trunk with known anatomy, as CT and TotalSegmentator v2 labels, and NIfTI files in any orientation."""

import nibabel
import numpy as np

STEP = 3.0  # mm
SHAPE = (96, 88, 56)
HALF = (120.0, 90.0)  # mm, half axes of the trunk
FAT, WALL = 15.0, 12.0  # mm thick
BODIES = {"L2": (0.0, -20.0, 117.0), "L3": (0.0, -20.0, 84.0), "L4": (0.0, -20.0, 51.0)}
LIVER, KIDNEYS = (60.0, 15.0, 120.0), {"right": (52.0, -15.0, 75.0), "left": (-52.0, -15.0, 75.0)}
LUNG, GAS = (-45.0, 10.0, 150.0), (-40.0, 45.0, 60.0)
AORTA = (-8.0, 12.0)
V2 = {
    "kidney_right": 2,
    "kidney_left": 3,
    "liver": 5,
    "L4": 28,
    "L3": 29,
    "L2": 30,
    "aorta": 52,
    "colon": 20,
    "lung": 10,
}


def affine():
    """RAS millimetres from voxels; the trunk's axis is x = y = 0."""
    matrix = np.diag([STEP, STEP, STEP, 1.0])
    matrix[:3, 3] = (-STEP * (SHAPE[0] - 1) / 2, -STEP * (SHAPE[1] - 1) / 2 + 6, 0.0)
    return matrix


def grid():
    """Coordinates [mm] of all voxels."""
    matrix = affine()
    axes = [matrix[a, 3] + STEP * np.arange(SHAPE[a]) for a in range(3)]
    return np.meshgrid(*axes, indexing="ij")


def ball(centre, radii):
    x, y, z = grid()
    return sum(((p - c) / r) ** 2 for p, c, r in zip((x, y, z), centre, radii, strict=True)) < 1.0


def vertebra(centre):
    """A body 42 x 33 x 27 mm and a spinous plate behind it that ends 50 mm behind the centre."""
    x, y, z = (p - c for p, c in zip(grid(), centre, strict=True))
    body = ((x / 21) ** 2 + (y / 16.5) ** 2 < 1) & (abs(z) < 13.5)
    return body | ((abs(x) < 4) & (y < -12) & (y > -50) & (abs(z + 4) < 8))


def trunk():
    """CT in HU and v2 labels, without noise."""
    x, y, _ = grid()
    hu, labels = np.full(SHAPE, -1000.0), np.zeros(SHAPE, np.int16)
    for inset, value in ((0.0, -105.0), (FAT, 55.0), (FAT + WALL, -100.0)):
        hu[(x / (HALF[0] - inset)) ** 2 + (y / (HALF[1] - inset)) ** 2 < 1] = value
    back = (abs(x) < 60) & (y < -25) & ((x / (HALF[0] - FAT)) ** 2 + (y / (HALF[1] - FAT)) ** 2 < 1)
    hu[back] = 55.0
    parts = [("liver", ball(LIVER, (38, 35, 40)), 60.0), ("lung", ball(LUNG, (40, 40, 45)), -820.0)]
    parts += [(f"kidney_{side}", ball(centre, (22, 18, 40)), 35.0) for side, centre in KIDNEYS.items()]
    parts += [("colon", ball(GAS, (16, 16, 16)), -1000.0), ("aorta", np.hypot(x - AORTA[0], y - AORTA[1]) < 9, 45.0)]
    parts += [(level, vertebra(centre), 250.0) for level, centre in BODIES.items()]
    for name, mask, value in parts:
        hu[mask] = value
        labels[mask] = V2[name]
    for centre in BODIES.values():
        x0, y0, z0 = (p - c for p, c in zip(grid(), centre, strict=True))
        shell = vertebra(centre) & ~(((x0 / 17) ** 2 + (y0 / 12.5) ** 2 < 1) & (abs(z0) < 10))
        hu[shell] = 700.0
    return hu, labels


def with_table(hu):
    """A couch plate under the back and a blanket over the belly, each on two thin seams that touch the skin."""
    x, y, _ = grid()
    hu = hu.copy()
    seams = (abs(abs(x) - 15) < 2) & (abs(y) < HALF[1] + 9)
    plate = (abs(y + HALF[1] + 9) < 2.5) & (abs(x) < 130)
    blanket = (abs(y - HALF[1] - 9) < 2) & (abs(x) < 60)
    hu[(plate | blanket | seams) & (hu < -900)] = 30.0
    return hu


def save(path, array, matrix=None, codes="RAS"):
    """Write ``array`` given in RAS order with its axes stored in the order and direction of ``codes``."""
    image = nibabel.Nifti1Image(array, affine() if matrix is None else matrix)
    order = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(codes)
    )
    nibabel.save(image.as_reoriented(order), path)
    return path


def save_ct(path, codes="RAS"):
    return save(path, with_table(trunk()[0]).astype(np.int16), codes=codes)


def save_labels(path, codes="RAS"):
    return save(path, trunk()[1], codes=codes)
