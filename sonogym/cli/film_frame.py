"""One frame of ``sonogym film``: the scene, what the probe sees with its depth scale, and the force so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sonogym.robot.scene import Fan

SCENE = (500, 400)  # pixels of the picture of the scene
PANEL = 310  # pixels of the column beside it
_IMAGE_HEIGHT = 214
_GROUND, _LINE, _TEXT, _FAINT = (17, 21, 26), (72, 82, 94), (222, 228, 235), (140, 150, 162)
FORCE_COLOUR, _BAND = (255, 158, 64), (38, 62, 58)
_LEFT, _TOP, _RIGHT, _BOTTOM = 34, 24, 12, 22  # pixels around the force's axes
_TOLERANCE = 0.5  # N: width of the band around the set-point


@dataclass(frozen=True, kw_only=True)
class Force:
    """What is plotted: readings [N] at times [s], the ``set_point`` [N], and the ``end`` of the film [s]."""

    times: Sequence[float]
    readings: Sequence[float]
    set_point: float
    end: float


def compose(scene: np.ndarray, fan: Fan, force: Force) -> np.ndarray:
    """(height, width, 3) uint8: the scene on the left, image and force on the right."""
    canvas = Image.new("RGB", (SCENE[0] + PANEL, SCENE[1]), _GROUND)
    canvas.paste(Image.fromarray(scene), (0, 0))
    draw = ImageDraw.Draw(canvas)
    _draw_image(canvas, draw, fan)
    _draw_force(draw, force, (SCENE[0], _IMAGE_HEIGHT, SCENE[0] + PANEL, SCENE[1]))
    return np.asarray(canvas)


def _draw_image(canvas: Image.Image, draw: ImageDraw.ImageDraw, fan: Fan) -> None:
    """The image as large as the panel allows, with a scale of its depth in centimetres from the face."""
    left, right, bottom, top = fan.extent
    scale = min((PANEL - 44) / (right - left), (_IMAGE_HEIGHT - 16) / (bottom - top))  # pixels a metre
    size = (round(scale * (right - left)), round(scale * (bottom - top)))
    x, y = SCENE[0] + 34, 8
    grey = np.where(fan.inside, fan.image, 0).astype(np.uint8)
    picture = Image.fromarray(grey).resize(size, Image.Resampling.BOX)
    ground = Image.new("RGB", size, _GROUND)
    mask = Image.fromarray((255 * fan.inside).astype(np.uint8)).resize(size, Image.Resampling.BOX)
    canvas.paste(Image.composite(picture.convert("RGB"), ground, mask), (x, y))
    for centimetres in range(math.floor(100.0 * bottom) + 1):
        row = y + scale * (0.01 * centimetres - top)
        long = centimetres % 5 == 0
        draw.line((x - (9 if long else 5), row, x - 2, row), fill=_FAINT)
        if long:
            draw.text((x - 12, row), str(centimetres), fill=_FAINT, font=_font(11), anchor="rm")
    draw.text((SCENE[0] + PANEL - 8, 8), "cm", fill=_FAINT, font=_font(11), anchor="ra")


def _draw_force(draw: ImageDraw.ImageDraw, force: Force, box: tuple[int, int, int, int]) -> None:
    """Readings over time with the set-point's band."""
    left, top, right, bottom = box[0] + _LEFT, box[1] + _TOP, box[2] - _RIGHT, box[3] - _BOTTOM
    most = max(2.0 * force.set_point, 1.1 * max(force.readings, default=0.0))

    def at(time: float, newton: float) -> tuple[float, float]:
        return left + (right - left) * time / force.end, bottom - (bottom - top) * min(max(newton / most, 0.0), 1.0)

    low, high = force.set_point - _TOLERANCE, force.set_point + _TOLERANCE
    draw.rectangle((*at(0.0, high), *at(force.end, low)), fill=_BAND)
    draw.line((left, top, left, bottom, right, bottom), fill=_LINE)
    for newton in (0.0, force.set_point, 2.0 * force.set_point):
        draw.text((left - 6, at(0.0, newton)[1]), f"{newton:g}", fill=_FAINT, font=_font(11), anchor="rm")
    for second in range(0, math.floor(force.end) + 1, max(round(force.end / 5.0), 1)):
        draw.text((at(second, 0.0)[0], bottom + 4), f"{second}", fill=_FAINT, font=_font(11), anchor="ma")
    draw.text((right, bottom + 4), "s", fill=_FAINT, font=_font(11), anchor="ra")
    points = [at(time, newton) for time, newton in zip(force.times, force.readings, strict=True)]
    if len(points) > 1:
        draw.line(points, fill=FORCE_COLOUR, width=2, joint="curve")
    if points:
        x, y = points[-1]
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=FORCE_COLOUR)
        draw.text((left + 4, top - 18), f"contact force {force.readings[-1]:.1f} N", fill=_TEXT, font=_font(13))


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def write_gif(path: Any, frames: Sequence[np.ndarray], rate: float, colours: int) -> None:
    """An endless GIF at ``rate`` [Hz] with one palette of all frames, undithered: what stands still costs nothing."""
    step = max(len(frames) // 8, 1)
    sample = Image.fromarray(np.concatenate([frame[::2, ::2] for frame in frames[::step]]))
    palette = sample.quantize(colours, method=Image.Quantize.MEDIANCUT)
    pictures = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    pictures[0].save(
        path, format="GIF", save_all=True, append_images=pictures[1:], duration=round(1000.0 / rate), loop=0,
        optimize=False, disposal=1,
    )  # fmt: skip
