"""Fused CPU path: sound down the scan lines of one environment, a block of rows at a time (see ``propagation.Plane``).

Each block goes through stages: walk to every sample and read its voxel, meet the interfaces between the samples, let
the sound pass, scatter. Lines that refraction or breathing bends need blocks of one row: they turn before the next.
"""

# numba infers the types of compiled functions, and ships none of its own
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from sonogym.anatomy.tissues import Tissue
from sonogym.ultrasound.kernel_arrays import address, compiled, inlined, margin, spliced
from sonogym.ultrasound.kernel_contact import close_vein, crowded, open_vein, stretched, undeform, undeform_beside
from sonogym.ultrasound.kernel_focus import blur, mirror
from sonogym.ultrasound.kernel_interfaces import (
    ABOVE,
    ALONG,
    FLAT2,
    IMAGINARY,
    LATERAL,
    LINE,
    LOOP,
    LOST,
    NORMAL_A,
    NORMAL_B,
    NORMAL_C,
    PLACE,
    REAL,
    ROW,
    SHEAR,
    SPACING,
    meet,
    put_comet_tails,
    put_pulses,
)  # fmt: skip
from sonogym.ultrasound.kernel_refraction import bend_line, turn_lines
from sonogym.ultrasound.kernel_speckle import add_scatter
from sonogym.ultrasound.propagation import FLOOR as _PROPAGATION_FLOOR
from sonogym.ultrasound.voxel_word import TEXTURE_SHIFT

FLOOR = np.float32(_PROPAGATION_FLOOR)
# rows of ``state``, what each line carries down: depth and the length of its next step [m], 1 / support of the
# compression, transmission so far and that of the next step, amplitude of its tissue's scatter; row, strength and place
# of the first gas (see ``long_paths.GasSurface``); row, reflection and transmission behind the last interface
DEPTH, LENGTH, INVERSE, PASSED, KEPT, SCATTER, GAS_ROW, GAS_STRENGTH, GAS_PLACE = range(9)
LAST_ROW, LAST_LOST, LAST_PASSED, STATES = range(9, 13)
_NEXT = np.uintp(1)
_255, _TEXTURE_SHIFT = np.uint32(255), np.uint32(TEXTURE_SHIFT)
_0, _HALF, _1, _2, _3 = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(2.0), np.float32(3.0)
GEL_IN_FAT = np.uint32(int(Tissue.GEL) + (int(Tissue.VISCERAL_FAT) << 8))  # see ``close_veins``
GEL, _AIR, _LUNG = np.uint32(int(Tissue.GEL)), np.uint32(int(Tissue.AIR)), np.uint32(int(Tissue.LUNG))


@inlined
def _nearest(value, top):
    """Index of the voxel nearest to a coordinate, held at the border."""
    return np.int32(min(max(value, _0), top) + _HALF)


@compiled
def _begin(rays, step, tissue, work):
    """Set the state at the face; says whether any line is pressed."""
    state, place, word, gain, crowding = work.state, work.place, work.word, work.gain, _0
    for line in range(place.shape[1]):
        state[DEPTH, line] = _HALF * step
        state[INVERSE, line] = _1 / rays.column[line]
        state[PASSED, line], state[GAS_STRENGTH, line] = rays.coupling[line], _0
        state[SCATTER, line], state[KEPT, line], state[LENGTH, line] = tissue[GEL, 0], tissue[GEL, 1], tissue[GEL, 2]
        state[LAST_ROW, line], state[LAST_LOST, line], state[LAST_PASSED, line] = _0, _0, _1
        place[0, line] = -rays.indentation[line] - _HALF * step
        word[0, line] = GEL_IN_FAT
        crowding = max(crowding, rays.crowding[line])
    for row in range(gain.shape[0]):
        for line in range(gain.shape[1]):
            gain[row, line] = rays.scale[line]
    return crowding > _0


@compiled
def _locate(place, across, beside, index, rays, out, grid):
    """Nearest voxel of one row of samples; ``out`` [m] of the image plane, or ``across`` if that is ``beside`` it."""
    origin, direction, shape, stride, leap = rays.origin, rays.direction, grid.shape, grid.stride, grid.leap
    ea, eb, ec = rays.elevation[0], rays.elevation[1], rays.elevation[2]
    top_a, top_b, top_c = np.float32(shape[0] - 1), np.float32(shape[1] - 1), np.float32(shape[2] - 1)
    p, q, r, over_p, over_q, over_r = stride[0], stride[1], stride[2], leap[0], leap[1], leap[2]
    for line in range(place.shape[0]):
        x, y = place[line], across[line] if beside else out
        i = _nearest(origin[0, line] + direction[0, line] * x + ea * y, top_a)
        j = _nearest(origin[1, line] + direction[1, line] * x + eb * y, top_b)
        m = _nearest(origin[2, line] + direction[2, line] * x + ec * y, top_c)
        index[line] = np.uint32(address(i, p, over_p) + address(j, q, over_q) + address(m, r, over_r))


@compiled
def _listen(passed, reach, heard):
    """List the lines that any sound within ``reach`` lines of them still reaches; returns how many."""
    count, quiet = 0, reach
    lines = passed.shape[0]
    for line in range(min(reach, lines)):
        quiet = 0 if passed[line] > _0 else quiet + 1
    for line in range(lines):
        ahead = min(line + reach, lines - 1)
        quiet = 0 if passed[ahead] > _0 else quiet + 1
        heard[count] = line
        count += quiet <= 2 * reach
    return count


@compiled
def _read(lines, heard, voxels, index, closing, levels, before, word):
    """Voxels of the lines ``heard``; lists in ``lines`` those whose label is not the one before, returns how many.

    ``closing``: ``levels`` or other levels of the veins are closed. Three loops, so that nothing waits for memory but
    the first, which asks for many voxels at once, and the second computes many at once.
    """
    count = 0
    for n in range(heard.shape[0]):
        line = np.uintp(heard[n])
        word[line] = voxels[np.uintp(index[line])]
    for every in range(word.shape[0]):
        word[every] = close_vein(word[every], before[every], levels) if closing else open_vein(word[every])
    for n in range(heard.shape[0]):
        line = np.uintp(heard[n])
        lines[count] = heard[n]
        count += ((word[line] ^ before[line]) & _255) != 0
    return count


@compiled
def _walk(
    first, count, grid, rays, plane, pressed, curvature, tissue, place, across, word, gain, found, met, index, heard,
    fetched, state,
):  # fmt: skip
    """Place and voxel of every sample of a block; lists the samples whose label changes and counts them."""
    length, depth, inverse, changes = state[LENGTH], state[DEPTH], state[INVERSE], 0
    closing = rays.closed[0] > 0  # pressure falls with depth
    for row in range(count):
        if plane.beside:
            bulge = plane.bulge[first + row]
            undeform_beside(
                place[row + 1], across[row], depth, rays.indentation, inverse, curvature, bulge, index, fetched
            )
        else:
            undeform(place[row + 1], depth, rays.indentation, inverse)
        if rays.knot.shape[0]:
            turn_lines(rays, place[row], place[row + 1], state[GAS_STRENGTH])
        _locate(place[row + 1], across[row], plane.beside, index, rays, plane.offset[first + row], grid)
        before, levels = changes, rays.closed[first + row]
        spot = found[LINE, changes:]
        changes += _read(spot, heard, grid.voxels, index, closing, levels, word[row], word[row + 1])
        for i in range(before, changes):
            changed, at = np.uintp(found[LINE, i]), np.uintp(i)
            found[ROW, i] = row
            length[changed] = tissue[word[row + 1, changed] & _255, 2]
            if pressed:
                lean, taper = rays.slopes[0, changed], rays.slopes[1, changed]
                met[ALONG + at], met[SHEAR + at], met[LATERAL + at], met[ABOVE + at] = stretched(
                    depth[changed], rays.indentation[changed], inverse[changed], lean, taper, curvature
                )
        if pressed:
            for line in range(length.shape[0]):
                gain[row, line] = crowded(rays.scale[line], rays.crowding[line], depth[line], inverse[line])
        for line in range(length.shape[0]):
            depth[line] += length[line]
    return changes


@spliced
def _cross(n, first, weight, tissue, place, word, found, met, comet, state):
    """One interface: its echo at the transmission that it is met with, and what it lets through, 1 - R^2."""
    i, line, row = np.uintp(n), np.uintp(found[LINE, n]), np.uintp(found[ROW, n]) + _NEXT
    label, passed, lost = word[row, line] & _255, state[PASSED, line], met[LOST + i]
    met[REAL + i] *= passed * weight
    met[IMAGINARY + i] *= passed * weight
    if label in (_AIR, _LUNG) and state[GAS_STRENGTH, line] == _0:
        state[GAS_ROW, line], state[GAS_PLACE, line] = np.float32(first + found[ROW, n]), place[row, line]
        state[GAS_STRENGTH, line] = passed * lost
    state[PASSED, line] = passed * (_1 - lost * lost)
    if comet > _0:
        k = np.float32(first + found[ROW, n])
        met[SPACING + i] = k - state[LAST_ROW, line]
        met[LOOP + i] = state[LAST_LOST, line] * lost * passed / state[LAST_PASSED, line]
        state[LAST_ROW, line], state[LAST_LOST, line] = k, lost
        state[LAST_PASSED, line] = max(state[PASSED, line], FLOOR)  # 0 behind total reflection
    state[SCATTER, line], state[KEPT, line] = tissue[label, 0], tissue[label, 1]


@compiled
def _step(shade, strength, passed, kept, scatter):
    """Transmission and scatter amplitude at one row of samples; transmission at the next."""
    for line in range(passed.shape[0]):
        strength[line] = scatter[line]
        shade[line] = passed[line]
        onward = passed[line] * kept[line]
        passed[line] = _0 if onward < FLOOR else onward


@compiled
def _pass(first, count, changes, weight, tissue, place, word, found, met, comet, state, shade, strength):
    """Transmission at every sample of a block, and the scatter amplitude of its tissue."""
    lines, n = strength.shape[1], 0
    start = margin(shade.shape[1], lines)
    for row in range(count):
        while n < changes and found[ROW, n] == row:
            _cross(n, first, weight, tissue, place, word, found, met, comet, state)
            n += 1
        _step(shade[row, start : start + lines], strength[row], state[PASSED], state[KEPT], state[SCATTER])


@compiled
def _scale(strength, level, texture, word, gain, soft):
    for line in range(strength.shape[0]):
        strength[line] *= level * texture[word[line] >> _TEXTURE_SHIFT] * gain[line] * soft[line]


@compiled
def _shade(first, count, tables, weight, word, gain, shade, soft, strength):
    """Strength of the scatterers: tissue, texture, gain, and transmission blurred across lines."""
    lines = strength.shape[1]
    for row in range(count):
        k = first + row
        mirror(shade[row], lines, tables.penumbra_radius[k])
        blur(soft, shade[row], tables.penumbra[k], tables.penumbra_radius[k])
        level = tables.row[k, 0] * weight
        _scale(strength[row], level, tables.texture, word[row + 1], gain[row], soft)


@compiled
def _bend(count, rays, pair, work):
    """Refraction at the interfaces found, but for lines that have met gas: only its tail follows."""
    met = work.met
    for n in range(count):
        line, row = np.uintp(work.found[LINE, n]), np.uintp(work.found[ROW, n])
        i = np.uintp(n)
        a, b, c = met[NORMAL_A + i], met[NORMAL_B + i], met[NORMAL_C + i]
        if a * a + b * b + c * c > FLAT2 and work.state[GAS_STRENGTH, line] == _0:
            last, label = work.word[row, line] & _255, work.word[row + _NEXT, line] & _255
            bend_line(line, rays, met[PLACE + i], (a, b, c), pair[last, label, 2])


@compiled
def _keep(first, count, work, labels, transmission):
    """Labels and transmission of a block for the user."""
    start = margin(work.shade.shape[1], work.strength.shape[1])
    for row in range(count):
        for line in range(work.strength.shape[1]):
            labels[first + row, line] = np.uint8(work.word[row + 1, line] & _255)
            transmission[first + row, line] = work.shade[row, start + line]


@spliced
def march(grid, rays, scatterers, tissue, plane, tables, work, scatter, labels, transmission):
    """Add one elevation plane to ``scatter`` and ``work.echoes``; fill ``labels`` and ``transmission`` if not empty.

    Lines that refraction or breathing bends are bent in place.
    """
    samples = tables.row.shape[0]
    rows = 1 if tables.refracts or rays.knot.shape[0] else work.strength.shape[0]
    pressed = _begin(rays, tables.step, tissue, work)
    reach = work.state.shape[1] if labels.shape[0] else tables.penumbra.shape[1] - 1  # shadows are blurred across lines
    for first in range(0, samples, rows):
        count, heard = min(rows, samples - first), _listen(work.state[PASSED], reach, work.heard)
        changes = _walk(
            first, count, grid, rays, plane, pressed, tables.curvature, tissue, work.place, work.across, work.word,
            work.gain, work.found, work.met, work.voxel_index, work.heard[:heard], work.fetched, work.state,
        )  # fmt: skip
        meet(
            changes, first, grid, rays, plane, pressed, scatterers, tables.pair, work.place, work.across, work.word,
            work.found, work.corner, work.met,
        )  # fmt: skip
        _pass(
            first, count, changes, plane.weight[0], tissue, work.place, work.word, work.found, work.met, tables.comet,
            work.state, work.shade, work.strength,
        )  # fmt: skip
        put_pulses(changes, work.found, work.met, tables.splat, work.echoes)
        if tables.comet > _0:
            put_comet_tails(changes, work.found, work.met, tables.comet, tables.splat, work.echoes)
        if tables.refracts:
            _bend(changes, rays, tables.pair, work)
        if labels.shape[0]:
            _keep(first, count, work, labels, transmission)
        _shade(first, count, tables, plane.weight[1], work.word, work.gain, work.shade, work.soft, work.strength)
        add_scatter(first, count, work.place, work.across, work.strength, rays, plane, scatterers, scatter)
        for line in range(work.place.shape[1]):
            work.place[0, line], work.word[0, line] = work.place[count, line], work.word[count, line]
