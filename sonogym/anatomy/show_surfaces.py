"""A picture of a patient in 3-D: translucent skin over bones, organs and vessels, and the fans of planes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from sonogym.anatomy.anatomy import Anatomy
from sonogym.anatomy.meshes import FAN, LOOKS, fan_mesh, scene_bytes, surface_meshes
from sonogym.anatomy.planes import plane_pose
from sonogym.anatomy.raster import Camera, Layer

SCENES = (".glb", ".ply")
_VIEWS = {"front": (0.0, -1.0, 0.0), "right, behind": (-0.75, 0.62, -0.2), "behind": (0.0, 1.0, 0.0)}
_METRE, _FINER = 1900.0, 2  # pixels a metre; sub-pixels along an edge that are averaged
_RIM = 0.75  # how much denser the skin looks where it is seen edge on
_MARGIN = 0.03  # m


def write_surfaces(anatomy: Anatomy, path: Path, kind: str, planes: Sequence[str] = ()) -> None:
    """Write the surfaces as a picture from three sides (``kind`` .png), or as a 3-D scene (.glb, .ply).

    The fan of each of ``planes`` is shown. Raises OSError, and as :func:`plane_pose` does.
    """
    fans = {plane: fan_mesh(plane_pose(anatomy, plane)) for plane in planes}
    meshes = surface_meshes(anatomy)
    if kind in SCENES:
        path.write_bytes(scene_bytes(meshes, fans, kind.removeprefix(".")))
        return
    _write_picture(anatomy.name, meshes, fans, path)


def _write_picture(
    name: str, meshes: Mapping[str, trimesh.Trimesh], fans: Mapping[str, trimesh.Trimesh], path: Path
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pictures = {title: _picture(meshes, fans, np.array(ahead)) for title, ahead in _VIEWS.items()}
    widths = [picture.shape[1] for picture in pictures.values()]
    height = max(picture.shape[0] for picture in pictures.values())
    figure = Figure(figsize=(sum(widths) / 100.0, height / 100.0 + 1.0))
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(pictures), width_ratios=widths)
    for ax, (title, picture) in zip(axes, pictures.items(), strict=True):
        above = (height - picture.shape[0]) // 2
        ax.imshow(np.pad(picture, ((above, height - picture.shape[0] - above), (0, 0), (0, 0)), constant_values=1.0))
        ax.set_title(title, fontsize=11)
        ax.set_axis_off()
    figure.suptitle(", ".join([name, *fans]), fontsize=12)
    _legend(figure, meshes, bool(fans))
    figure.subplots_adjust(left=0.01, right=0.99, top=0.9, bottom=0.08, wspace=0.02)
    figure.savefig(path, dpi=100, format="png")


def _picture(
    meshes: Mapping[str, trimesh.Trimesh], fans: Mapping[str, trimesh.Trimesh], ahead: np.ndarray
) -> np.ndarray:
    """(rows, columns, 3) in [0, 1], seen along ``ahead``."""
    camera = _camera(np.concatenate([mesh.bounds for mesh in meshes.values()]), ahead)
    solid, skin, fan = (Layer.empty(camera) for _ in range(3))
    for name, mesh in meshes.items():
        (solid if LOOKS[name].opacity == 1.0 else skin).draw(camera, mesh.vertices, mesh.faces, LOOKS[name].colour)
    for mesh in fans.values():
        fan.draw(camera, mesh.vertices, mesh.faces, FAN.colour)
    opacity = np.full(solid.depth.shape, FAN.opacity) * np.isfinite(fan.depth)
    behind = fan.depth > solid.depth
    picture = _over(solid.colour, np.array(FAN.colour), np.where(behind, 0.3 * opacity, opacity))
    rim = LOOKS["skin"].opacity + _RIM * (1.0 - skin.facing) ** 3
    picture = _over(picture, skin.colour, np.where(np.isfinite(skin.depth), rim.clip(0.0, 0.9), 0.0))
    rows, columns = (n // _FINER for n in camera.size)
    return picture.reshape(rows, _FINER, columns, _FINER, 3).mean(axis=(1, 3))


def _over(below: np.ndarray, colour: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    return below + (colour - below) * opacity[..., None]


def _camera(bounds: np.ndarray, ahead: np.ndarray) -> Camera:
    ahead = ahead / np.linalg.norm(ahead)
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, ahead)
    low, high = bounds.min(axis=0), bounds.max(axis=0)
    corners = np.array(list(itertools.product(*zip(low, high, strict=True))))
    rows, columns = (int((np.ptp(corners @ axis) + 2.0 * _MARGIN) * _METRE) // _FINER * _FINER for axis in (up, right))
    return Camera(0.5 * (low + high), right, up, ahead, _METRE, (rows, columns))


def _legend(figure: Any, meshes: Mapping[str, trimesh.Trimesh], with_fan: bool) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(color=LOOKS[name].colour, label=name) for name in meshes]
    patches += [Patch(color=FAN.colour, label="image plane")] if with_fan else []
    figure.legend(handles=patches, loc="lower center", ncols=7, fontsize=8.5, frameon=False)
