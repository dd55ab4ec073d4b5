"""Pictures of a PyBullet world without a display, by Bullet's software renderer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sonogym.errors import InvalidInputError, require_between
from sonogym.robot.bullet_world import BulletWorld

NOTHING = -1  # body of a pixel that shows none
_NEAR, _FAR = 0.05, 8.0  # m
_SUN = (0.9, -1.0, 2.2)  # where the light comes from, base axes (design)
_AMBIENT, _DIFFUSE, _SPECULAR = 0.55, 0.45, 0.12  # shares of the light (design)
_SKY = np.array([[226.0, 232.0, 238.0], [247.0, 249.0, 251.0]])  # colour at the top and at the bottom (design)


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole at ``eye`` that looks at ``target`` [m, base frame], z up; ``field_of_view`` [rad] is the vertical one.

    The picture is rendered ``oversampling`` times finer and averaged: the renderer's edges are jagged.
    """

    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    field_of_view: float = math.radians(40.0)
    width: int = 640
    height: int = 480
    oversampling: int = 2

    def __post_init__(self) -> None:
        require_between("field_of_view", self.field_of_view, 0.05, 2.5, "rad", "degrees?")
        require_between("width", self.width, 16, 4096, "pixels")
        require_between("height", self.height, 16, 4096, "pixels")
        require_between("oversampling", self.oversampling, 1, 4)
        away = np.subtract(self.target, self.eye)
        if not np.isfinite(away).all() or np.hypot(away[0], away[1]) < 1e-6:
            raise InvalidInputError(
                f"the camera must look from one point to another, not straight up or down, got {self.eye} and "
                f"{self.target}"
            )

    @staticmethod
    def around(
        target: tuple[float, float, float], azimuth: float, elevation: float, distance: float, width: int, height: int
    ) -> Camera:
        """A camera ``distance`` [m] from what it looks at, at an azimuth from the base's x and a height [rad]."""
        flat = distance * math.cos(elevation)
        eye = (
            target[0] + flat * math.cos(azimuth),
            target[1] + flat * math.sin(azimuth),
            target[2] + distance * math.sin(elevation),
        )
        return Camera(eye=eye, target=target, width=width, height=height)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of what is rendered."""
        return self.oversampling * self.height, self.oversampling * self.width

    def rays(self) -> np.ndarray:
        """(height, width, 3) of every rendered pixel: eye + depth x ray is the point it shows, base frame.

        Bullet's renderer samples the lower left corner of a pixel.
        """
        ahead, right, up = self._axes()
        height, width = self.shape
        half = math.tan(0.5 * self.field_of_view)
        x = (np.arange(width) / width * 2.0 - 1.0) * half * width / height
        y = (1.0 - (np.arange(height) + 1) / height * 2.0) * half
        return ahead + x[None, :, None] * right + y[:, None, None] * up

    def window(self, points: np.ndarray) -> tuple[slice, slice]:
        """Rows and columns of the rendered pixels that may show ``points`` (points, 3) [m]; all if one is behind."""
        height, width = self.shape
        ahead, right, up = ((points - self.eye) @ axis for axis in self._axes())
        if (ahead < _NEAR).any():
            return slice(0, height), slice(0, width)
        scale = 0.5 * height / math.tan(0.5 * self.field_of_view)
        x, y = 0.5 * width + scale * right / ahead, 0.5 * height - scale * up / ahead
        rows, columns = ((max(int(v.min()) - 2, 0), max(int(v.max()) + 3, 0)) for v in (y, x))
        return slice(*rows), slice(*columns)

    def _axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Unit vectors ahead, right and up."""
        ahead = np.subtract(self.target, self.eye)
        ahead = ahead / np.linalg.norm(ahead)
        right = np.cross(ahead, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        return ahead, right, np.cross(right, ahead)


@dataclass(frozen=True)
class Picture:
    """``rgb`` (height, width, 3) float in [0, 255], and of each pixel the ``depth`` [m] along the camera's axis and the
    ``body`` of the world that it shows.

    As rendered; :meth:`reduced` averages the oversampling away.
    """

    camera: Camera
    rgb: np.ndarray
    depth: np.ndarray
    body: np.ndarray

    def reduced(self) -> np.ndarray:
        """(height, width, 3) uint8 in the camera's own size."""
        n = self.camera.oversampling
        fine = self.rgb.reshape(self.camera.height, n, self.camera.width, n, 3)
        return np.rint(fine.mean((1, 3))).astype(np.uint8)


def photograph(world: BulletWorld, camera: Camera) -> Picture:
    """The world as it stands, before a plain sky."""
    bullet = world.bullet
    height, width = camera.shape
    view = bullet.computeViewMatrix(camera.eye, camera.target, (0.0, 0.0, 1.0))
    lens = bullet.computeProjectionMatrixFOV(math.degrees(camera.field_of_view), width / height, _NEAR, _FAR)
    _, _, rgba, buffer, body = bullet.getCameraImage(
        width, height, view, lens, _SUN, (1.0, 1.0, 1.0), 6.0, 1, _AMBIENT, _DIFFUSE, _SPECULAR,
        renderer=bullet.ER_TINY_RENDERER, physicsClientId=world.client,
    )  # fmt: skip
    body = np.asarray(body).reshape(height, width)
    rgb = np.asarray(rgba, np.uint8).reshape(height, width, 4)[..., :3].astype(np.float64)
    share = np.linspace(0.0, 1.0, height)[:, None, None]
    rgb = np.where((body == NOTHING)[..., None], _SKY[0] + share * (_SKY[1] - _SKY[0]), rgb)
    # the buffer is the depth of OpenGL, hyperbolic between the near and the far plane
    buffer = np.asarray(buffer, np.float64).reshape(height, width)
    return Picture(camera, rgb, _FAR * _NEAR / (_FAR - (_FAR - _NEAR) * buffer), body)
