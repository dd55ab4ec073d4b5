"""A task met through Gymnasium: made by name, read by spaces, its final states told apart from the reset ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from sonogym.errors import InvalidInputError
from sonogym.registry import task_id

Arrays = dict[str, np.ndarray]
EVERY_PATIENT = 100_000


def make_environment(task: str, num_envs: int, options: Mapping[str, Any]) -> VectorEnv:
    """The vector environment of ``task``; raises :class:`UnknownNameError` or the task's own errors.

    A keyword the task does not know becomes :class:`InvalidInputError`.
    """
    if num_envs < 1:
        raise InvalidInputError(f"num_envs must be at least 1, got {num_envs}")
    identifier = task_id(task)
    try:
        return gymnasium.make_vec(identifier, num_envs=num_envs, vectorization_mode="vector_entry_point", **options)
    except TypeError as error:
        raise InvalidInputError(f"task {task!r} cannot be made with options {dict(options)}: {error}") from error


def patient_options(patients: str, count: int) -> dict[str, Any]:
    """Keywords that pick patients: all of those named one by one, the first ``count`` of a whole split."""
    whole_split = patients.startswith("procedural:") and "/" not in patients
    return {"patients": patients, "patient_count": count if whole_split else EVERY_PATIENT}


def autoreset_mode(env: VectorEnv) -> AutoresetMode:
    """How ``env`` restarts its episodes; an undeclared mode is refused."""
    mode = env.metadata.get("autoreset_mode")
    if mode is None:
        raise InvalidInputError(f"{type(env).__name__} must declare metadata['autoreset_mode'], got none")
    return AutoresetMode(mode)


def require_same_step(env: VectorEnv) -> None:
    """Raise unless ``env`` restarts in the same step, which is what the learners here read."""
    mode = autoreset_mode(env)
    if mode is not AutoresetMode.SAME_STEP:
        raise InvalidInputError(f"{type(env).__name__} must use AutoresetMode.SAME_STEP, got {mode}")


def observation_arrays(observation: Mapping[str, Any]) -> Arrays:
    """A copy of a Dict observation as numpy arrays: environments may reuse their buffers."""
    return {name: np.array(value) for name, value in observation.items()}


def outcome(info: Mapping[str, Any], name: str, done: np.ndarray) -> np.ndarray | None:
    """(envs, ...) ``info[name]`` of the state the action led to: from ``final_info`` where an episode ended.

    None where the task does not report ``name``.
    """
    final = info.get("final_info", {}) if done.any() else {}
    if name not in info and name not in final:
        return None
    value = np.array(info[name]) if name in info else np.zeros_like(np.asarray(final[name]))
    if name in final:
        value[done] = np.asarray(final[name])[done]
    return value
