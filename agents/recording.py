"""What is kept of episodes while they are played: errors and paths of all, images of a few."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .environment import outcome

FILMED = 4
TRACED = ("position_error", "angle_error", "privileged")


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One episode, a row a state: errors [m], [rad], the probe's way in the goal's frame, images of filmed ones."""

    position_error: np.ndarray
    angle_error: np.ndarray
    path: np.ndarray
    images: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Recording:
    """The traces of the episodes in the order they ended."""

    traces: list[Trace]


class Recorder:
    """Gathers the states of running episodes; the first ones of a few environments are filmed."""

    def __init__(self, num_envs: int) -> None:
        self.running: list[list[dict[str, np.ndarray]]] = [[] for _ in range(num_envs)]
        self.filming = [index < FILMED for index in range(num_envs)]
        self.traces: list[Trace] = []

    def see(self, observation: Mapping[str, Any], info: Mapping[str, Any], mask: np.ndarray) -> None:
        """One state of the environments where ``mask`` holds."""
        terms = {name: np.asarray(info[name]) for name in TRACED if name in info}
        for index in np.flatnonzero(mask):
            row = {name: np.array(value[index]) for name, value in terms.items()}
            if self.filming[index] and "image" in observation:
                row["image"] = np.array(observation["image"][index][-1])
            self.running[index].append(row)

    def end(self, info: Mapping[str, Any], done: np.ndarray, mask: np.ndarray) -> None:
        """Close the episodes that ended, with their last state."""
        last = {name: outcome(info, name, done) for name in TRACED}
        for index in np.flatnonzero(done & mask):
            rows = self.running[index]
            final = {name: value[index] for name, value in last.items() if value is not None}
            self.traces.append(_trace([*rows, final]))
            self.running[index] = []
            self.filming[index] = False

    def recording(self) -> Recording:
        """All episodes that ended."""
        return Recording(traces=self.traces)


def _trace(rows: list[dict[str, np.ndarray]]) -> Trace:
    images = [row["image"] for row in rows if "image" in row]
    return Trace(
        position_error=_column(rows, "position_error"),
        angle_error=_column(rows, "angle_error"),
        path=_path(_column(rows, "privileged")),
        images=np.stack(images) if images else np.zeros((0, 0, 0), np.uint8),
    )


def _column(rows: list[dict[str, np.ndarray]], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows if name in row])


def _path(goal: np.ndarray) -> np.ndarray:
    """(time, 2) probe positions [m] in the goal's frame, from the goal's (lateral, elevation, yaw) in the probe's."""
    if goal.ndim != 2:
        return np.zeros((0, 2))
    cosine, sine = np.cos(goal[:, 2]), np.sin(goal[:, 2])
    lateral = cosine * goal[:, 0] + sine * goal[:, 1]
    elevation = -sine * goal[:, 0] + cosine * goal[:, 1]
    return -np.stack([lateral, elevation], axis=1)
