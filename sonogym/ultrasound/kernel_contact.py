"""Fused CPU path of :mod:`sonogym.ultrasound.deformation` and :mod:`sonogym.ultrasound.veins`."""

# numba infers the types of compiled functions, and ships none of its own
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math

import numpy as np

from sonogym.anatomy.tissues import Tissue
from sonogym.ultrasound.deformation import HIGHEST, LOWEST, NODES
from sonogym.ultrasound.kernel_arrays import compiled, inlined
from sonogym.ultrasound.texture import NEUTRAL
from sonogym.ultrasound.veins import YIELDING
from sonogym.ultrasound.voxel_word import LABEL_MASK, TEXTURE_LEVELS, TEXTURE_SHIFT

_0, _1, _2, _3, _6 = (np.float32(n) for n in (0, 1, 2, 3, 6))
_LOWEST, _SCALE, _TOP = np.float32(LOWEST), np.float32((NODES - 1) / (HIGHEST - LOWEST)), np.float32(NODES - 1.001)
_TINY, _NEXT = np.float32(1e-20), np.uintp(1)
_VEIN, _WALL, _LABEL = np.uint32(int(Tissue.VEIN)), np.uint32(int(Tissue.CONNECTIVE)), np.uint32(LABEL_MASK)
_TEXTURE, _NEUTRAL = np.uint32(TEXTURE_SHIFT), np.uint32(NEUTRAL << TEXTURE_SHIFT)
_YIELDING = np.uint64(sum(1 << int(tissue) for tissue in YIELDING))
_TEXTURES, _AROUND, _OPEN = np.uint32((TEXTURE_LEVELS - 1) << TEXTURE_SHIFT), np.uint32(8), np.uint32(0)


@inlined
def material(depth, indentation, inverse):
    """Depth in the undeformed tissue: r - A S(t)."""
    t = min(depth * inverse, _1)
    return depth - indentation * (_1 - t * t * (_3 - _2 * t))


@inlined
def crowded(scale, crowding, depth, inverse):
    """Scale of scatter where the tissue is compressed: dZ/dz - 1 goes as t (1 - t)."""
    t = min(depth * inverse, _1)
    return scale * math.sqrt(_1 + crowding * t * (_1 - t))


@compiled
def undeform(place, depth, indentation, inverse):
    """One row of samples in the image plane."""
    for line in range(place.shape[0]):
        place[line] = material(depth[line], indentation[line], inverse[line])


@compiled
def _nodes(depth, indentation, inverse, curvature, node, share):
    """Node of the table of ``moved`` below the change of area at one row of samples, and the share of the next."""
    for line in range(depth.shape[0]):
        z, a = depth[line], indentation[line]
        t = min(z * inverse[line], _1)
        pushed = a * (_1 - t * t * (_3 - _2 * t))
        along = _1 + _6 * a * inverse[line] * t * (_1 - t)
        area = along * (_1 + curvature * (z - pushed)) / (_1 + curvature * z)
        at = min(max((area - _1 - _LOWEST) * _SCALE, _0), _TOP)
        base = np.int32(at)
        node[line] = np.uint32(base)
        share[line] = at - np.float32(base)


@compiled
def _fetch(bulge, node, fetched):
    """Both columns of the table at the nodes and at the next ones."""
    for line in range(node.shape[0]):
        at = np.uintp(node[line])
        fetched[0, line], fetched[1, line] = bulge[at, 0], bulge[at, 1]
        fetched[2, line], fetched[3, line] = bulge[at + _NEXT, 0], bulge[at + _NEXT, 1]


@compiled
def undeform_beside(place, across, depth, indentation, inverse, curvature, bulge, node, fetched):
    """One row of samples beside the image plane: depth along the line and distance from the plane (``moved``)."""
    _nodes(depth, indentation, inverse, curvature, node, across)
    _fetch(bulge, node, fetched)
    for line in range(place.shape[0]):
        z, share = depth[line], across[line]
        t = min(z * inverse[line], _1)
        pushed = indentation[line] * (_1 - t * t * (_3 - _2 * t))
        across[line] = fetched[0, line] + share * (fetched[2, line] - fetched[0, line])
        phi = fetched[1, line] + share * (fetched[3, line] - fetched[1, line])
        scale = (_2 + curvature * (_2 * z - pushed)) / (_2 + curvature * (_2 * z - phi * pushed))
        place[line] = z - phi * pushed * scale


@inlined
def stretched(depth, indentation, inverse, lean, taper, curvature):
    """(dZ/dz, dZ/dl, dL/dl, dY/dy) of :func:`sonogym.ultrasound.deformation.stretch`."""
    t = min(depth * inverse, _1)
    support, rise = _1 - t * t * (_3 - _2 * t), _6 * indentation * t * (_1 - t)
    along, spread = _1 + rise * inverse, _1 / (_1 + curvature * depth)
    lateral = (_1 + curvature * (depth - indentation * support)) * spread
    return along, -(lean * support + rise * t * taper) * spread, lateral, _1 / (along * lateral)


@inlined
def pressed_cosine(normal, direction, elevation, stretch):
    """|cos| between a line and an interface, turned with the tissue (``deformation.pressed_cosine``)."""
    (ga, gb, gc), (da, db, dc), (ea, eb, ec) = normal, direction, elevation
    line, out = _1 / math.sqrt(da * da + db * db + dc * dc), _1 / math.sqrt(ea * ea + eb * eb + ec * ec)
    along = (ga * da + gb * db + gc * dc) * line
    beside = (ga * (eb * dc - ec * db) + gb * (ec * da - ea * dc) + gc * (ea * db - eb * da)) * (line * out)
    across = stretch[2] * beside + stretch[1] * along
    above = stretch[3] * (ga * ea + gb * eb + gc * ec) * out
    along *= stretch[0]
    return abs(along) / math.sqrt(max(along * along + across * across + above * above, _TINY))


@inlined
def of_vein(voxel):
    """Lumen, or the wall around one."""
    tissue = voxel & _LABEL
    return (tissue == _VEIN) | ((tissue == _WALL) & (voxel >> _TEXTURE == _OPEN))


@inlined
def open_vein(voxel):
    """A voxel where no vein closes: a vein's level is no texture."""
    return np.uint32((voxel & _LABEL) | _NEUTRAL) if of_vein(voxel) else voxel


@inlined
def close_vein(voxel, before, levels):
    """A voxel where ``levels`` of the veins are closed; ``before`` the one before it on the line.

    Each hands down the last tissue that yields in the byte after its label, which nobody else reads.
    """
    tissue, around = voxel & _LABEL, (before >> _AROUND) & _LABEL
    plain = np.uint32((around if np.int32(voxel >> _TEXTURE) < levels else tissue) | _NEUTRAL)
    kept = plain if of_vein(voxel) else np.uint32((voxel & _TEXTURES) | tissue)
    yields = ((_YIELDING >> np.uint64(tissue)) & np.uint64(1)) != 0
    return np.uint32(kept | np.uint32((tissue if yields else around) << _AROUND))
