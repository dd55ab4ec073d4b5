"""Capsules around the links of a robot: the smallest found that holds every vertex of a link's collision shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import ConvexHull
from torch import Tensor

from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose
from sonogym.robot.chain import Frames, rotation_from_rpy
from sonogym.robot.urdf import Shape, Urdf

_DIRECTIONS = 96  # axes tried for a link, spread over a hemisphere
_CENTRE_STEPS = 60  # steps of the smallest enclosing circle: within 1 % of its radius
_MANY = 64  # vertices from which it pays to keep only those of the convex hull
_DISC = 24  # vertices of a cylinder's rim


@dataclass(frozen=True)
class Capsules:
    """Segments [m] with a radius [m], each fixed to the frame of a chain that ``frame`` names (0 is the base)."""

    names: tuple[str, ...]
    frame: Int[Tensor, " capsules"]
    start: Float[Tensor, "capsules 3"]
    end: Float[Tensor, "capsules 3"]
    radius: Float[Tensor, " capsules"]

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Capsules:
        """The same capsules on another device or in another precision."""
        start, end, radius = (tensor.to(device, dtype) for tensor in (self.start, self.end, self.radius))
        return replace(self, frame=self.frame.to(device), start=start, end=end, radius=radius)

    def segments(self, frames: Frames) -> tuple[Float[Tensor, "envs capsules 3"], Float[Tensor, "envs capsules 3"]]:
        """Ends of every capsule's segment in the base frame [m]."""
        rotation, origin = frames.rotation[:, self.frame], frames.origin[:, self.frame]
        return (rotation @ self.start[..., None])[..., 0] + origin, (rotation @ self.end[..., None])[..., 0] + origin

    def joined(self, name: str, frame: int, start: Tensor, end: Tensor, radius: float) -> Capsules:
        """These capsules and one more."""
        return Capsules(
            (*self.names, name),
            torch.cat((self.frame, torch.tensor([frame]))),
            torch.cat((self.start, start[None])),
            torch.cat((self.end, end[None])),
            torch.cat((self.radius, torch.tensor([radius], dtype=self.radius.dtype))),
        )


def link_capsules(urdf: Urdf, place: Mapping[str, tuple[int, Pose]]) -> Capsules:
    """A float64 capsule around each link in ``place`` (link -> frame, frame_from_link) that has collision shapes.

    Raises :class:`InvalidInputError` for a chain without any: nothing could be kept clear of the patient.
    """
    links = [link for link in place if urdf.shapes[link]]
    if not links:
        raise InvalidInputError(
            f"{urdf.path}: no link from {next(iter(place))!r} to {list(place)[-1]!r} has a <collision> shape, so no "
            "clearance can be told; give the links meshes, boxes, cylinders or spheres"
        )
    ends, radii = [], []
    for link in links:
        vertices = _hull(np.concatenate([_vertices(shape) for shape in urdf.shapes[link]]))
        first, last, radius = enclosing_capsule(place[link][1].apply(torch.from_numpy(vertices)).numpy())
        ends.append((torch.from_numpy(first), torch.from_numpy(last)))
        radii.append(radius)
    frame = torch.tensor([place[link][0] for link in links])
    start, end = (torch.stack(side) for side in zip(*ends, strict=True))
    return Capsules(tuple(links), frame, start, end, torch.tensor(radii, dtype=torch.float64))


def enclosing_capsule(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Start, end and radius of the capsule of least volume found around (vertices, 3), over a fan of axes.

    For each axis: the smallest circle around the projected vertices (Badoiu & Clarkson 2003), then the shortest segment
    whose caps hold them all. Every vertex lies inside, to rounding.
    """
    axis, first, second = _frames(_hemisphere())
    along, flat = vertices @ axis.T, np.stack((vertices @ first.T, vertices @ second.T))  # (vertices, axes)
    centre = _enclosing_circle(flat)
    across = np.sqrt(((flat - centre[:, None]) ** 2).sum(0))
    radius = across.max(0)
    cap = np.sqrt(np.maximum(radius**2 - across**2, 0.0))
    low, high = (along + cap).min(0), (along - cap).max(0)
    low, high = np.minimum(low, 0.5 * (low + high)), np.maximum(high, 0.5 * (low + high))
    best = int(np.argmin(math.pi * radius**2 * (high - low + 4.0 / 3.0 * radius)))
    foot = centre[0, best] * first[best] + centre[1, best] * second[best]
    return foot + low[best] * axis[best], foot + high[best] * axis[best], float(radius[best])


def _enclosing_circle(flat: np.ndarray) -> np.ndarray:
    """(2, axes) centres: step towards the farthest vertex by a shrinking share."""
    centre = flat.mean(1)
    columns = np.arange(flat.shape[2])
    for step in range(_CENTRE_STEPS):
        farthest = ((flat - centre[:, None]) ** 2).sum(0).argmax(0)
        centre = centre + (flat[:, farthest, columns] - centre) / (step + 2)
    return centre


def _hull(vertices: np.ndarray) -> np.ndarray:
    """The vertices of the convex hull: a capsule is convex, so they decide (joggled: a mesh may be flat)."""
    return vertices if len(vertices) < _MANY else vertices[ConvexHull(vertices, qhull_options="QJ").vertices]


def _hemisphere() -> np.ndarray:
    """The three coordinate axes, then a Fibonacci spiral over the upper half sphere."""
    index = np.arange(_DIRECTIONS) + 0.5
    z, angle = index / _DIRECTIONS, index * math.pi * (3.0 - math.sqrt(5.0))
    ring = np.sqrt(1.0 - z**2)
    return np.concatenate((np.eye(3), np.stack((ring * np.cos(angle), ring * np.sin(angle), z), axis=1)))


def _frames(axis: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each axis with two unit vectors across it."""
    first = np.cross(axis, np.eye(3)[np.abs(axis).argmin(1)])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return axis, first, np.cross(axis, first)


def _vertices(shape: Shape) -> np.ndarray:
    """(vertices, 3) float64 points in the link whose hull holds the shape."""
    points = _MAKERS[shape.kind](shape)
    return points @ rotation_from_rpy(shape.rpy).numpy().T + np.array(shape.xyz)


def _mesh(shape: Shape) -> np.ndarray:
    import trimesh

    vertices = np.asarray(trimesh.load_mesh(shape.mesh, process=False).vertices, dtype=np.float64)
    if len(vertices) == 0:
        raise InvalidInputError(f"mesh {shape.mesh} has no vertices")
    return vertices * np.array(shape.size)


def _box(shape: Shape) -> np.ndarray:
    corners = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return corners * np.array(shape.size)


def _cylinder(shape: Shape) -> np.ndarray:
    """Rims of a prism around the cylinder: its corners lie outside by 1 / cos(half a side)."""
    radius, length = shape.size
    angle = np.arange(_DISC) * (2.0 * math.pi / _DISC)
    rim = radius / math.cos(math.pi / _DISC) * np.stack((np.cos(angle), np.sin(angle)), axis=1)
    return np.concatenate([np.column_stack((rim, np.full(_DISC, side * length))) for side in (-0.5, 0.5)])


def _sphere(shape: Shape) -> np.ndarray:
    """Both poles of the sphere along every axis tried, so that no capsule cuts it."""
    axes = _hemisphere()
    return shape.size[0] * np.concatenate((axes, -axes))


_MAKERS = {"mesh": _mesh, "box": _box, "cylinder": _cylinder, "sphere": _sphere}
