"""Admittance along the probe's axis: it yields to the measured force until that meets the set-point (contact.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonogym.errors import InvalidInputError, require_between

_ROUNDING = 1e-6  # s: of a float32 latency
TOUCHING = 0.2  # N: below this reading the probe may hang in the air, where errors do not add up
NEAR = 1.0  # N: nor do those of a probe on its way to the set-point, which would overshoot, but to undo a sum (design)


class StopReason(IntEnum):
    """Why an environment's robot stands still; it stays so until it is started again."""

    NONE = 0
    SENSOR = 1  # the force reading is not finite
    FORCE = 2  # the force known to the controller exceeds its limit
    SPEED = 3  # the law asks for more speed than allowed, or the probe moves faster
    WORKSPACE = 4  # the next step would leave the allowed travel, or the probe has left the patient
    PRESSURE = 5  # some part of the face presses harder than the skin may bear
    CONTACT = 6  # the probe was moved on for too long without touching the patient
    REACH = 7  # the arm cannot bring the probe where it should be


@dataclass(frozen=True)
class AdmittanceState:
    """What changes, batch first. ``travel`` [m] from the start and ``speed`` [m/s] are positive into the tissue.

    ``readings`` [N] are the sensor's last values, newest first; ``latency`` [s] how late the controller sees them;
    ``surplus`` [N s] the error summed up; ``stop`` a :class:`StopReason`.
    """

    set_point: Float[Tensor, " envs"]
    travel: Float[Tensor, " envs"]
    speed: Float[Tensor, " envs"]
    readings: Float[Tensor, "envs samples"]
    latency: Float[Tensor, " envs"]
    surplus: Float[Tensor, " envs"]
    stop: Int[Tensor, " envs"]

    def where(self, mask: Bool[Tensor, " envs"], other: AdmittanceState) -> AdmittanceState:
        """This state where ``mask`` holds, ``other`` elsewhere: how some environments start again."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in vars(self))
        return AdmittanceState(*(torch.where(mask if a.ndim == 1 else mask[:, None], a, b) for a, b in pairs))

    @property
    def reading(self) -> Float[Tensor, " envs"]:
        """The sensor's newest value [N]."""
        return self.readings[:, 0]


@dataclass(frozen=True, kw_only=True)
class Admittance:
    """M dv/dt + B v = F_d - F, once a ``period`` [s]; semi-implicit: v = (M v + dt (F_d - F)) / (M + B dt).

    ``damping`` B [N s/m] and ``mass`` M [kg] pass V22 on tissue of .3-3 N/mm at 10-100 Hz with 20-50 ms of latency
    (contact.md; B below 200 N s/m limit-cycles). Where the tissue's stiffness k is known, ``bandwidth`` w [rad/s] makes
    the loop as quick on soft tissue as on stiff: B = k / w + D, M in proportion, D the tissue's own resistance, whose
    late feedback would shake a probe of less damping; ``reset_time`` T [s] adds the summed
    error, F_d - F + 1/T int (F_d - F) dt, so that tissue that rises steadily leaves no error; ``approach`` [m/s] bounds
    the speed (None each: absent; design). ``latency`` [s] is the longest a reading may take. The limits ``force_limit``
    [N], ``speed_limit`` [m/s] and ``travel_limit`` [m, either way] stop an environment (design).
    """

    period: float = 0.02
    damping: float = 750.0
    mass: float = 20.0
    bandwidth: float | None = None
    reset_time: float | None = None
    approach: float | None = None
    latency: float = 0.02
    force_limit: float = 30.0
    speed_limit: float = 0.05
    travel_limit: float = 0.06

    def __post_init__(self) -> None:
        require_between("period", self.period, 1e-4, 1.0, "s", "milliseconds?" if self.period > 1.0 else "")
        require_between("damping", self.damping, 1.0, 1e5, "N s/m")
        require_between("mass", self.mass, 0.0, 1e3, "kg")
        for name, low, high, unit in (
            ("bandwidth", 0.1, 100.0, "rad/s"), ("reset_time", 0.02, 100.0, "s"), ("approach", 1e-3, 0.5, "m/s"),
        ):  # fmt: skip
            if getattr(self, name) is not None:
                require_between(name, getattr(self, name), low, high, unit)
        require_between("latency", self.latency, 0.0, 1.0, "s", "milliseconds?" if self.latency > 1.0 else "")
        require_between("force_limit", self.force_limit, 0.1, 200.0, "N")
        require_between("speed_limit", self.speed_limit, 1e-3, 2.0, "m/s")
        require_between("travel_limit", self.travel_limit, 1e-3, 1.0, "m")

    def start(
        self,
        set_point: Float[Tensor, " envs"],
        reading: Float[Tensor, " envs"],
        latency: Float[Tensor, " envs"] | None = None,
    ) -> AdmittanceState:
        """At rest, the sensor showing ``reading`` [N]; ``latency`` [s] of each environment, the longest if not given.

        Raises :class:`InvalidInputError` for a set-point [N] not below the force limit, or a latency longer than the
        longest.
        """
        if not bool(((set_point >= 0.0) & (set_point < self.force_limit)).all()):
            raise InvalidInputError(
                f"set-point must be in [0, {self.force_limit:g}) N, below the force limit, got {set_point.tolist()}"
            )
        latency = torch.full_like(set_point, self.latency) if latency is None else latency
        if not bool(((latency >= 0.0) & (latency <= self.latency + _ROUNDING)).all()):
            raise InvalidInputError(
                f"latency must be in [0, {self.latency:g}] s, the longest, got {float(latency.max()):g}"
            )
        samples = math.ceil(self.latency / self.period) + 2
        readings = reading[:, None].expand(-1, samples).clone()
        rest = torch.zeros_like(set_point)
        still = torch.zeros_like(rest, dtype=torch.long)
        return AdmittanceState(set_point, rest, rest, readings, latency, rest, still)

    def step(
        self,
        state: AdmittanceState,
        reading: Float[Tensor, " envs"],
        stiffness: Float[Tensor, " envs"] | None = None,
        resistance: float | Float[Tensor, " envs"] = 0.0,
        feed: float | Float[Tensor, " envs"] = 0.0,
    ) -> AdmittanceState:
        """The state one period later, with what the sensor reads [N] at its beginning; who is stopped stands still.

        ``stiffness`` [N/m] and ``resistance`` [N s/m] are what the controller takes the tissue for; without a stiffness
        the damping is fixed. ``feed`` [m/s] is a motion that the probe makes anyway.
        """
        readings = torch.cat((reading[:, None], state.readings[:, :-1]), dim=1)
        known = self._late(readings, state.latency)
        error = state.set_point - known
        drive = error if self.reset_time is None else error + state.surplus / self.reset_time
        # M dv/dt + B v = F_d - F
        damping, mass = self._inertia(stiffness, resistance)
        speed = (mass * state.speed + self.period * drive) / (mass + damping * self.period)
        surplus = state.surplus
        if self.approach is not None:
            speed = speed.clamp(-self.approach, self.approach)
        if self.reset_time is not None:
            adds = (known > TOUCHING) & ((error.abs() < NEAR) | (error * state.surplus < 0.0))
            surplus = torch.where(adds, surplus + self.period * error, surplus)
        travel = state.travel + self.period * (speed + feed)
        stop = torch.where(state.stop == StopReason.NONE, self._reason(readings, known, speed, travel), state.stop)
        moves = stop == StopReason.NONE
        return AdmittanceState(
            state.set_point,
            torch.where(moves, travel, state.travel),
            torch.where(moves, speed, torch.zeros_like(speed)),
            readings,
            state.latency,
            surplus,
            stop,
        )

    def _inertia(self, stiffness: Tensor | None, resistance: float | Tensor) -> tuple[Tensor | float, Tensor | float]:
        if stiffness is None or self.bandwidth is None:
            return self.damping, self.mass
        damping = stiffness / self.bandwidth + resistance
        return damping, damping * (self.mass / self.damping)

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
