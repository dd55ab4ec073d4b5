"""Counter-based random numbers: a draw is a function of (seed, environment, episode, step, name), never of order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

_UNIT = 2.0**-53


def _mix(state: np.ndarray) -> np.ndarray:
    """SplitMix64 finaliser (Steele, Lea & Flood 2014) on uint64 arrays."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _chain(state: np.ndarray, word: np.ndarray) -> np.ndarray:
    return _mix((state + np.uint64(0x9E3779B97F4A7C15)) ^ _mix(word.astype(np.uint64)))


def _name_word(name: str) -> np.ndarray:
    return np.frombuffer(hashlib.blake2b(name.encode(), digest_size=8).digest(), dtype=np.uint64)


@dataclass(frozen=True)
class Streams:
    """One stream an environment. Environment i draws the same whatever the number of environments.

    ``environment``, ``episode`` and ``step`` are (envs,) integers.
    """

    seed: int
    environment: Int[Tensor, " envs"]
    episode: Int[Tensor, " envs"]
    step: Int[Tensor, " envs"]

    def bits(self, name: str, size: int = 1) -> np.ndarray:
        """(envs, size) independent 64-bit words for the draw called ``name``."""
        seed = np.full(1, np.uint64(self.seed & 0xFFFFFFFFFFFFFFFF))
        state = _chain(seed, _name_word(name))
        for counter in (self.environment, self.episode, self.step):
            state = _chain(state, counter.cpu().numpy().astype(np.int64).view(np.uint64))
        return _chain(state[:, None], np.arange(size, dtype=np.uint64)[None, :])

    def _unit(self, name: str, size: int) -> np.ndarray:
        return (self.bits(name, size) >> np.uint64(11)).astype(np.float64) * _UNIT

    def uniform(self, name: str, low: float, high: float, size: int = 1) -> Float[Tensor, "envs size"]:
        """(envs, size) draws from U[low, high)."""
        return torch.from_numpy((low + (high - low) * self._unit(name, size)).astype(np.float32))

    def normal(self, name: str, mean: float, deviation: float, size: int = 1) -> Float[Tensor, "envs size"]:
        """(envs, size) Gaussian draws (Box-Muller)."""
        unit = self._unit(name, 2 * size)
        radius = np.sqrt(-2.0 * np.log1p(-unit[:, :size]))
        value = radius * np.cos(2.0 * np.pi * unit[:, size:])
        return torch.from_numpy((mean + deviation * value).astype(np.float32))

    def integers(self, name: str, count: int) -> Int[Tensor, " envs"]:
        """(envs,) draws from 0 .. count - 1."""
        return torch.from_numpy((self._unit(name, 1)[:, 0] * count).astype(np.int64))
