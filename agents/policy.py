"""Policies: what acts on observations, found by name, file or code, and refused where it does not fit the task."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium.vector import VectorEnv

from sonogym.errors import InvalidInputError, MissingFileError
from sonogym.registry import load
from sonogym.resources import asset_names, asset_path

from .experts import ExpertPolicy, RandomPolicy
from .learned import LearnedPolicy, read_policy

NAMES = ("default", "expert", "random", "blind")


@runtime_checkable
class Policy(Protocol):
    """What every policy offers; one object drives all environments of a vector environment."""

    def reset(self, mask: np.ndarray) -> None:
        """Forget the episodes of the environments where ``mask`` (envs,) is true."""

    def act(self, observation: Mapping[str, Any], info: Mapping[str, Any]) -> np.ndarray:
        """(envs, actions) float32 actions in the task's action space."""


class FunctionPolicy:
    """A plain function ``(observation, info) -> actions`` as a policy without memory."""

    def __init__(self, function: Callable[[Mapping[str, Any], Mapping[str, Any]], Any]) -> None:
        self.function = function

    def reset(self, mask: np.ndarray) -> None:
        """Nothing to forget."""

    def act(self, observation: Mapping[str, Any], info: Mapping[str, Any]) -> np.ndarray:
        """What the function returns, as float32."""
        return np.asarray(self.function(observation, info), dtype=np.float32)


def load_policy(name: str, task: str, env: VectorEnv, seed: int) -> Policy:
    """The policy called ``name`` for ``task``, checked against the spaces of ``env``.

    ``default`` and ``blind`` are the shipped weights, ``expert`` and ``random`` are code, a path is a policy file or
    a run folder (nothing in it is unpickled), and ``module:callable`` is called with ``env``.
    Raises :class:`MissingFileError`, :class:`UnknownNameError` or :class:`InvalidInputError`.
    """
    if name == "expert":
        return ExpertPolicy(env)
    if name == "random":
        return RandomPolicy(env, seed)
    if name in ("default", "blind"):
        return LearnedPolicy(*read_policy(shipped_weights(task, blind=name == "blind"), task, env))
    path = Path(name)
    if path.exists() or path.suffix == ".safetensors":
        return LearnedPolicy(*read_policy(weights_file(name), task, env))
    if ":" in name:
        return _from_code(name, env)
    raise MissingFileError(f"no policy {name!r}: neither one of {', '.join(NAMES)}, nor a file, nor module:callable")


def shipped_weights(task: str, blind: bool) -> Path:
    """Weights that come with the package; a task without them is refused with the command that makes them."""
    name = f"{task}_blind" if blind else task
    if name not in asset_names("weights", ".safetensors"):
        flag = " --blind" if blind else ""
        raise MissingFileError(
            f"no weights {name!r} are shipped; train them with 'sonogym train {task}{flag}' and pass the run folder"
        )
    return asset_path("weights", name, ".safetensors", "weights")


def weights_file(name: str) -> Path:
    """The .safetensors file behind a path to it or to a run folder; anything else is refused."""
    path = Path(name)
    file = path / "policy.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise MissingFileError(f"no policy file {file}")
    if file.suffix != ".safetensors":
        raise InvalidInputError(f"policy {file} must be a .safetensors file with its .toml beside it (no pickles)")
    return file


def _from_code(name: str, env: VectorEnv) -> Policy:
    sys.path.insert(0, str(Path.cwd()))
    try:
        target = load(name)
    except (ImportError, AttributeError) as error:
        raise InvalidInputError(f"policy {name!r} cannot be imported: {error}; expected module:callable") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    made = target(env)
    if isinstance(made, Policy):
        return made
    if callable(made):
        return FunctionPolicy(made)
    raise InvalidInputError(
        f"policy {name!r} returned a {type(made).__name__}; {name}(env) must return an object with act and reset, "
        "or a function (observation, info) -> actions"
    )
