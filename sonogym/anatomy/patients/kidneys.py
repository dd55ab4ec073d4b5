"""Kidneys with cortex, pyramids and sinus, adrenal glands on them, ureters below. Millimetres, patient frame."""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

from sonogym.anatomy.patients.canvas import ROOM, Canvas
from sonogym.anatomy.patients.params import PatientParams
from sonogym.anatomy.patients.portable import angle, cosine, power, settled
from sonogym.anatomy.patients.sdf import chain, grown, sweep
from sonogym.anatomy.patients.spine import Spine
from sonogym.anatomy.tissues import Tissue


def kidney_frame(params: PatientParams, side: int) -> np.ndarray:
    """Axes of the right (0) or left (1) kidney as columns: lateral (width), anterior (thickness), long axis.

    The upper pole lies medial and behind.
    """
    sign = 1.0 if side == 0 else -1.0
    tilt, turn = np.radians(params.kidney_tilt[side]), np.radians(params.kidney_turn[side])
    long = np.array([-sign * np.sin(tilt), -0.22, np.cos(tilt)])
    long /= np.linalg.norm(long)
    lateral = np.array([sign * np.cos(turn), -np.sin(turn), 0.0])  # the hilum looks forward and to the middle
    lateral -= (lateral @ long) * long
    lateral /= np.linalg.norm(lateral)
    return np.stack([lateral, np.cross(long, lateral) * sign, long], axis=-1)


def paint_kidneys(canvas: Canvas, params: PatientParams, spine: Spine) -> dict[str, np.ndarray]:
    """Cortex, pyramids and sinus of both kidneys in retroperitoneal fat; their centres [mm]."""
    marks = {}
    for side, name in enumerate(("right", "left")):
        centre, half = kidney_centre(params, spine, side), kidney_half(params, side)
        part, where = canvas.grid.box(centre - 1.2 * half[2], centre + 1.2 * half[2])
        view = canvas.labels[where]
        frame = kidney_frame(params, side)
        tables = settled(1e3 * frame) / 1e3, settled(centre), settled(half)
        paint_kidney(view, np.array(part.corner), part.spacing, *tables, int(Tissue.VISCERAL_FAT))
        _paint_adrenal(canvas, params, centre, half, side)
        _paint_ureter(canvas, params, spine, centre, side)
        marks[f"kidney_{name}"] = centre
    return marks


@njit(cache=True)
@no_type_check
def paint_kidney(labels, corner, spacing, frame, centre, half, room):
    """A superellipsoid bent round its hilum; a sinus open to the middle, pyramids between cortical columns."""
    width, thick, long = half
    for i in range(labels.shape[0]):
        px = corner[0] + spacing * i - centre[0]
        for j in range(labels.shape[1]):
            py = corner[1] + spacing * j - centre[1]
            for m in range(labels.shape[2]):
                pz = corner[2] + spacing * m - centre[2]
                if labels[i, j, m] != room:
                    continue
                a = frame[0, 2] * px + frame[1, 2] * py + frame[2, 2] * pz
                if abs(a) > long:
                    continue
                w = frame[0, 0] * px + frame[1, 0] * py + frame[2, 0] * pz + 0.176 * a * a / long - 3.0
                t = frame[0, 1] * px + frame[1, 1] * py + frame[2, 1] * pz
                q = power(abs(w) / width, 2.3) + power(abs(t) / thick, 2.3) + power(abs(a) / long, 2.3)
                if q >= 1.0:
                    continue
                q = power(q, 1.0 / 2.3)
                ws = (w + 0.72 * width) / (0.86 * width)
                sinus = np.sqrt(ws * ws + (t / (0.45 * thick)) ** 2 + (a / (0.54 * long)) ** 2)
                depth = (1.0 - q) * 0.85 * thick
                around = angle(t / thick, (w + 0.5 * width) / width)
                if sinus < 1.0:
                    labels[i, j, m] = 22
                elif depth > 0.3 * thick and cosine(9.5 * a / long) + 0.9 * cosine(3.0 * around) > -0.25:
                    labels[i, j, m] = 21
                else:
                    labels[i, j, m] = 7


def kidney_centre(params: PatientParams, spine: Spine, side: int) -> np.ndarray:
    """Centre (3,) of the right (0) or left (1) kidney."""
    s, z = params.size, params.kidney_height[side] * params.size
    body = spine.body_at(np.array([z]))[0]
    return np.array([body[0] + (1.0 - 2.0 * side) * params.kidney_aside[side] * s, body[1] - 7.0 * s, z])


def kidney_half(params: PatientParams, side: int) -> np.ndarray:
    """Half axes (3,): width, thickness, length."""
    return np.array([29.0, 21.5, 53.0]) * params.size**0.7 * params.kidney_size[side]


def _paint_adrenal(canvas: Canvas, params: PatientParams, centre: np.ndarray, half: np.ndarray, side: int) -> None:
    """A body 5 mm thick with two limbs, in front of and medial to the upper pole; its parenchyma is the pancreas'."""
    s, sign = params.size, 1.0 - 2.0 * side
    top = centre + np.array([-sign * 26.0 * s, 14.0 * s, 0.72 * half[2]])
    thick = (2.4 * s, 2.2 * s, 7.0 * s, 8.0 * s)
    limbs = [sweep(top, top + np.array([dx * sign * s, -16.0 * s, 0.0]), thick, u=(1, 0, 0), p=2.4) for dx in (-4, 7)]
    canvas.stamp(np.concatenate(limbs), Tissue.PANCREAS, ROOM)


def _paint_ureter(canvas: Canvas, params: PatientParams, spine: Spine, centre: np.ndarray, side: int) -> None:
    """From the hilum down on the psoas and over the pelvic brim: 3 mm of lumen in a wall of 1.2."""
    s, sign = params.size, 1.0 - 2.0 * side
    hilum = centre + np.array([-sign * 27.0 * s, 9.0 * s, -4.0 * s])
    lower = [hilum]
    for level, x, y in (("L4", 40, 20), ("L5", 38, 26)):
        if spine.at(level)[2] < hilum[2] - 20.0:
            lower.append(spine.local(level, (sign * s * x, s * y, 0.0)))
    lower.append(spine.sacral((sign * 46.0 * s, 34.0 * s, -30.0 * s)))
    rows = chain(np.array(lower), np.full((len(lower), 2), 1.6))
    canvas.stamp(grown(rows, 1.2), Tissue.CONNECTIVE, ROOM)
    canvas.stamp(rows, Tissue.FLUID, (*ROOM, Tissue.CONNECTIVE))
