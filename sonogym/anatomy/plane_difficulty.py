"""How hard a standard plane is to find: how far one starts, how much is hidden, how much looks alike nearby."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from sonogym.anatomy.plane_specs import find_spec
from sonogym.anatomy.planes import LEVELS, PlaneView

ABOUT, ASIDE = 0.06, 0.05  # m: reach of a start about an organ's goal; beside the mid-line of the back
_FAR, _ALIKE = 0.15, 0.03  # m that count as far; distance at which a twin has lost 63 % of its likeness (design)


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """``start`` [m] is the mean distance from the start region to the goal, ``twin`` [m] the distance to the closest
    plane of the same kind (inf: there is none), ``score`` the sum of it all in [0, 1], 0 the easiest.
    """

    start: float
    twin: float
    score: float


def difficulties(views: Mapping[str, PlaneView]) -> dict[str, Difficulty]:
    """Difficulty of each plane among all ``views`` of a patient.

    score = 1 - (1 - start / 2 FAR) window (1 - exp(-twin / ALIKE) / 2): each of the first and last takes up to a half.
    """
    return {name: _difficulty(view, views) for name, view in views.items()}


def _difficulty(view: PlaneView, views: Mapping[str, PlaneView]) -> Difficulty:
    kind = find_spec(view.name).kind
    twins = [other for name, other in views.items() if find_spec(name).kind == kind and name != view.name]
    twin = min((_distance(view, other) for other in twins), default=math.inf)
    start = _start_distance(view, views)
    near, unlike = 1.0 - 0.5 * min(start / _FAR, 1.0), 1.0 - 0.5 * math.exp(-twin / _ALIKE)
    window = 1.0 if math.isnan(view.window) else view.window
    return Difficulty(start=start, twin=twin, score=1.0 - near * window * unlike)


def _distance(one: PlaneView, other: PlaneView) -> float:
    return float((one.pose.translation - other.pose.translation).norm())


def _start_distance(view: PlaneView, views: Mapping[str, PlaneView]) -> float:
    if find_spec(view.name).start == "about":
        steps = ABOUT * torch.arange(-5, 6) / 5.5
        return float(torch.cartesian_prod(steps, steps).norm(dim=-1).mean())
    along = [views[f"transverse_{level}"] for level in LEVELS[LEVELS.index("T12") :] if f"transverse_{level}" in views]
    aside = torch.linspace(-ASIDE, ASIDE, 11)
    return float(
        torch.stack([torch.hypot(aside, torch.tensor(_distance(view, one))) for one in along or [view]]).mean()
    )
