"""Meshes for PyBullet: a patient's skin and a transducer's head."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from sonogym.anatomy.surface import SKIN_SPACING, Skin
from sonogym.errors import InvalidInputError
from sonogym.ultrasound.transducer import Transducer

SKIN_STEP = 3  # voxels of the skin's grid to a cell of the mesh: chords of 9 mm leave a 100 mm radius by .1 mm
HEAD_LENGTH = 0.04  # m from the face back to the handle (design)
WALL = 2e-3  # m of housing around the acoustic face (design)
_ARC = 17  # vertices along a curved face; odd: one is its apex


def skin_mesh(skin: Skin) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (vertices, 3) [m] in the patient's frame and faces (faces, 3) of the closed skin, normals outwards.

    Marching cubes of the signed distance on every ``SKIN_STEP``-th voxel, then one step of each vertex onto the skin.
    The body is closed where the scan ends. Raises :class:`InvalidInputError` if no skin is in the volume.
    """
    import trimesh
    from skimage import measure

    distance = np.pad(skin.distance.voxels[0].numpy(), SKIN_STEP, constant_values=SKIN_STEP * SKIN_SPACING)
    if not (distance.min() < 0.0 < distance.max()):
        raise InvalidInputError("the skin volume holds no skin: its signed distance never changes sign")
    voxel, faces, _, _ = measure.marching_cubes(distance, 0.0, step_size=SKIN_STEP)
    matrix = skin.distance.patient_from_voxel.double().numpy()
    points = (voxel.astype(np.float64) - SKIN_STEP) @ matrix[:3, :3].T + matrix[:3, 3]
    points = _onto_skin(skin, points, voxel, distance.shape)
    mesh = trimesh.Trimesh(points, faces, process=False)
    mesh.fix_normals()
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def _onto_skin(skin: Skin, points: np.ndarray, voxel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Vertices moved along the distance's gradient, but those of the lids that close the body."""
    last = np.array(shape) - 1 - 2 * SKIN_STEP
    inner = ((voxel > 2 * SKIN_STEP) & (voxel < last)).all(1)
    moved = skin.project(torch.from_numpy(points[inner]).float(), iterations=1).numpy()
    out = points.copy()
    out[inner] = moved
    return out


def head_outline(transducer: Transducer) -> np.ndarray:
    """(points, 2) lateral and depth [m] of the housing in the image plane: the face first, then back to the handle.

    The face is the acoustic one with ``WALL`` beside it; a radial probe's is its disc.
    """
    if transducer.kind == "radial":
        angle = np.linspace(-math.pi, math.pi, 2 * _ARC, endpoint=False)
        return transducer.radius * np.stack((np.sin(angle), np.cos(angle)), axis=1)
    half = 0.5 * transducer.width + WALL
    if transducer.kind == "convex":
        angle = np.linspace(-0.5, 0.5, _ARC) * transducer.field_of_view
        face = transducer.radius * np.stack((np.sin(angle), np.cos(angle) - 1.0), axis=1)
        half = max(float(face[:, 0].max()), 0.0) + WALL
        face = np.concatenate(([[-half, face[0, 1]]], face, [[half, face[-1, 1]]]))
    else:
        face = np.array([[-half, 0.0], [half, 0.0]])
    neck = 0.45 * half
    back = np.array(
        [[half, face[-1, 1] - 0.012], [neck, -HEAD_LENGTH], [-neck, -HEAD_LENGTH], [-half, face[0, 1] - 0.012]]
    )
    return np.concatenate((face, back))


def head_mesh(transducer: Transducer) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [m] in the probe's frame and faces of the head: its outline, as thick as the elements are tall.

    The hull is taken: Bullet's collision shape of a moving link is convex anyway.
    """
    import trimesh

    outline = head_outline(transducer)
    half = 0.5 * transducer.height + WALL
    points = np.concatenate([np.insert(outline, 1, side, axis=1) for side in (-half, half)])
    hull = trimesh.convex.convex_hull(points)
    return np.asarray(hull.vertices), np.asarray(hull.faces)


def write_obj(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """A Wavefront file with a normal at every vertex, so that it is shaded smoothly."""
    import trimesh

    normals = trimesh.Trimesh(vertices, faces, process=False).vertex_normals
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices]
    lines += [f"vn {x:.5f} {y:.5f} {z:.5f}" for x, y, z in normals]
    lines += [f"f {a}//{a} {b}//{b} {c}//{c}" for a, b, c in faces + 1]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
