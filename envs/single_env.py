"""One environment behind ``gymnasium.Env``: a vector environment of one, without its batch axis."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from .task import Task
from .vector_env import SonogymVectorEnv


class SonogymEnv(gymnasium.Env[dict[str, Any], Any]):
    """One environment of ``task``; ``render_mode`` None or "rgb_array" (the beam-space image)."""

    def __init__(self, task: Task[Any], *, render_mode: str | None = None) -> None:
        self.task = task
        self._vector = SonogymVectorEnv(task, 1, autoreset_mode=AutoresetMode.DISABLED, render_mode=render_mode)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": self._vector.metadata["render_fps"]}
        self.render_mode = render_mode
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A new episode; a ``seed`` starts the stream of episodes over."""
        super().reset(seed=seed)
        observation, info = self._vector.reset(seed=seed)
        return _first(observation), _first(info)

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """One control step with ``action`` (actions,) in [-1, 1]."""
        batch = np.asarray(action, dtype=np.float32)[None]
        observation, reward, terminated, truncated, info = self._vector.step(batch)
        return _first(observation), float(reward[0]), bool(terminated[0]), bool(truncated[0]), _first(info)

    def render(self) -> Any:
        """The image of this instant, uint8 (samples, lines, 3), or None without a render mode."""
        frames = self._vector.render()
        return None if frames is None else frames[0]


def _first(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value[0] for name, value in values.items()}
