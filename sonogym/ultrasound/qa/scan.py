"""Scans of the phantom: frames of one probe with their metric axes, and the regions of interest in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from sonogym.anatomy.phantoms import phantom_pose
from sonogym.geometry import Pose
from sonogym.ultrasound.bake import AcousticAnatomy
from sonogym.ultrasound.frame import Frame, RenderConfig, RenderParams
from sonogym.ultrasound.psf import axial_width
from sonogym.ultrasound.qa.phantom import TABLE, Disc
from sonogym.ultrasound.renderer import Renderer
from sonogym.ultrasound.transducer import Transducer

_SPREAD = 0x2545F4914F6CDD1D  # odd: seeds of neighbouring frames differ in all their bits


@dataclass(frozen=True, kw_only=True)
class Scan:
    """``envelope`` (frames, samples, lines) float64; ``depth`` (samples,) [m] along the lines; ``x``, ``z``
    (samples, lines) [m] in the probe frame; ``beam`` (samples, lines) uint8 of the first frame."""

    envelope: np.ndarray
    depth: np.ndarray
    x: np.ndarray
    z: np.ndarray
    beam: torch.Tensor

    def inside(self, disc: Disc, share: float = 1.0) -> np.ndarray:
        """(samples, lines) mask of the points within ``share`` of the radius of ``disc``."""
        return np.hypot(self.x - disc.x, self.z - disc.z) <= share * disc.radius

    def values(self, disc: Disc, share: float = 1.0) -> np.ndarray:
        """(frames, points) of the envelope in a disc."""
        return self.envelope[:, self.inside(disc, share)]


def samples_for(transducer: Transducer, depth: float, per_width: float) -> int:
    """Samples down to ``depth`` [m] that put ``per_width`` of them into the axial width."""
    return 64 * math.ceil(per_width * depth / axial_width(transducer) / 64.0)


def scan(
    body: AcousticAnatomy,
    transducer: Transducer,
    lines: int,
    samples: int,
    depth: float,
    frames: int = 1,
    seed: int = 1,
    scatterers: float | None = None,
) -> Scan:
    """``frames`` scans of the same place that differ in scatterers and receiver noise; the rigid phantom does not give.

    Everything the renderer does is on, but for the compression under the face. ``scatterers`` in each resolution cell
    make sparse speckle, on a lattice fine enough for it; None is fully developed speckle.
    """
    config = RenderConfig(
        lines=lines,
        samples=samples,
        depth=depth,
        contact=False,
        outputs=("envelope",),
        scatterers=scatterers,
        lattice=None if scatterers is None else 0.25 * axial_width(transducer),
    )
    renderer = Renderer([body], transducer, config, tissues=TABLE)
    words = (torch.arange(frames) + seed) * _SPREAD
    params = replace(RenderParams.default(frames), speckle_seed=words, noise_seed=words)
    pose = phantom_pose()
    placed = Pose(pose.quaternion.expand(frames, 4), pose.translation.expand(frames, 3))
    frame = renderer.render(placed, torch.zeros(frames, dtype=torch.long), params)
    x, z = _places(frame, transducer)
    return Scan(envelope=_envelope(frame), depth=frame.depth.double().numpy(), x=x, z=z, beam=frame.beam[0, 0])


def elevation_profile(
    bodies: Sequence[AcousticAnatomy], transducer: Transducer, shifts: np.ndarray, depth: float, samples: int
) -> np.ndarray:
    """Highest echo (bodies, shifts) while the probe slides in elevation; ``shifts`` (bodies, shifts) [m]."""
    lines = 64 if transducer.kind == "radial" else 8  # all round, eight lines would blur into one another
    config = RenderConfig(lines=lines, samples=samples, depth=depth, planes=9, contact=False, noise=False,
                          outputs=("envelope",))  # fmt: skip
    renderer = Renderer(bodies, transducer, config, tissues=TABLE)
    poses = [phantom_pose(elevation=float(shift)) for shift in shifts.ravel()]
    placed = Pose(torch.stack([p.quaternion for p in poses]), torch.stack([p.translation for p in poses]))
    frame = renderer.render(placed, torch.arange(len(bodies)).repeat_interleave(shifts.shape[1]))
    straight = slice(0, 1) if transducer.kind == "radial" else slice(3, 5)
    middle = _envelope(frame)[:, :, straight]  # lines farther out meet a flat sheet at longer ranges
    return middle.max(axis=1).mean(axis=1).reshape(shifts.shape)


def _envelope(frame: Frame) -> np.ndarray:
    assert frame.envelope is not None
    return frame.envelope.double().numpy()


def _places(frame: Frame, transducer: Transducer) -> tuple[np.ndarray, np.ndarray]:
    depth, line = frame.depth.double().numpy(), frame.line_position.double().numpy()
    if transducer.kind == "linear":
        return np.broadcast_to(line, (len(depth), len(line))), np.broadcast_to(depth[:, None], (len(depth), len(line)))
    reach = transducer.radius + depth[:, None]
    return reach * np.sin(line), reach * np.cos(line) - (0.0 if transducer.kind == "radial" else transducer.radius)
