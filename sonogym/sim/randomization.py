"""What differs between episodes, as ranges, and the draw that fixes it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.errors import require_between
from sonogym.random import Streams
from sonogym.sim.start_region import StartRegion
from sonogym.sim.state import SimParams

_SHIFT = np.uint64(33)  # leaves seeds of 31 bits
_LIMITS = {"gain": (-40.0, 40.0, "dB"), "dynamic_range": (20.0, 120.0, "dB"), "tgc": (0.0, 3.0, "dB/cm/MHz")}


@dataclass(frozen=True, kw_only=True)
class Randomization:
    """Ranges (low, high) of an episode's draws, uniform within them.

    ``yaw`` [rad] is the largest turn of the start either way; ``gain`` and ``dynamic_range`` [dB] and ``tgc``
    [dB/cm/MHz one way] are a sonographer's knobs.
    """

    yaw: float = math.radians(60.0)
    gain: tuple[float, float] = (-4.0, 4.0)
    dynamic_range: tuple[float, float] = (50.0, 65.0)
    tgc: tuple[float, float] = (0.5, 0.7)

    def __post_init__(self) -> None:
        require_between("yaw", self.yaw, 0.0, math.pi, "rad", "degrees?")
        for name, (lowest, highest, unit) in _LIMITS.items():
            low, high = getattr(self, name)
            require_between(f"{name} (low)", low, lowest, highest, unit)
            require_between(f"{name} (high)", high, low, highest, unit)

    def draw(self, streams: Streams, region: StartRegion) -> SimParams:
        """One episode's parameters a stream: a patient, a start within ``region``, the settings of the scanner."""
        words = streams.bits("episode", 3)  # one draw for all: a reset happens at almost every step of a large batch
        patient = (words[:, 0] % np.uint64(region.points.shape[0])).astype(np.int64)
        along, across, yaw, gain, tgc, dynamic_range = streams.uniform("ranges", 0.0, 1.0, 6).unbind(1)
        anatomy_index = torch.from_numpy(patient)
        return SimParams(
            anatomy_index=anatomy_index,
            start=region.pose(anatomy_index, along, across, (2.0 * yaw - 1.0) * self.yaw),
            gain=_within(self.gain, gain),
            tgc=_within(self.tgc, tgc),
            dynamic_range=_within(self.dynamic_range, dynamic_range),
            speckle_seed=torch.from_numpy((words[:, 1] >> _SHIFT).astype(np.int64)),
            noise_seed=torch.from_numpy((words[:, 2] >> _SHIFT).astype(np.int64)),
        )


def _within(ends: tuple[float, float], unit: Float[Tensor, " envs"]) -> Float[Tensor, " envs"]:
    return ends[0] + (ends[1] - ends[0]) * unit
