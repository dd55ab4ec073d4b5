"""One line of a quality report: what was measured, what was expected, and the range in which it passes."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """``measured`` passes within ``low`` .. ``high``, both included; ``source`` says where ``expected`` comes from."""

    group: str
    quantity: str
    unit: str
    measured: float
    expected: float
    low: float
    high: float
    source: str

    @property
    def passed(self) -> bool:
        """Whether the measured value is within its range; what could not be measured is not."""
        return not math.isnan(self.measured) and self.low <= self.measured <= self.high


def within(
    group: str, quantity: str, unit: str, measured: float, expected: float, tolerance: float, source: str
) -> Row:
    """``measured`` must lie within +- ``tolerance`` of ``expected``."""
    low, high = expected - tolerance, expected + tolerance
    return Row(group=group, quantity=quantity, unit=unit, measured=measured, expected=expected, low=low, high=high,
               source=source)  # fmt: skip


def at_most(group: str, quantity: str, unit: str, measured: float, limit: float, source: str) -> Row:
    """``measured`` must not exceed ``limit``."""
    return Row(group=group, quantity=quantity, unit=unit, measured=measured, expected=limit, low=-math.inf, high=limit,
               source=source)  # fmt: skip


def at_least(group: str, quantity: str, unit: str, measured: float, limit: float, source: str) -> Row:
    """``measured`` must reach ``limit``."""
    return Row(group=group, quantity=quantity, unit=unit, measured=measured, expected=limit, low=limit, high=math.inf,
               source=source)  # fmt: skip
