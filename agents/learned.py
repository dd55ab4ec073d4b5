"""Trained policies as files: safetensors weights and, beside them, a TOML record of what they fit."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from sonogym.anatomy.cache import read_tensors, write_atomically, write_tensors
from sonogym.errors import InvalidInputError, MissingFileError

from .networks import NetworkConfig, ObservationSpec, PolicyNetwork, lay_out
from .toml_text import toml_text

FORMAT = 1


class LearnedPolicy:
    """A network that acts on its mean action; its memory, if any, is kept per environment."""

    def __init__(self, network: PolicyNetwork, record: Mapping[str, Any]) -> None:
        self.network = network.eval()
        self.record = record
        self.device = next(network.parameters()).device
        self.state: Tensor | None = None

    def reset(self, mask: np.ndarray) -> None:
        """Clear the memory of the environments where ``mask`` (envs,) is true."""
        if self.state is None or len(self.state) != len(mask):
            self.state = torch.zeros(len(mask), self.network.state_size, device=self.device)
        self.state[torch.from_numpy(np.array(mask)).to(self.device)] = 0.0

    def act(self, observation: Mapping[str, Any], info: Mapping[str, Any]) -> np.ndarray:
        """(envs, actions) float32 in [-1, 1]."""
        inputs = tensors(observation, self.network.spec, self.device)
        if self.state is None:
            self.reset(np.ones(len(next(iter(inputs.values()))), dtype=bool))
        assert self.state is not None
        with torch.inference_mode():
            action, _, state = self.network.step(inputs, self.state)
        self.state = state.clone()
        return action.clamp(-1.0, 1.0).cpu().numpy()


def tensors(observation: Mapping[str, Any], spec: ObservationSpec, device: torch.device) -> dict[str, Tensor]:
    """The terms the network reads, as tensors on ``device``."""
    return {name: torch.as_tensor(observation[name]).to(device) for name in spec.shapes}


def observation_spec(env: VectorEnv) -> ObservationSpec:
    """What a network for ``env`` reads; spaces other than a Dict of Boxes are refused."""
    space = env.single_observation_space
    if not isinstance(space, gymnasium.spaces.Dict):
        raise InvalidInputError(f"learners need a Dict observation space, got {space}")
    shapes = {}
    for name, term in space.spaces.items():
        if not isinstance(term, gymnasium.spaces.Box):
            raise InvalidInputError(f"observation {name!r} must be a Box, got {term}")
        shapes[name] = tuple(int(size) for size in term.shape)
    return ObservationSpec(shapes=shapes)


def action_size(env: VectorEnv) -> int:
    """Number of actions; the space must be Box(-1, 1, (n,))."""
    space = env.single_action_space
    box = isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1
    if not box or not (np.all(space.low == -1.0) and np.all(space.high == 1.0)):  # type: ignore[attr-defined]
        raise InvalidInputError(f"learners need the action space Box(-1, 1, (n,)), got {space}")
    return int(space.shape[0])  # type: ignore[index]


def write_policy(
    file: Path, network: PolicyNetwork, task: str, environment: Mapping[str, Any], training: Mapping[str, Any]
) -> None:
    """Store ``network`` at ``file`` (.safetensors) and its record beside it; each file is whole or absent."""
    shapes = {name: list(shape) for name, shape in network.spec.shapes.items()}
    record = {
        "format": FORMAT,
        "task": task,
        "network": dataclasses.asdict(network.config),
        "observation": shapes,
        "action": {"size": network.action.out_features, "low": -1.0, "high": 1.0},
        "environment": dict(environment),
        "training": dict(training),
    }
    text = toml_text(record)
    weights = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    write_atomically(file.with_suffix(".toml"), lambda temporary: temporary.write_text(text, encoding="utf-8"))
    write_tensors(file, weights, {"format": str(FORMAT), "task": task})


def read_policy(file: Path, task: str, env: VectorEnv) -> tuple[PolicyNetwork, dict[str, Any]]:
    """Network and record of ``file``; refused unless made for ``task`` and the spaces of ``env``."""
    record = read_record(file)
    if record["task"] != task:
        raise InvalidInputError(f"policy {file} was trained for task {record['task']!r}, not for {task!r}")
    spec = ObservationSpec(shapes={name: tuple(shape) for name, shape in record["observation"].items()})
    _require_spaces(file, spec, record["action"]["size"], env)
    config = NetworkConfig(**{**record["network"], "channels": tuple(record["network"]["channels"])})
    network = PolicyNetwork(spec, record["action"]["size"], config)
    lay_out(network)
    weights, _ = read_tensors(file)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InvalidInputError(f"weights in {file} do not fit the network its .toml describes: {error}") from error
    return network, record


def read_record(file: Path) -> dict[str, Any]:
    """The TOML beside ``file``; missing, damaged or foreign ones are refused."""
    beside = file.with_suffix(".toml")
    if not beside.is_file():
        raise MissingFileError(f"no {beside} beside {file}: a policy is a .safetensors file and its .toml")
    try:
        record = tomllib.loads(beside.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"{beside} is not TOML: {error}") from error
    missing = [key for key in ("task", "network", "observation", "action") if key not in record]
    if missing or record.get("format") != FORMAT:
        raise InvalidInputError(
            f"{beside} is no policy record of format {FORMAT}: got format {record.get('format')}, missing {missing}"
        )
    return record


def _require_spaces(file: Path, spec: ObservationSpec, actions: int, env: VectorEnv) -> None:
    offered = observation_spec(env).shapes
    for name, shape in spec.shapes.items():
        if offered.get(name) != shape:
            raise InvalidInputError(
                f"policy {file} reads {name!r} of shape {shape}, the task offers {offered.get(name, 'none')}; "
                "make the task with the options in the policy's .toml"
            )
    if actions != action_size(env):
        raise InvalidInputError(f"policy {file} gives {actions} actions, the task takes {action_size(env)}")
