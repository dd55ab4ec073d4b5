"""What differs between episodes, as ranges, and the draw that fixes it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.anatomy.breathing import Breathing
from sonogym.anatomy.tissues import TISSUE_COUNT
from sonogym.errors import require_between
from sonogym.random import Streams
from sonogym.robot.contact import FRICTION, ContactFactors
from sonogym.sim.force_control import Control
from sonogym.sim.start_region import StartRegion
from sonogym.sim.state import SimParams
from sonogym.ultrasound.acoustics import load_acoustics_table
from sonogym.ultrasound.contact import GAP_NONE
from sonogym.ultrasound.frame import FEWEST_SCATTERERS, LOUDEST_CLUTTER, RenderParams, check_factors

_SHIFT = np.uint64(33)  # leaves seeds of 31 bits
_LIMITS = {
    "gain": (-40.0, 40.0, "dB"), "dynamic_range": (20.0, 120.0, "dB"), "tgc": (0.0, 3.0, "dB/cm/MHz"),
    "set_point": (0.0, 100.0, "N"), "force_latency": (0.0, 1.0, "s"), "stiffness": (0.05, 20.0, ""),
    "stiffness_model": (0.05, 20.0, ""),
    "friction": (0.0, 2.0, ""), "gel": (5e-4, 0.02, "m"), "command_latency": (0.0, 2.0, "s"),
    "breathing": (0.0, 2.0, "full quiet breaths"), "breathing_period": (1.0, 20.0, "s"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Randomization:
    """Ranges (low, high) of an episode's draws, uniform within them.

    ``yaw`` [rad] is the largest turn of the start either way; ``gain`` and ``dynamic_range`` [dB] and ``tgc``
    [dB/cm/MHz one way] are a sonographer's knobs. Off by default: ``scatter`` [dB] moves the echogenicity of each
    tissue either way; ``attenuation`` is the share of its published range within which each tissue's attenuation lies
    (0: the table's value, 1: the whole range); ``frequency_factors`` and ``focus_factors`` are the transmit frequencies
    and foci, in parts of the probe's own, of which one pair is drawn: the renderer's configuration must list the same.
    ``clutter`` [dB re liver] is the haze; ``scatterers`` a resolution cell, drawn by their logarithm (None: as the
    renderer has it). ``tissues`` is the table that published ranges are read from, the renderer's own.

    Where the face is in contact: ``set_point`` [N] of the force control, whose sensor is late by ``force_latency`` [s]
    and off by a bias and noise of standard deviations up to ``force_bias`` and ``force_noise`` [N], and which takes the
    tissue to be ``stiffness_model`` times as stiff as it is (drawn by its logarithm); ``stiffness``
    multiplies the tissue's (drawn by its logarithm), ``friction`` is a Coulomb coefficient, ``gel`` [m] the thickest
    layer that couples. ``command_latency`` [s] is how late a command is carried out. ``breathing`` is the amplitude in
    full quiet breaths, ``breathing_period`` [s]; (0, 0) is no breathing.
    """

    yaw: float = math.radians(60.0)
    gain: tuple[float, float] = (-4.0, 4.0)
    dynamic_range: tuple[float, float] = (50.0, 65.0)
    tgc: tuple[float, float] = (0.5, 0.7)
    scatter: float = 0.0
    attenuation: float = 0.0
    frequency_factors: tuple[float, ...] = (1.0,)
    focus_factors: tuple[float, ...] = (1.0,)
    clutter: tuple[float, float] | None = None
    scatterers: tuple[float, float] | None = None
    tissues: str = "default"
    set_point: tuple[float, float] = (5.0, 5.0)
    force_latency: tuple[float, float] = (0.02, 0.02)
    force_bias: float = 0.0
    force_noise: float = 0.0
    stiffness_model: tuple[float, float] = (1.0, 1.0)
    stiffness: tuple[float, float] = (1.0, 1.0)
    friction: tuple[float, float] = (FRICTION, FRICTION)
    gel: tuple[float, float] = (GAP_NONE, GAP_NONE)
    command_latency: tuple[float, float] = (0.0, 0.0)
    breathing: tuple[float, float] = (0.0, 0.0)
    breathing_period: tuple[float, float] = (4.0, 4.0)

    @classmethod
    def wide(cls) -> Randomization:
        """Everything that can be drawn, over the span of scanners and bodies (design)."""
        return cls(
            gain=(-8.0, 8.0),
            dynamic_range=(45.0, 75.0),
            tgc=(0.4, 0.85),
            scatter=3.0,
            attenuation=1.0,
            frequency_factors=(0.85, 1.0, 1.15),
            focus_factors=(0.7, 1.0, 1.4),
            clutter=(-40.0, -12.0),
            scatterers=(1.0, 16.0),
            set_point=(3.0, 8.0),
            force_latency=(0.01, 0.05),
            force_bias=0.3,
            force_noise=0.3,
            stiffness=(0.6, 1.6),
            friction=(0.05, 0.3),
            gel=(1.0e-3, 4.0e-3),
            command_latency=(0.0, 0.1),
            breathing=(0.0, 1.5),
            breathing_period=(3.0, 6.0),
        )

    def __post_init__(self) -> None:
        require_between("scatter", self.scatter, 0.0, 20.0, "dB")
        require_between("attenuation", self.attenuation, 0.0, 1.0, "", "a share of the published range")
        check_factors("frequency_factors", self.frequency_factors)
        check_factors("focus_factors", self.focus_factors)
        self._check_optional("clutter", -100.0, LOUDEST_CLUTTER, "dB re liver")
        self._check_optional("scatterers", FEWEST_SCATTERERS, 1e3, "a resolution cell")
        require_between("yaw", self.yaw, 0.0, math.pi, "rad", "degrees?")
        require_between("force_bias", self.force_bias, 0.0, 10.0, "N")
        require_between("force_noise", self.force_noise, 0.0, 10.0, "N")
        for name, (lowest, highest, unit) in _LIMITS.items():
            low, high = getattr(self, name)
            require_between(f"{name} (low)", low, lowest, highest, unit)
            require_between(f"{name} (high)", high, low, highest, unit)

    def draw(self, streams: Streams, region: StartRegion, contact: bool = False) -> SimParams:
        """One episode's parameters a stream: a patient, a start within ``region``, the settings of the scanner.

        With ``contact`` also what the face will feel and with which force it is pressed.
        """
        words = streams.bits("episode", 3)  # one draw for all: a reset happens at almost every step of a large batch
        patient = (words[:, 0] % np.uint64(region.points.shape[0])).astype(np.int64)
        along, across, yaw, gain, tgc, dynamic_range = streams.uniform("ranges", 0.0, 1.0, 6).unbind(1)
        anatomy_index = torch.from_numpy(patient)
        return SimParams(
            anatomy_index=anatomy_index,
            start=region.pose(anatomy_index, along, across, (2.0 * yaw - 1.0) * self.yaw),
            image=RenderParams(
                gain=_within(self.gain, gain),
                tgc=_within(self.tgc, tgc),
                dynamic_range=_within(self.dynamic_range, dynamic_range),
                speckle_seed=torch.from_numpy((words[:, 1] >> _SHIFT).astype(np.int64)),
                noise_seed=torch.from_numpy((words[:, 2] >> _SHIFT).astype(np.int64)),
                scatter_offset=self._scatter_offset(streams) if self.scatter else None,
                attenuation_factor=self._attenuation_factor(streams) if self.attenuation else None,
                clutter=streams.uniform("clutter", *self.clutter)[:, 0] if self.clutter else None,
                scatterers=self._scatterers(streams),
                variant=streams.integers("variant", self.variants) if self.variants > 1 else None,
            ),
            contact=self._contact(streams) if contact else None,
            control=self._control(streams) if contact else None,
            command_latency=self._between("command_latency", streams) if self.command_latency[1] else None,
            breathing=self._breathing(streams) if self.breathing[1] else None,
        )

    def _between(self, name: str, streams: Streams) -> Float[Tensor, " envs"]:
        return streams.uniform(name, *getattr(self, name))[:, 0]

    def _by_logarithm(self, name: str, streams: Streams) -> Float[Tensor, " envs"]:
        low, high = (math.log(end) for end in getattr(self, name))
        return streams.uniform(name, low, high)[:, 0].exp()

    def _contact(self, streams: Streams) -> ContactFactors:
        return ContactFactors(
            stiffness=self._by_logarithm("stiffness", streams),
            friction=self._between("friction", streams),
            gel=self._between("gel", streams),
        )

    def _control(self, streams: Streams) -> Control:
        return Control(
            set_point=self._between("set_point", streams),
            latency=self._between("force_latency", streams),
            noise=streams.uniform("force_noise", 0.0, self.force_noise)[:, 0],
            bias=self.force_bias * streams.normal("force_bias", 0.0, 1.0)[:, 0],
            model=None if self.stiffness_model == (1.0, 1.0) else self._by_logarithm("stiffness_model", streams),
        )

    def _breathing(self, streams: Streams) -> Breathing:
        return Breathing(
            amplitude=self._between("breathing", streams),
            period=self._between("breathing_period", streams),
            phase=streams.uniform("breathing_phase", 0.0, 1.0)[:, 0],
        )

    @property
    def variants(self) -> int:
        """How many beams there are to draw from."""
        return len(self.frequency_factors) * len(self.focus_factors)

    def _check_optional(self, name: str, lowest: float, highest: float, unit: str) -> None:
        ends = getattr(self, name)
        if ends is not None:
            require_between(f"{name} (low)", ends[0], lowest, highest, unit)
            require_between(f"{name} (high)", ends[1], ends[0], highest, unit)

    def _scatterers(self, streams: Streams) -> Float[Tensor, " envs"] | None:
        return None if self.scatterers is None else self._by_logarithm("scatterers", streams)

    def _scatter_offset(self, streams: Streams) -> Float[Tensor, "envs tissues"]:
        return streams.uniform("scatter", -self.scatter, self.scatter, TISSUE_COUNT)

    def _attenuation_factor(self, streams: Streams) -> Float[Tensor, "envs tissues"]:
        """alpha / alpha_table, alpha uniform in the published range shrunk towards the table's value."""
        table = load_acoustics_table(self.tissues)
        low, high = (
            torch.lerp(table.attenuation, end, self.attenuation)
            for end in (table.attenuation_low, table.attenuation_high)
        )
        return torch.lerp(low, high, streams.uniform("attenuation", 0.0, 1.0, TISSUE_COUNT)) / table.attenuation


def _within(ends: tuple[float, float], unit: Float[Tensor, " envs"]) -> Float[Tensor, " envs"]:
    return ends[0] + (ends[1] - ends[0]) * unit
