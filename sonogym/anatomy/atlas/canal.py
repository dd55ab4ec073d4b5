"""The spinal canal as a curve: soft, with bone to its left, right and behind, and a vertebral body in front.

It is the one tube of a trunk that HU alone show in every adult, contrast agent or not. All paths are best paths by
dynamic programming over axial slices. Distances and weights are design choices, tuned on procedural patients and on
two real scans.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import ndimage, signal

from sonogym.anatomy.atlas.scene import Scene

BONY, SOFT = 180.0, (-30.0, 110.0)  # HU
COLUMN, ALONG = 16e-3, 12e-3  # m: radius of a vertebral body, smoothing along the body
ASIDE, FRONT = 30e-3, 0.62  # m about the body's middle; share of its depth, from behind, that holds the spine
CANAL, RING = 6.5e-3, (7.5e-3, 20e-3)  # m: radius, and where its walls lie
BODY_AHEAD, BODY = 22e-3, 13e-3  # m from the canal's middle to that of the body, and the body's inner radius
STRAY = 10e-3  # m aside of the column
REACH = (-42e-3, 30e-3)  # m behind and in front of it
STEEP = (1, 2)  # voxels a slice, aside and forward: the sacrum leans by 60 degrees, no column by 45 to a side
SMOOTH = 9e-3  # m
EVEN = (18e-3, 9e-3)  # m: smoothing of a path aside and forward
WALLS, WALLS_AHEAD = 30e-3, (8e-3, 38e-3)  # m to both sides and in front of the canal: where a body's walls lie
TURN_EVEN, MOST_TURNED = 20e-3, 0.45  # m along the column; rad: patients lie turned, columns twist
STEP = 2e-3  # m between the points of a curve
STRAIGHT = 16e-3  # m: over which the curve's direction is taken


@dataclass(frozen=True, kw_only=True)
class Spine:
    """Points of the middle of the vertebral column, ``STEP`` apart, from the feet to the head; metres in the patient.

    ``forward`` and ``right`` are unit vectors across it.
    """

    points: Float[np.ndarray, "points 3"]
    forward: Float[np.ndarray, "points 3"]
    right: Float[np.ndarray, "points 3"]


def find_spine(scene: Scene) -> Spine:
    """The spine of a scene; where there is none, some curve near the body's middle."""
    canal = _canal(scene, _column(scene))
    return _curve(scene, canal, _turn(scene, canal))


def _column(scene: Scene) -> Float[np.ndarray, "z 2"]:
    """Where bone is densest near the middle of each slice [voxels]."""
    voxel = scene.grid.spacing
    mass = signal.fftconvolve(scene.bone.astype(np.float32), _disk(COLUMN / voxel)[:, :, None], mode="same")
    mass = ndimage.gaussian_filter1d(mass, ALONG / voxel, axis=2)
    nx, ny, _ = mass.shape
    count = scene.body.sum(axis=(0, 1)).clip(1)
    middle = (scene.body.sum(axis=1) * np.arange(nx)[:, None]).sum(axis=0) / count
    middle = ndimage.gaussian_filter1d(middle, 30e-3 / voxel, mode="nearest")
    rows = np.asarray(scene.body.any(axis=0))
    back, front = rows.argmax(axis=0), ny - 1 - rows[::-1].argmax(axis=0)
    near = np.exp(-0.5 * ((np.arange(nx)[:, None] - middle) * voxel / ASIDE) ** 2)
    behind = np.asarray(np.arange(ny)[:, None] < back + FRONT * (front - back))
    return _best_path(mass * near[:, None] * behind, voxel)


def _canal(scene: Scene, column: Float[np.ndarray, "z 2"]) -> Float[np.ndarray, "z 2"]:
    """Path [voxels] that has bone on three sides, soft tissue within, and a body in front."""
    voxel = scene.grid.spacing
    bony = (scene.hu > BONY).astype(np.float32)
    soft = ((scene.hu > SOFT[0]) & (scene.hu < SOFT[1])).astype(np.float32)

    def mean(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter1d(
            signal.fftconvolve(values, kernel[:, :, None], mode="same"), SMOOTH / voxel, axis=2
        )

    left, right, behind = (mean(bony, _sector(side, voxel)) for side in (np.pi, 0.0, -0.5 * np.pi))
    inner = 0.8 * mean(soft, _disk(CANAL / voxel)) - mean(bony, _disk(CANAL / voxel))
    body = mean(np.clip(scene.hu, 0.0, 300.0) / 300.0, _disk(BODY / voxel))
    ahead = np.zeros_like(body)
    shift = round(BODY_AHEAD / voxel)
    ahead[:, :-shift] = body[:, shift:]
    score = 2.0 * np.minimum(left, right) + behind + inner + 2.0 * ahead
    x, y, _ = np.indices(score.shape, sparse=True)
    aside, forward = (x - column[:, 0]) * voxel, (y - column[:, 1]) * voxel
    near = np.exp(-0.5 * (aside / STRAY) ** 2) * ((forward > REACH[0]) & (forward < REACH[1]))
    return _best_path(score * near, voxel)


def _best_path(score: Float[np.ndarray, "x y z"], voxel: float) -> Float[np.ndarray, "z 2"]:
    """The path of largest sum that moves at most ``STEEP`` voxels a slice, smoothed."""
    size = (2 * STEEP[0] + 1, 2 * STEEP[1] + 1)
    total = np.empty_like(score)
    total[:, :, 0] = score[:, :, 0]
    for z in range(1, score.shape[2]):
        total[:, :, z] = score[:, :, z] + ndimage.maximum_filter(total[:, :, z - 1], size)
    path = np.zeros((score.shape[2], 2))
    x, y = np.unravel_index(total[:, :, -1].argmax(), total.shape[:2])
    for z in range(score.shape[2] - 1, -1, -1):
        path[z] = x, y
        low = np.maximum(path[z].astype(int) - STEEP, 0)
        window = total[low[0] : int(x) + STEEP[0] + 1, low[1] : int(y) + STEEP[1] + 1, max(z - 1, 0)]
        x, y = low + np.unravel_index(window.argmax(), window.shape)
    return np.column_stack([ndimage.gaussian_filter1d(path[:, i], EVEN[i] / voxel, mode="nearest") for i in range(2)])


def _turn(scene: Scene, canal: Float[np.ndarray, "z 2"]) -> Float[np.ndarray, " z"]:
    """Angle [rad] from straight ahead, to the right, under which the middle of the bone in front is seen."""
    voxel = scene.grid.spacing
    side, ahead = (np.arange(low, high + 1e-9, voxel) for low, high in ((-WALLS, WALLS), WALLS_AHEAD))
    x, y, z = np.broadcast_arrays(
        canal[:, 0, None, None] + side[:, None] / voxel, canal[:, 1, None, None] + ahead / voxel,
        np.arange(len(canal))[:, None, None],
    )  # fmt: skip
    bone = ndimage.map_coordinates(scene.bone.astype(np.float32), (x, y, z), order=1)
    mass, moment = bone.sum(axis=(1, 2)), (bone * side[:, None]).sum(axis=(1, 2))
    mass, moment = (ndimage.gaussian_filter1d(part, TURN_EVEN / voxel, mode="nearest") for part in (mass, moment))
    return np.arctan2(moment / np.maximum(mass, 1.0), BODY_AHEAD).clip(-MOST_TURNED, MOST_TURNED)


def _curve(scene: Scene, canal: Float[np.ndarray, "z 2"], turn: Float[np.ndarray, " z"]) -> Spine:
    voxel = scene.grid.spacing
    path = np.column_stack([canal, np.arange(len(canal))]) * voxel + np.array(scene.grid.origin)
    length = np.concatenate(([0.0], np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum()))
    at = np.arange(0.0, length[-1], STEP)
    points = np.column_stack([np.interp(at, length, path[:, i]) for i in range(3)])
    up = np.gradient(ndimage.gaussian_filter1d(points, STRAIGHT / STEP, axis=0, mode="nearest"), axis=0)
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    turned = np.interp(at, length, turn)
    ahead = np.stack([np.sin(turned), np.cos(turned), np.zeros_like(turned)], axis=1)
    forward = ahead - up * (ahead * up).sum(axis=1, keepdims=True)
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    return Spine(points=points + BODY_AHEAD * forward, forward=forward, right=np.cross(forward, up))


def _disk(radius: float) -> Float[np.ndarray, "w w"]:
    x, y = _offsets(radius)
    return _mean_kernel(np.hypot(x, y) <= radius)


def _sector(side: float, voxel: float) -> Float[np.ndarray, "w w"]:
    """A quarter of a ring around the canal, whose middle lies in the direction ``side`` [rad from the right]."""
    x, y = _offsets(RING[1] / voxel)
    away = np.angle(np.exp(1j * (np.arctan2(y, x) - side)))
    radius = np.hypot(x, y) * voxel
    kernel = _mean_kernel((radius >= RING[0]) & (radius <= RING[1]) & (np.abs(away) < 0.25 * np.pi))
    return kernel[::-1, ::-1]  # convolution turns it back


def _offsets(radius: float) -> tuple[np.ndarray, np.ndarray]:
    n = int(np.ceil(radius))
    x, y = np.mgrid[-n : n + 1, -n : n + 1]
    return x, y


def _mean_kernel(inside: np.ndarray) -> np.ndarray:
    return (inside / inside.sum()).astype(np.float32)
