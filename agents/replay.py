"""A bounded memory of labelled steps, kept in time order so that stretches of episodes can be drawn from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sonogym.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class Stretches:
    """(time, batch, ...) pieces of episodes; ``state`` (batch, state) is the memory the learner had at their start."""

    observation: dict[str, Tensor]
    first: Tensor
    action: Tensor
    goal: Tensor
    state: Tensor


class Replay:
    """A ring of ``capacity`` steps over all environments; images stay uint8."""

    def __init__(self, capacity: int, num_envs: int, generator: torch.Generator) -> None:
        self.length = capacity // num_envs
        if self.length < 2:
            raise InvalidInputError(f"capacity must hold 2 steps of {num_envs} environments, got {capacity}")
        self.num_envs = num_envs
        self.generator = generator
        self.size = 0
        self._next = 0
        self._rings: dict[str, Tensor] = {}

    def add(self, observation: Mapping[str, Tensor], **terms: Tensor) -> None:
        """Keep one step of all environments, (envs, ...) each, over the oldest one if the ring is full.

        ``terms`` are ``first``, ``action`` and ``goal`` (labels) and ``state`` (the memory before the step).
        """
        for name, value in {**{f"observation/{key}": term for key, term in observation.items()}, **terms}.items():
            if name not in self._rings:
                self._rings[name] = torch.zeros(self.length, *value.shape, dtype=value.dtype)
            self._rings[name][self._next] = value
        self._next = (self._next + 1) % self.length
        self.size = min(self.size + 1, self.length)

    def draw(self, time: int, batch: int) -> Stretches:
        """``batch`` stretches of ``time`` steps, drawn uniformly over starts and environments."""
        if time > self.size:
            raise InvalidInputError(f"{time} steps asked for, {self.size} kept")
        start = torch.randint(self.size - time + 1, (batch,), generator=self.generator)
        column = torch.randint(self.num_envs, (batch,), generator=self.generator)
        oldest = self._next if self.size == self.length else 0
        row = (oldest + start + torch.arange(time).unsqueeze(1)) % self.length
        drawn = {name: ring[row[:1] if name == "state" else row, column] for name, ring in self._rings.items()}
        prefix = "observation/"
        return Stretches(
            observation={key.removeprefix(prefix): drawn[key] for key in drawn if key.startswith(prefix)},
            first=drawn["first"],
            action=drawn["action"],
            goal=drawn["goal"],
            state=drawn["state"][0],
        )
