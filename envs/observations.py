"""Observation terms: a policy's view is a list of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from sonogym.errors import InvalidInputError, unknown_name
from sonogym.geometry import Pose, so3
from sonogym.robot.chain import Chain
from sonogym.sim.state import SimState
from sonogym.ultrasound.frame import Frame

FORCE_SCALE = 0.1  # 1/N: 10 N read 1
POSE_SCALE = 10.0  # 1/m: a translation of 100 mm reads 1
_POSE_LIMIT = 10.0


@dataclass(frozen=True, kw_only=True)
class View:
    """What terms may look at; ``privileged`` (envs, measures) is the simulator's alone, ``more`` the task's own."""

    sim: SimState
    patient_from_goal: Pose
    privileged: Float[Tensor, "envs measures"]
    frame: Frame | None
    more: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def patient_from_probe(self) -> Pose:
        """Where the probe is."""
        return self.sim.patient_from_probe


class Term(Protocol):
    """One entry of the observation."""

    def space(self) -> spaces.Box:
        """Its space, without the environment axis."""
        ...

    def read(self, view: View) -> Tensor:
        """Its value, (envs, ...)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Image:
    """The beam-space image, uint8 (envs, 1, samples, lines); ``stack`` of them in the space, oldest first."""

    samples: int
    lines: int
    stack: int = 1

    def space(self) -> spaces.Box:
        """uint8 (stack, samples, lines)."""
        return spaces.Box(0, 255, (self.stack, self.samples, self.lines), np.uint8)

    def read(self, view: View) -> UInt8[Tensor, "envs 1 samples lines"]:
        """The image of this instant."""
        if view.frame is None:
            raise InvalidInputError("the image term needs a rendered frame")
        return view.frame.beam


def _box(size: int, limit: float) -> spaces.Box:
    return spaces.Box(-limit, limit, (size,), np.float32)


class ProbePose:
    """Dead reckoning: the probe's pose in the frame of the episode's start, 6 numbers."""

    def space(self) -> spaces.Box:
        """Translation [m] times 10 and rotation vector [rad], clipped to +-10."""
        return _box(6, _POSE_LIMIT)

    def read(self, view: View) -> Float[Tensor, "envs 6"]:
        """The probe seen from the start."""
        return _six(view.sim.params.start.inverse() @ view.patient_from_probe)


class Goal:
    """The goal's pose in the probe frame, 6 numbers: only for goal-conditioned policies."""

    def space(self) -> spaces.Box:
        """Translation [m] times 10 and rotation vector [rad], clipped to +-10."""
        return _box(6, _POSE_LIMIT)

    def read(self, view: View) -> Float[Tensor, "envs 6"]:
        """The goal seen from the probe."""
        return _six(view.patient_from_probe.inverse() @ view.patient_from_goal)


class Privileged:
    """The privileged group of the task, for experts and asymmetric critics."""

    def __init__(self, size: int) -> None:
        self.size = size

    def space(self) -> spaces.Box:
        """Clipped to +-10 in SI units."""
        return _box(self.size, _POSE_LIMIT)

    def read(self, view: View) -> Float[Tensor, "envs measures"]:
        """The group as it is."""
        return view.privileged.clamp(-_POSE_LIMIT, _POSE_LIMIT)


class Force:
    """What the force sensor shows and what it should show, 2 numbers."""

    def space(self) -> spaces.Box:
        """Forces [N] over 10, clipped to +-10."""
        return _box(2, _POSE_LIMIT)

    def read(self, view: View) -> Float[Tensor, "envs 2"]:
        """The last reading along the probe's axis, and the set-point."""
        reading, control = view.sim.reading, view.sim.params.control
        if reading is None or control is None:
            raise InvalidInputError("the force term needs contact=True")
        return (FORCE_SCALE * torch.stack((reading, control.set_point), dim=-1)).clamp(-_POSE_LIMIT, _POSE_LIMIT)


class Joints:
    """The arm's joints, each over its range."""

    def __init__(self, chain: Chain | None) -> None:
        self.chain = chain

    def space(self) -> spaces.Box:
        """-1 at the lower limit, 1 at the upper one."""
        return _box(0 if self.chain is None else len(self.chain.joint_names), 1.0)

    def read(self, view: View) -> Float[Tensor, "envs joints"]:
        """The posture."""
        if view.sim.robot is None or self.chain is None:
            raise InvalidInputError("the joints term needs a robot")
        lower, upper = (end.clamp(-torch.pi, torch.pi) for end in (self.chain.lower, self.chain.upper))
        return (2.0 * (view.sim.robot.joint_position - lower) / (upper - lower) - 1.0).clamp(-1.0, 1.0)


class Swept:
    """Where on the skin the probe has scanned in contact: a map about the start, in the start's axes."""

    CELLS = 12  # a side
    SIDE = 0.24  # m

    def space(self) -> spaces.Box:
        """1 where it was, 0 elsewhere; rows run along the start's lateral axis."""
        return spaces.Box(0.0, 1.0, (self.CELLS**2,), np.float32)

    def read(self, view: View) -> Float[Tensor, "envs cells"]:
        """The map up to now."""
        return view.more["swept"]


def swept_cells(sim: SimState) -> Float[Tensor, "envs cells"]:
    """1 in the cell of :class:`Swept` over which each probe stands."""
    place = (sim.params.start.inverse() @ sim.patient_from_probe).translation[:, :2]
    row, column = (place / Swept.SIDE + 0.5).mul(Swept.CELLS).long().clamp(0, Swept.CELLS - 1).unbind(-1)
    return torch.nn.functional.one_hot(row * Swept.CELLS + column, Swept.CELLS**2).to(place.dtype)


def _six(pose: Pose) -> Float[Tensor, "envs 6"]:
    six = torch.cat((pose.translation * POSE_SCALE, so3.log(pose.quaternion)), dim=-1)
    return six.clamp(-_POSE_LIMIT, _POSE_LIMIT)


def choose(names: Sequence[str], known: Mapping[str, Term]) -> dict[str, Term]:
    """The terms called ``names``; refuses unknown, repeated or no names."""
    for name in names:
        if name not in known:
            raise unknown_name("observation term", name, known)
    if not names or len(set(names)) != len(names):
        raise InvalidInputError(f"observation must list terms once each, got {list(names)}; known: {', '.join(known)}")
    return {name: known[name] for name in names}


def observation_space(terms: Mapping[str, Term]) -> spaces.Dict:
    """The dictionary space of the terms."""
    return spaces.Dict({name: term.space() for name, term in terms.items()})


def remember(
    history: Tensor | None, image: UInt8[Tensor, "envs 1 h w"], stack: int, fresh: Int[Tensor, " rows"]
) -> UInt8[Tensor, "envs stack h w"]:
    """The last ``stack`` images of each environment; a ``fresh`` row starts with its image repeated."""
    if stack == 1:
        return image
    first = image.repeat(1, stack, 1, 1)
    if history is None:
        return first
    return torch.cat((history[:, 1:], image), dim=1).index_copy(0, fresh, first[fresh])
