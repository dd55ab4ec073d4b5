"""The whole quality protocol of one probe: every test, and the scans that a physicist wants to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sonogym.ultrasound.qa.contrast_tests import (
    contrast,
    low_contrast,
    penetration,
    scan_contrast,
    scan_penetration,
    uniformity,
)
from sonogym.ultrasound.qa.geometry_tests import dead_zone, distances, elevation, resolution, scan_wires
from sonogym.ultrasound.qa.phantom import Medium
from sonogym.ultrasound.qa.plan import make_plan
from sonogym.ultrasound.qa.row import Row
from sonogym.ultrasound.qa.scan import Scan
from sonogym.ultrasound.transducer import Transducer

STEPS = 6


@dataclass(frozen=True, kw_only=True)
class Quality:
    """``rows`` of all tests; ``pictures`` by name: wires, contrast, penetration."""

    transducer: Transducer
    rows: tuple[Row, ...]
    pictures: dict[str, Scan]

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(row.passed for row in self.rows)


def run_quality(transducer: Transducer, step: Callable[[], object] = lambda: None) -> Quality:
    """Every test of ``transducer``; ``step`` is called :data:`STEPS` times, once a part is done."""
    plan = make_plan(transducer)
    silent = scan_wires(transducer, plan, Medium.SILENT)
    rows = [*resolution(transducer, plan, silent), *distances(transducer, plan, silent)]
    del silent
    step()
    rows += [*elevation(transducer), *dead_zone(transducer)]
    step()
    targets = scan_contrast(transducer, plan)
    rows += [*contrast(transducer, plan, targets), *low_contrast(transducer, plan, targets)]
    step()
    rows += uniformity(transducer)
    step()
    depths = scan_penetration(transducer)
    rows += penetration(transducer, depths)
    step()
    pictures = {
        "wires": scan_wires(transducer, plan, Medium.BACKGROUND),
        "contrast": targets,
        "penetration": depths[0],
    }
    step()
    return Quality(transducer=transducer, rows=tuple(rows), pictures=pictures)
