"""Everything that changes in a simulation, batch first, and how rows of it are taken and put back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonogym.anatomy.breathing import Breathing
from sonogym.geometry import Pose
from sonogym.robot.admittance import AdmittanceState
from sonogym.robot.contact import ContactFactors, ContactReading
from sonogym.robot.robot import RobotState
from sonogym.sim.force_control import Control
from sonogym.ultrasound.frame import RenderParams

State = TypeVar("State")
SAFETY_TERMS = ("force_warn", "force", "pressure", "speed", "workspace", "joint", "contact")
LASTING = 3  # what may last: being held back at the border, an arm that does not follow, loss of contact


@dataclass(frozen=True, kw_only=True)
class SimParams:
    """What was drawn for an episode; effects are deterministic given it.

    ``start`` is patient_from_probe at reset; ``image`` holds scanner, scatterers and tissue of the whole episode, its
    noise seed that of the first frame (:meth:`Simulator.render` derives those of the others). What is None is absent
    and costs nothing: ``contact`` the factors of tissue and gel, ``control`` what force control is asked for,
    ``command_latency`` [s] how late a command is carried out, ``breathing`` how the patient breathes.
    """

    anatomy_index: Int[Tensor, " envs"]
    start: Pose
    image: RenderParams
    contact: ContactFactors | None = None
    control: Control | None = None
    command_latency: Float[Tensor, " envs"] | None = None
    breathing: Breathing | None = None


@dataclass(frozen=True, kw_only=True)
class SafetyState:
    """Limits, batch first.

    ``exceeded`` are those of :data:`SAFETY_TERMS` that are broken now, ``over`` [s] for how long each was in this
    episode; ``lasting`` [s] how long border, reach and loss of contact have lasted without a break; ``region`` indexes
    REGIONS; ``stop`` holds a :class:`~sonogym.robot.admittance.StopReason`.
    """

    exceeded: Bool[Tensor, "envs terms"]
    over: Float[Tensor, "envs terms"]
    lasting: Float[Tensor, "envs lasting"]
    region: Int[Tensor, " envs"]
    stop: Int[Tensor, " envs"]

    @staticmethod
    def fresh(envs: int) -> SafetyState:
        """Nothing exceeded yet."""
        none = torch.zeros(envs, dtype=torch.int64)
        over = torch.zeros(envs, len(SAFETY_TERMS))
        return SafetyState(exceeded=over > 0, over=over, lasting=torch.zeros(envs, LASTING), region=none, stop=none)


@dataclass(frozen=True, kw_only=True)
class SimState:
    """State of every environment.

    ``step_count`` counts the steps of the episode; ``path`` [m] is the length the probe has travelled;
    ``held_back`` whether the last command ran into the border of the workspace. Of the rest only what the simulation
    has is there: ``wanted`` the pose asked of the robot, ``touch`` what the face feels, ``sink`` [m/s] how fast it goes
    into the tissue, ``reading`` [N] what the force sensor shows, ``press`` the force control (its travel is counted
    from the press of the motion), ``robot`` the arm, ``queue`` the last commands, newest first, ``safety`` the limits.
    """

    params: SimParams
    patient_from_probe: Pose
    step_count: Int[Tensor, " envs"]
    path: Float[Tensor, " envs"]
    held_back: Bool[Tensor, " envs"]
    wanted: Pose | None = None
    touch: ContactReading | None = None
    sink: Float[Tensor, " envs"] | None = None
    reading: Float[Tensor, " envs"] | None = None
    press: AdmittanceState | None = None
    robot: RobotState | None = None
    queue: Float[Tensor, "envs commands axes"] | None = None
    safety: SafetyState | None = None

    @property
    def anatomy_index(self) -> Int[Tensor, " envs"]:
        """The patient of each environment."""
        return self.params.anatomy_index


def take(state: State, rows: Int[Tensor, " picked"]) -> State:
    """The ``rows`` of a dataclass of tensors, poses and such dataclasses; what is None stays None."""
    return _map(lambda value: value[rows], state)


def put(state: State, rows: Int[Tensor, " picked"], part: State) -> State:
    """``state`` with its ``rows`` replaced by those of ``part``; nothing is changed in place."""
    return _map(lambda value, new: value.index_copy(0, rows, new), state, part)


def _map(function: Any, first: Any, *others: Any) -> Any:
    if first is None:
        return None
    if isinstance(first, torch.Tensor):
        return function(first, *others)
    names = [field.name for field in dataclasses.fields(first)]
    parts = {name: _map(function, getattr(first, name), *(getattr(o, name) for o in others)) for name in names}
    return type(first)(**parts)
