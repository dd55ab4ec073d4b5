"""The ultrasound image drawn into a picture of the scene, where its plane lies in space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from sonogym.geometry import Pose, so3
from sonogym.robot.camera import Picture

OPACITY = 0.93  # of the fan over the skin, which it is seen through (design)
_EDGE_COLOUR = np.array([70.0, 220.0, 235.0])
_EDGE = 1.2e-3  # m: width of the fan's outline (design)
_GRAZING = 1e-3  # share of a ray along the plane's normal below which the plane is seen edge on
_COINCIDENT = 2e-3  # m: closer than this behind a surface, the plane is on it


@dataclass(frozen=True)
class Fan:
    """An ultrasound image (height, width) uint8 with the mask of its view and its edges (left, right, bottom, top) [m]
    in the probe's x and z."""

    image: np.ndarray
    inside: np.ndarray
    extent: tuple[float, float, float, float]


def draw_fan(picture: Picture, base_from_probe: Pose, fan: Fan, transparent: int) -> Picture:
    """``picture`` with the fan at ``base_from_probe`` (no batch axis), seen through the body ``transparent`` only.

    A pixel's ray meets the plane y = 0 of the probe at depth t = -y_eye / y_ray; what is behind another body is hidden.
    """
    turn = so3.to_matrix(base_from_probe.quaternion.double()).numpy()
    origin = base_from_probe.translation.double().numpy()
    left, right, bottom, top = fan.extent
    corners = np.array([[x, 0.0, z] for x in (left, right) for z in (bottom, top)]) @ turn.T + origin
    at = picture.camera.window(corners)
    eye = (np.asarray(picture.camera.eye) - origin) @ turn
    rays = picture.camera.rays()[at] @ turn
    steep = np.abs(rays[..., 1]) > _GRAZING
    t = np.where(steep, -eye[1] / np.where(steep, rays[..., 1], 1.0), -1.0)
    value, share, edge = _read(fan, eye[0] + t * rays[..., 0], eye[2] + t * rays[..., 2])
    hidden = (picture.depth[at] < t - _COINCIDENT) & (picture.body[at] != transparent)
    share = OPACITY * share * (t > 0) * ~hidden
    colour = np.where(edge[..., None], _EDGE_COLOUR, value[..., None])
    rgb = picture.rgb.copy()
    rgb[at] += share[..., None] * (colour - rgb[at])
    return Picture(picture.camera, rgb, picture.depth, picture.body)


def _read(fan: Fan, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey level, share inside the view, and whether on its outline, at points [m] of the image plane."""
    left, right, bottom, top = fan.extent
    height, width = fan.image.shape
    at = np.stack(((z - top) / (bottom - top) * height - 0.5, (x - left) / (right - left) * width - 0.5))
    pixel = (right - left) / width
    within = ndimage.distance_transform_edt(np.pad(fan.inside, 1))[1:-1, 1:-1] * pixel
    depth_inside = ndimage.map_coordinates(within, at, order=1, cval=0.0)
    value = ndimage.map_coordinates(fan.image.astype(np.float64), at, order=1, mode="nearest")
    return value, (depth_inside > 0.0).astype(np.float64), (depth_inside > 0.0) & (depth_inside < _EDGE)
