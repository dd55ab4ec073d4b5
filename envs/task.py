"""What a task is: how episodes are drawn, seen, rewarded and ended. Everything is batched and free of side effects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

from gymnasium import spaces
from jaxtyping import Bool, Float
from torch import Tensor

from sonogym.random import Streams
from sonogym.sim.simulator import Simulator
from sonogym.sim.state import SimParams, SimState
from sonogym.ultrasound.frame import Frame

State = TypeVar("State")


class Task(Protocol[State]):
    """A task over states of its own, a frozen dataclass of tensors with the simulator's state in its field ``sim``.

    ``horizon`` is the number of steps until truncation, ``image_stack`` how many images a policy sees at once,
    ``needs_frame`` whether an observation needs a rendered image at all.
    """

    simulator: Simulator
    horizon: int
    control_rate: float
    image_stack: int
    needs_frame: bool
    observation_space: spaces.Dict
    action_space: spaces.Box

    def sample(self, streams: Streams) -> SimParams:
        """What is drawn for an episode, a row a stream."""
        ...

    def begin(self, sim: SimState) -> State:
        """The task's state at the start of an episode."""
        ...

    def command(self, action: Float[Tensor, "envs actions"]) -> Float[Tensor, "envs command"]:
        """The simulator's command for actions in [-1, 1]."""
        ...

    def advance(self, before: State, sim: SimState) -> State:
        """The task's state after the simulator moved on to ``sim``."""
        ...

    def observe(self, state: State, frame: Frame | None) -> dict[str, Tensor]:
        """The observation terms of one instant (images unstacked)."""
        ...

    def reward(self, before: State, after: State) -> dict[str, Float[Tensor, " envs"]]:
        """Named bounded terms; the reward is their sum."""
        ...

    def cost(self, before: State, after: State) -> dict[str, Float[Tensor, " envs"]]:
        """Named non-negative causes of cost; the cost is their sum."""
        ...

    def terminated(self, state: State) -> Bool[Tensor, " envs"]:
        """Whether the task has ended (not for lack of time)."""
        ...

    def measure(self, state: State) -> Mapping[str, Tensor]:
        """What is reported of a state: errors, success, and the privileged group for experts."""
        ...
