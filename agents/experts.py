"""Scripted policies: the privileged expert that sees the goal, and the random one that sees nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from sonogym.errors import InvalidInputError, require_between

PRIVILEGED = "privileged"
# the stated defaults of tasks.md, "Common ground", for tasks that name no others: m/s and rad/s of an action, Hz
DEFAULT_SPEEDS = (0.030, 0.030, np.pi / 6)
CONTROL_RATE = 10.0


@dataclass(frozen=True, kw_only=True)
class ExpertConfig:
    """Proportional controller: the share of the remaining way asked for in one step."""

    gain: float = 0.25

    def __post_init__(self) -> None:
        require_between("gain", self.gain, 0.01, 1.0, hint="above 1 the controller overshoots")


class ExpertPolicy:
    """Goes what is left of the way along each action's axis (first in ``info["privileged"]``), with bounded actions."""

    def __init__(self, env: VectorEnv, config: ExpertConfig | None = None) -> None:
        config = config or ExpertConfig()
        task = getattr(env.unwrapped, "task", None)
        speed = np.array([float(each) for each in getattr(task, "action_speeds", DEFAULT_SPEEDS)], dtype=np.float32)
        self.per_metre_or_radian = config.gain * getattr(task, "control_rate", CONTROL_RATE) / speed

    def reset(self, mask: np.ndarray) -> None:
        """Nothing to forget."""

    def act(self, observation: Mapping[str, Any], info: Mapping[str, Any]) -> np.ndarray:
        """(envs, actions) actions in [-1, 1] towards the goal."""
        if PRIVILEGED not in info:
            raise InvalidInputError(f"the expert needs info[{PRIVILEGED!r}], got {sorted(info)}")
        goal = np.asarray(info[PRIVILEGED], dtype=np.float32)[:, : len(self.per_metre_or_radian)]
        return np.clip(goal * self.per_metre_or_radian, -1.0, 1.0)


class RandomPolicy:
    """Uniform actions in the task's action space, from a stream of their own."""

    def __init__(self, env: VectorEnv, seed: int) -> None:
        self.generator = np.random.default_rng([seed, 0x52])
        self.space = env.single_action_space

    def reset(self, mask: np.ndarray) -> None:
        """Nothing to forget."""

    def act(self, observation: Mapping[str, Any], info: Mapping[str, Any]) -> np.ndarray:
        """(envs, actions) uniform actions."""
        envs = len(next(iter(observation.values())))
        size = (envs, *self.space.shape)  # type: ignore[misc]
        return self.generator.uniform(-1.0, 1.0, size).astype(np.float32)
