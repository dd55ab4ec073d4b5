"""What a run shows of itself: rows of its curve and a progress bar over its budget."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np

from .budget import Budget
from .environment import outcome

LOG_SECONDS = 5.0
TERMS = {
    "success": "success_rate",
    "position_error": "position_error",
    "angle_error": "angle_error",
    "level_hit": "level_rate",
}


class EpisodeCurve:
    """Collects finished episodes and turns them into one row every few seconds."""

    def __init__(self, num_envs: int) -> None:
        self.returns = np.zeros(num_envs)
        self.lengths = np.zeros(num_envs, dtype=np.int64)
        self._forget()
        self._logged = (time.monotonic(), 0)

    def _forget(self) -> None:
        self.finished: dict[str, list[float]] = {}

    def add(self, reward: np.ndarray, done: np.ndarray, info: Mapping[str, Any]) -> None:
        """Take in one step of all environments."""
        self.returns += np.asarray(reward)
        self.lengths += 1
        if not done.any():
            return
        for term, name in TERMS.items():
            value = outcome(info, term, done)
            if value is not None:
                self._extend(name, value[done].astype(np.float64))
        self._extend("return", self.returns[done])
        self._extend("length", self.lengths[done].astype(np.float64))
        self.returns[done] = 0.0
        self.lengths[done] = 0

    def take(self, record: Mapping[str, float]) -> None:
        """Take in one finished episode as the SB3 adapter records it."""
        for term, name in {**TERMS, "r": "return", "l": "length"}.items():
            if term in record:
                self._extend(name, np.array([record[term]], dtype=np.float64))

    def _extend(self, name: str, values: np.ndarray) -> None:
        self.finished.setdefault(name, []).extend(values.tolist())

    def row(self, budget: Budget, extra: Mapping[str, float]) -> dict[str, float]:
        """Means over the episodes since the last row with ``extra``; empty while the last row is fresh."""
        now, (then, steps) = time.monotonic(), self._logged
        if now - then < LOG_SECONDS and not budget.finished:
            return {}
        row = {"steps": float(budget.steps), "seconds": budget.seconds}
        row["steps_per_second"] = (budget.steps - steps) / max(now - then, 1e-9) if steps else 0.0
        row |= {name: float(np.mean(values)) for name, values in self.finished.items()}
        self._forget()
        self._logged = (now, budget.steps)
        return row | dict(extra)


class Progress:
    """A progress bar over the budget; silent where nobody watches."""

    def __init__(self, budget: Budget, name: str) -> None:
        self.budget = budget
        self.name = name

    def __enter__(self) -> Progress:
        from tqdm import tqdm

        layout = "{l_bar}{bar}| {elapsed}{postfix}"
        self.bar = tqdm(total=100.0, desc=self.name, bar_format=layout, disable=None)
        return self

    def update(self, row: Mapping[str, float]) -> None:
        """Move the bar; ``row`` (may be empty) holds figures to show."""
        self.bar.n = round(100.0 * self.budget.fraction, 1)
        if row:
            shown = ("steps", "steps_per_second", "success_rate", "position_error")
            self.bar.set_postfix({key: f"{row[key]:.3g}" for key in shown if key in row}, refresh=False)
        self.bar.refresh()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
