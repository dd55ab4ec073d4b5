"""Everything that changes in a simulation, batch first, and how rows of it are taken and put back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonogym.geometry import Pose
from sonogym.ultrasound.frame import RenderParams

State = TypeVar("State")


@dataclass(frozen=True, kw_only=True)
class SimParams:
    """What was drawn for an episode; effects are deterministic given it.

    ``start`` is patient_from_probe at reset; ``image`` holds scanner, scatterers and tissue of the whole episode, its
    noise seed that of the first frame (:meth:`Simulator.render` derives those of the others).
    """

    anatomy_index: Int[Tensor, " envs"]
    start: Pose
    image: RenderParams


@dataclass(frozen=True, kw_only=True)
class SimState:
    """State of every environment.

    ``step_count`` counts the steps of the episode; ``path`` [m] is the length the probe has travelled;
    ``held_back`` whether the last command ran into the border of the workspace.
    """

    params: SimParams
    patient_from_probe: Pose
    step_count: Int[Tensor, " envs"]
    path: Float[Tensor, " envs"]
    held_back: Bool[Tensor, " envs"]

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
