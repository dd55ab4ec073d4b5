"""A small software rasteriser: shaded triangles into a depth buffer, where there is no graphics card."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SAMPLES = 0.9  # of a pixel: furthest apart the points lie that a triangle is drawn by
_LIGHT = np.array([-0.35, 0.45, -0.85])  # towards the light: right, up and depth of the camera
_AMBIENT, _DIFFUSE, _SPECULAR, _SHINE = 0.34, 0.62, 0.22, 24.0
_MOST = 48  # points along an edge


@dataclass(frozen=True)
class Camera:
    """Orthographic; ``right``, ``up``, ``ahead`` are unit vectors, ``centre`` [m] is in the middle of the picture."""

    centre: np.ndarray
    right: np.ndarray
    up: np.ndarray
    ahead: np.ndarray
    metre: float  # in pixels
    size: tuple[int, int]  # rows, columns

    def project(self, points: np.ndarray) -> np.ndarray:
        """(points, 3) [m] -> column, row [pixels] and depth [m]."""
        away = points - self.centre
        rows, columns = self.size
        column, row = 0.5 * columns + self.metre * (away @ self.right), 0.5 * rows - self.metre * (away @ self.up)
        return np.stack((column, row, away @ self.ahead), axis=-1)


@dataclass
class Layer:
    """``colour`` (rows, columns, 3), ``depth`` [m] (inf: nothing there) and ``facing`` (1: seen face on)."""

    colour: np.ndarray
    depth: np.ndarray
    facing: np.ndarray

    @classmethod
    def empty(cls, camera: Camera) -> Layer:
        """Nothing drawn yet."""
        shape = camera.size
        return cls(np.ones((*shape, 3)), np.full(shape, np.inf), np.zeros(shape))

    def draw(self, camera: Camera, vertices: np.ndarray, faces: np.ndarray, colour: tuple[float, float, float]) -> None:
        """Add the triangles that lie in front of what is there; both sides are lit."""
        corners = camera.project(vertices)[faces]
        normal = _face_normals(vertices, faces)
        view = np.stack((normal @ camera.right, normal @ camera.up, normal @ camera.ahead), axis=-1)
        view *= np.where(view[:, 2:] > 0.0, -1.0, 1.0)  # towards the camera
        count = np.ceil(np.ptp(corners[..., :2], axis=1).max(axis=-1) / _SAMPLES).astype(int).clip(1, _MOST)
        for number in np.unique(count):
            mine = count == number
            self._put(_points(corners[mine], int(number)), _shaded(view[mine], np.array(colour)), -view[mine, 2])

    def _put(self, points: np.ndarray, colour: np.ndarray, facing: np.ndarray) -> None:
        """Keep the nearest of the ``points`` (samples, faces, 3) in each pixel."""
        face = np.broadcast_to(np.arange(points.shape[1]), points.shape[:2]).ravel()
        column, row, depth = points.reshape(-1, 3).T
        column, row = np.floor(column).astype(int), np.floor(row).astype(int)
        inside = (column >= 0) & (row >= 0) & (column < self.depth.shape[1]) & (row < self.depth.shape[0])
        pixel, depth, face = (row * self.depth.shape[1] + column)[inside], depth[inside], face[inside]
        order = np.argsort(-depth, kind="stable")  # the nearest is written last
        pixel, depth, face = pixel[order], depth[order], face[order]
        nearest = np.full(self.depth.size, -1)
        nearest[pixel] = np.arange(len(pixel))
        at = np.flatnonzero(nearest >= 0)
        chosen = nearest[at]
        front = depth[chosen] < self.depth.ravel()[at]
        at, chosen = at[front], chosen[front]
        self.depth.reshape(-1)[at] = depth[chosen]
        self.colour.reshape(-1, 3)[at] = colour[face[chosen]]
        self.facing.reshape(-1)[at] = facing[face[chosen]]


def _face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Normals of the faces, averaged over their vertices' neighbours, so that the shading is smooth."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    flat = np.cross(b - a, c - a)
    count = len(vertices)
    smooth = np.stack([np.bincount(faces.ravel(), np.repeat(part, 3), minlength=count) for part in flat.T], axis=-1)
    normal = smooth[faces].sum(axis=1)
    return normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-20)


def _points(corners: np.ndarray, number: int) -> np.ndarray:
    """Points (samples, faces, 3) that cover triangles (faces, 3 corners, 3)."""
    i, j = np.meshgrid(np.arange(number + 1), np.arange(number + 1), indexing="ij")
    keep = i + j <= number
    u, v = i[keep] / number, j[keep] / number
    weight = np.stack((1.0 - u - v, u, v), axis=-1)
    return np.einsum("sk,fkc->sfc", weight, corners)


def _shaded(view: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Blinn-Phong with one distant light: ambient + diffuse n.l + specular (n.h)^shine."""
    light = _LIGHT / np.linalg.norm(_LIGHT)
    half = light + np.array([0.0, 0.0, -1.0])
    diffuse = np.clip(view @ light, 0.0, 1.0)[:, None]
    specular = np.clip(view @ (half / np.linalg.norm(half)), 0.0, 1.0)[:, None] ** _SHINE
    return np.clip((_AMBIENT + _DIFFUSE * diffuse) * colour + _SPECULAR * specular, 0.0, 1.0)
