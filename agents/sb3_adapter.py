"""Any Gymnasium vector environment as a stable-baselines3 ``VecEnv``: episode ends kept apart from restarts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv

from sonogym.errors import InvalidInputError

from .environment import autoreset_mode, outcome

FINAL_TERMS = ("success", "position_error", "angle_error", "level_hit")


class GymnasiumVecEnv(VecEnv):
    """SB3 reads ``terminal_observation``, ``TimeLimit.truncated`` and ``episode`` (return, length) from its infos.

    ``privileged`` = n adds the n numbers of ``info["privileged"]`` to a Dict observation, for an asymmetric critic.
    Environments must restart in the same step or not at all (then they are restarted here by ``reset_mask``).
    """

    def __init__(self, env: VectorEnv, privileged: int = 0) -> None:
        self.env = env
        self.mode = autoreset_mode(env)
        if self.mode is AutoresetMode.NEXT_STEP:
            raise InvalidInputError("AutoresetMode.NEXT_STEP cannot be adapted: use SAME_STEP or DISABLED")
        self.privileged = privileged
        space = env.single_observation_space
        if privileged:
            if not isinstance(space, gymnasium.spaces.Dict):
                raise InvalidInputError(f"a privileged critic needs a Dict observation space, got {space}")
            box = gymnasium.spaces.Box(-np.inf, np.inf, (privileged,), np.float32)
            space = gymnasium.spaces.Dict({**space.spaces, "privileged": box})
        super().__init__(env.num_envs, space, env.single_action_space)
        self.returns = np.zeros(self.num_envs)
        self.lengths = np.zeros(self.num_envs, dtype=np.int64)
        self.actions: np.ndarray = np.zeros(0)

    def reset(self) -> Any:
        """Observations of new episodes, seeded by the last :meth:`seed`."""
        observation, info = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        self.returns[:] = 0.0
        self.lengths[:] = 0
        return self._with_privileged(_copied(observation), info)

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for :meth:`step_wait`."""
        self.actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Observations (of the new episode where one ended), rewards, dones and one info a sub-environment."""
        observation, reward, terminated, truncated, info = self.env.step(self.actions)
        reward, terminated, truncated = np.array(reward, np.float32), np.asarray(terminated), np.asarray(truncated)
        done = terminated | truncated
        self.returns += reward
        self.lengths += 1
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": False} for _ in range(self.num_envs)]
        final, final_info = observation, info
        if done.any() and self.mode is AutoresetMode.SAME_STEP:
            final, final_info = info["final_obs"], info.get("final_info", {})
        for index in map(int, np.flatnonzero(done)):
            infos[index] = {
                "TimeLimit.truncated": bool(truncated[index] and not terminated[index]),
                "terminal_observation": self._terminal(final, final_info, index),
                **self._episode(info, done, index),
            }
        if done.any() and self.mode is AutoresetMode.DISABLED:
            observation, info = self._restart(info, done)
        self.returns[done] = 0.0
        self.lengths[done] = 0
        return self._with_privileged(_copied(observation), info), reward, done, infos

    def _episode(self, info: Mapping[str, Any], done: np.ndarray, index: int) -> dict[str, Any]:
        record: dict[str, Any] = {"r": float(self.returns[index]), "l": int(self.lengths[index])}
        for name in FINAL_TERMS:
            value = outcome(info, name, done)
            if value is not None:
                record[name] = float(value[index])
        extra = {"is_success": bool(record["success"])} if "success" in record else {}
        return {"episode": record, **extra}

    def _terminal(self, final: Any, final_info: Mapping[str, Any], index: int) -> Any:
        last = _at(final, index)
        if self.privileged:
            last["privileged"] = np.array(final_info["privileged"][index][: self.privileged], np.float32)
        return last

    def _restart(self, info: Mapping[str, Any], done: np.ndarray) -> tuple[Any, dict[str, Any]]:
        observation, new = self.env.reset(options={"reset_mask": done})
        merged = dict(info)
        if self.privileged:
            merged["privileged"] = np.where(done[:, None], new["privileged"], info["privileged"])
        return observation, merged

    def _with_privileged(self, observation: Any, info: Mapping[str, Any]) -> Any:
        if self.privileged:
            observation["privileged"] = np.array(info["privileged"], np.float32)[:, : self.privileged]
        return observation

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute of the vector environment, once for each index."""
        value = getattr(self.env, attr_name, None) if attr_name == "render_mode" else getattr(self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused: sub-environments of a vector environment share their attributes."""
        raise InvalidInputError(f"cannot set {attr_name!r} on one sub-environment: make the environment with it")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of the vector environment once; its result stands for each index."""
        result = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """Vector environments hold no single-environment wrappers; episode statistics are kept here."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Frames of the environment's own ``render``."""
        frames: Any = self.env.render()
        return [None] * self.num_envs if frames is None else list(frames)


def _copied(observation: Any) -> Any:
    """SB3 stores an observation only after the next step, so the environment's buffer must not be handed out."""
    if isinstance(observation, Mapping):
        return {key: np.array(value) for key, value in observation.items()}
    return np.array(observation)


def _at(batch: Any, index: int) -> Any:
    """One environment's entry, from either layout Gymnasium allows (batched, or an object array of single ones)."""
    if isinstance(batch, Mapping):
        return {key: np.array(value[index]) for key, value in batch.items()}
    return dict(batch[index]) if isinstance(batch[index], Mapping) else np.array(batch[index])
