"""Wrappers around sonogym's environments."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.vector import VectorEnv, VectorWrapper

from sonogym.errors import InvalidInputError

Sextuple = tuple[Any, Any, Any, Any, Any, dict[str, Any]]


class CostEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """One environment whose step gives (observation, reward, cost, terminated, truncated, info).

    The order of Safety-Gymnasium (Ji 2023). ``cost`` is ``info["cost"]``, whose causes stay in ``info["cost/..."]``.
    """

    def step(self, action: Any) -> Sextuple:  # type: ignore[override]
        """One step; raises :class:`InvalidInputError` for an environment that reports no cost."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, float(_cost(info, self.env)), terminated, truncated, info


class CostVectorEnv(VectorWrapper):
    """A vector environment whose step gives (observation, reward, cost, terminated, truncated, info).

    ``cost`` (envs,) is that of the step taken, also where an episode ended with it and the next began.
    """

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)

    def step(self, actions: Any) -> Sextuple:  # type: ignore[override]
        """One step of all; raises :class:`InvalidInputError` for an environment that reports no cost."""
        observation, reward, terminated, truncated, info = self.env.step(actions)
        return observation, reward, _cost(info, self.env), terminated, truncated, info


def _cost(info: dict[str, Any], env: Any) -> Any:
    if "cost" not in info:
        raise InvalidInputError(f"{type(env).__name__} reports no info['cost'] to hand out beside the reward")
    return info["cost"]
