"""Which weights the atlas numbers vertebrae by: chosen from a grid, each real scan held out in turn.

    python benchmarks/atlas_weights.py FOLDER

FOLDER as for benchmarks/atlas.py. The score of a scan is the mean log-likelihood of its labelled vertebrae: log c for
one that lies where it should with confidence c, log((1 - c) / 6) for one that does not (six other numberings). Chosen
is the highest sum of the mean over procedural training patients (none of them the atlas is made of) and the mean over
the real scans that are not held out. What is shipped (LevelWeights) is the choice from all of them. Committed as
atlas_weights.md, which benchmarks/atlas.py puts into its page.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import atlas
import numpy as np
import torch

from sonogym.anatomy.atlas.canal import Spine, find_spine
from sonogym.anatomy.atlas.levels import SAME, Evidence, Levels, LevelWeights, find_evidence, place_levels
from sonogym.anatomy.atlas.scene import make_scene
from sonogym.anatomy.atlas.templates import COUNT, load_templates
from sonogym.anatomy.library import load_patient
from sonogym.anatomy.resampling import Grid

MADE = 6  # procedural patients beyond those the atlas is made of
GRID = [
    LevelWeights(lung=lung, rhythm=rhythm, usual=usual, size=size, certainty=certainty)
    for lung, rhythm, usual, size, certainty in itertools.product(
        (0.1, 0.25, 0.5), (0.4, 0.8, 1.2, 1.6), (0.5, 1.0), (0.0, 0.5, 1.0, 2.0), (0.5, 1.0, 2.0)
    )
]


@dataclass(frozen=True)
class Case:
    """A scan and what is known of its vertebrae: middles [m], or the mesh's lower and upper end [mm]."""

    name: str
    spine: Spine
    evidence: Evidence
    truth: dict[str, np.ndarray]
    meshes: dict[str, tuple[float, float]]


def read_case(name, anatomy, truth, meshes, hu=None):
    """What the choice needs of a scan, read once."""
    hu, tissue = atlas.bare_ct(anatomy, hu)
    origin = tuple(anatomy.ct.patient_from_voxel[:3, 3].tolist())
    scene = make_scene(hu, tissue, Grid(shape=hu.shape, spacing=anatomy.ct.spacing[0], origin=origin))
    spine = find_spine(scene)
    return Case(name, spine, find_evidence(scene, spine, load_templates()[1]), truth, meshes)


def judged(case: Case, levels: Levels) -> tuple[float, int, int]:
    """Score, wrong ones, and count of the vertebrae whose place is known."""
    logs, wrong = [], 0
    for level, point in levels.centres.items():
        right = atlas.is_right(f"vertebra_{level}", point, case.truth, case.meshes, SAME)
        if right is None:
            continue
        sure = float(np.clip(levels.confidence(level), 0.01, 0.99))
        logs.append(np.log(sure if right else (1.0 - sure) / 6.0))
        wrong += not right
    lacking = [key for key in case.meshes if key.removeprefix("vertebra_") not in levels.centres]
    logs += [np.log(0.01)] * len(lacking)
    return float(np.mean(logs)), wrong + len(lacking), len(logs)


def main():
    """Choose, and write the table."""
    torch.set_num_threads(1)
    real = [read_case(*case) for case in atlas.real_rows(Path(sys.argv[1]))]
    names = [f"procedural:train/{COUNT + i}" for i in range(MADE)]
    made = [read_case(p.name, p, atlas.places(p), {}) for p in (load_patient(name, atlas.SPACING) for name in names)]
    scores = {}
    for at, weights in enumerate(GRID):
        for case in (*real, *made):
            scores[at, case.name] = judged(case, place_levels(case.spine, case.evidence, weights))
    (Path(__file__).parent / "atlas_weights.md").write_text(table(scores, real, made))


def best(scores, real, made):
    """Index in the grid of the highest sum of both means."""

    def total(at):
        return sum(np.mean([scores[at, case.name][0] for case in group]) for group in (real, made))

    return max(range(len(GRID)), key=total)


def table(scores, real, made):
    """Markdown: the weights chosen without each real scan, and what they make of it."""
    lines = [f"`python benchmarks/atlas_weights.py {sys.argv[1]}`, {len(GRID)} choices", "",
             "| held out | lung, rhythm, usual, size, certainty | score of it | wrong levels of it |",
             "|---|---|---|---|"]  # fmt: skip
    for case in (*real, None):
        at = best(scores, [one for one in real if one is not case], made)
        chosen = ", ".join(f"{value:g}" for value in vars(GRID[at]).values())
        seen = [case] if case else [*real, *made]
        wrong, count = (sum(scores[at, one.name][i] for one in seen) for i in (1, 2))
        score = np.mean([scores[at, one.name][0] for one in seen])
        name = case.name if case else f"none (shipped; all real scans and {len(made)} made patients)"
        lines.append(f"| {name} | {chosen} | {score:.2f} | {wrong} of {count} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
