"""How long a run may go on: wall-clock minutes or environment steps, whichever its configuration names."""

from __future__ import annotations

import time

from .recipes import RunConfig


class Budget:
    """Counts steps and seconds of a run over all its sittings; ``stop`` ends it at the next iteration."""

    def __init__(self, config: RunConfig, steps: int = 0, seconds: float = 0.0) -> None:
        self.limit_steps = config.steps
        self.limit_seconds = 60.0 * config.minutes
        self.steps = steps
        self.interrupted = False
        self._before = seconds
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds spent on the run, earlier sittings included."""
        return self._before + time.monotonic() - self._started

    @property
    def fraction(self) -> float:
        """Share of the budget spent, 0 .. 1."""
        spent = self.steps / self.limit_steps if self.limit_steps else self.seconds / self.limit_seconds
        return min(spent, 1.0)

    @property
    def finished(self) -> bool:
        """Whether the run ends here."""
        return self.interrupted or self.fraction >= 1.0

    def interrupt(self) -> None:
        """End the run at the next iteration, keeping it resumable."""
        self.interrupted = True

    def decayed(self, first: float, last: float) -> float:
        """A value falling geometrically from ``first`` to ``last`` over the second half of the budget."""
        share = max(2.0 * self.fraction - 1.0, 0.0)
        return first * (last / first) ** share
