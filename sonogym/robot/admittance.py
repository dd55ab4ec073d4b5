"""Admittance along the probe's axis: it yields to the measured force until that meets the set-point (contact.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonogym.errors import InvalidInputError, require_between
from sonogym.random import Streams

_ROUNDING = 1e-6  # s: of a float32 latency


class StopReason(IntEnum):
    """Why an environment's robot stands still; it stays so until it is started again."""

    NONE = 0
    SENSOR = 1  # the force reading is not finite
    FORCE = 2  # the force known to the controller exceeds its limit
    SPEED = 3  # the law asks for more speed than allowed
    WORKSPACE = 4  # the next step would leave the allowed travel


@dataclass(frozen=True)
class AdmittanceState:
    """What changes, batch first. ``travel`` [m] from the start and ``speed`` [m/s] are positive into the tissue.

    ``readings`` [N] are the sensor's last values, newest first; ``latency`` [s] how late the controller sees them;
    ``bias`` [N] the sensor's offset; ``stop`` a :class:`StopReason`.
    """

    set_point: Float[Tensor, " envs"]
    travel: Float[Tensor, " envs"]
    speed: Float[Tensor, " envs"]
    readings: Float[Tensor, "envs samples"]
    latency: Float[Tensor, " envs"]
    bias: Float[Tensor, " envs"]
    stop: Int[Tensor, " envs"]

    def where(self, mask: Bool[Tensor, " envs"], other: AdmittanceState) -> AdmittanceState:
        """This state where ``mask`` holds, ``other`` elsewhere: how some environments start again."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in vars(self))
        return AdmittanceState(*(torch.where(mask if a.ndim == 1 else mask[:, None], a, b) for a, b in pairs))


@dataclass(frozen=True, kw_only=True)
class Admittance:
    """M dv/dt + B v = F_d - F, once a ``period`` [s]; semi-implicit: v = (M v + dt (F_d - F)) / (M + B dt).

    ``damping`` B [N s/m] and ``mass`` M [kg] pass V22 on tissue of .3-3 N/mm at 10-100 Hz with 20-50 ms of latency
    (contact.md; B below 200 N s/m limit-cycles). ``latency`` [s] is the longest a reading may take; ``noise`` and
    ``bias`` [N] are standard deviations of the sensor, drawn at every step and at every start. The limits
    ``force_limit`` [N], ``speed_limit`` [m/s] and ``travel_limit`` [m, either way] stop an environment (design).
    """

    period: float = 0.02
    damping: float = 750.0
    mass: float = 20.0
    latency: float = 0.02
    noise: float = 0.0
    bias: float = 0.0
    force_limit: float = 30.0
    speed_limit: float = 0.05
    travel_limit: float = 0.06

    def __post_init__(self) -> None:
        require_between("period", self.period, 1e-4, 1.0, "s", "milliseconds?" if self.period > 1.0 else "")
        require_between("damping", self.damping, 1.0, 1e5, "N s/m")
        require_between("mass", self.mass, 0.0, 1e3, "kg")
        require_between("latency", self.latency, 0.0, 1.0, "s", "milliseconds?" if self.latency > 1.0 else "")
        require_between("noise", self.noise, 0.0, 10.0, "N")
        require_between("bias", self.bias, 0.0, 10.0, "N")
        require_between("force_limit", self.force_limit, 0.1, 200.0, "N")
        require_between("speed_limit", self.speed_limit, 1e-3, 2.0, "m/s")
        require_between("travel_limit", self.travel_limit, 1e-3, 1.0, "m")

    def start(
        self,
        set_point: Float[Tensor, " envs"],
        force: Float[Tensor, " envs"],
        streams: Streams | None = None,
        latency: Float[Tensor, " envs"] | None = None,
    ) -> AdmittanceState:
        """At rest, under the present true ``force`` [N]; ``latency`` [s] of each environment, the longest if not given.

        Raises :class:`InvalidInputError` for a set-point [N] not below the force limit, a latency longer than the
        longest, or a noisy sensor without streams.
        """
        if not bool(((set_point >= 0.0) & (set_point < self.force_limit)).all()):
            raise InvalidInputError(
                f"set-point must be in [0, {self.force_limit:g}) N, below the force limit, got {set_point.tolist()}"
            )
        latency = torch.full_like(set_point, self.latency) if latency is None else latency
        if not bool(((latency >= 0.0) & (latency <= self.latency + _ROUNDING)).all()):
            raise InvalidInputError(f"latency must be in [0, {self.latency:g}] s, the longest, got {latency.tolist()}")
        if streams is None and (self.noise or self.bias):
            raise InvalidInputError("a sensor with noise or bias draws from streams: pass streams to start and step")
        bias = torch.zeros_like(set_point)
        if streams is not None and self.bias:
            bias = streams.normal("force_bias", 0.0, self.bias)[:, 0].to(set_point)
        samples = math.ceil(self.latency / self.period) + 2
        readings = (force + bias)[:, None].expand(-1, samples).clone()
        rest = torch.zeros_like(set_point)
        return AdmittanceState(set_point, rest, rest, readings, latency, bias, torch.zeros_like(rest, dtype=torch.long))

    def step(
        self, state: AdmittanceState, force: Float[Tensor, " envs"], streams: Streams | None = None
    ) -> AdmittanceState:
        """The state one period later, with the true ``force`` [N] at its beginning; who is stopped stands still."""
        readings = torch.cat((self._read(state, force, streams)[:, None], state.readings[:, :-1]), dim=1)
        known = self._late(readings, state.latency)
        # M dv/dt + B v = F_d - F
        push = self.period * (state.set_point - known)
        speed = (self.mass * state.speed + push) / (self.mass + self.damping * self.period)
        travel = state.travel + self.period * speed
        stop = torch.where(state.stop == StopReason.NONE, self._reason(readings, known, speed, travel), state.stop)
        moves = stop == StopReason.NONE
        return AdmittanceState(
            state.set_point,
            torch.where(moves, travel, state.travel),
            torch.where(moves, speed, torch.zeros_like(speed)),
            readings,
            state.latency,
            state.bias,
            stop,
        )

    def _read(self, state: AdmittanceState, force: Tensor, streams: Streams | None) -> Tensor:
        reading = force + state.bias
        if not self.noise:
            return reading
        if streams is None:
            raise InvalidInputError("a noisy sensor draws from streams: pass streams to step")
        return reading + streams.normal("force_noise", 0.0, self.noise)[:, 0].to(force)

    def _late(self, readings: Tensor, latency: Tensor) -> Tensor:
        """The reading ``latency`` ago, linear between two samples."""
        steps = latency / self.period
        before = steps.floor().long().clamp(0, readings.shape[1] - 2)
        share = steps - before
        newer, older = readings.gather(1, before[:, None])[:, 0], readings.gather(1, before[:, None] + 1)[:, 0]
        return torch.where(share > 0, newer + share * (older - newer), newer)

    def _reason(self, readings: Tensor, known: Tensor, speed: Tensor, travel: Tensor) -> Tensor:
        """The first limit that is broken, in the order of :class:`StopReason`."""
        broken = (
            (StopReason.WORKSPACE, travel.abs() > self.travel_limit),
            (StopReason.SPEED, speed.abs() > self.speed_limit),
            (StopReason.FORCE, known > self.force_limit),
            (StopReason.SENSOR, ~readings[:, 0].isfinite()),
        )
        reason = torch.zeros_like(speed, dtype=torch.long)
        for code, violated in broken:
            reason = torch.where(violated, torch.full_like(reason, int(code)), reason)
        return reason
