"""Sizes of the procedural population against the literature and real scans.

    python benchmarks/population.py --seeds 100 --spacing 2 --real DIR [DIR ...]

writes docs/population.md, docs/population.png and benchmarks/population.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from population_hu import hounsfield, picture_hounsfield
from population_tables import REAL, ROWS, page

from sonogym.anatomy.anatomy import Anatomy
from sonogym.anatomy.library import SPLITS, load_patient
from sonogym.anatomy.morphometry import gaps, straighten, vertebrae
from sonogym.anatomy.patients import VERSION, load_procedural
from sonogym.anatomy.patients.drawing import draw_patient
from sonogym.anatomy.slices import calibre, organ_sizes, slice_sizes

ROOT = Path(__file__).parents[1]
HU_PATIENTS, HU_SPACING = 10, 1.5e-3


def measure(anatomy: Anatomy) -> dict[str, float]:
    """Every size that this patient's labels and landmarks allow, as ``level.name``."""
    sizes = dict(organ_sizes(anatomy))
    for level in ("T9", "L1", "L3", "L4"):
        if f"vertebra_{level}" in anatomy.landmarks:
            sizes |= {f"{level}.{name}": value for name, value in slice_sizes(anatomy, level).items()}
    for level in ("T12", "L1", "L2", "L3", "L4"):
        found = calibre(anatomy, f"aorta_{level}")
        sizes |= {} if found is None else {f"{level}.aorta": found}
    spine = straighten(anatomy)
    if spine is not None:
        for table in (vertebrae(spine), gaps(spine)):
            sizes |= {f"{place}.{name}": value for place, row in table.items() for name, value in row.items()}
    return {name: round(float(value), 1) for name, value in sizes.items() if np.isfinite(value)}


def drawn() -> dict[str, Any]:
    """What all 1,300 patients of the splits are drawn as."""
    people = {split: [draw_patient(seed) for seed in seeds] for split, seeds in SPLITS.items() if split != "findings"}
    strata = {
        split: np.bincount([p.stratum for p in patients], minlength=10).tolist() for split, patients in people.items()
    }
    everyone = [p for patients in people.values() for p in patients]
    names = (
        "age",
        "height",
        "bmi",
        "size",
        "fat_back",
        "muscle",
        "infiltration",
        "liver_volume",
        "spleen_volume",
        "trabecular",
    )
    table = {
        sex: {name: _spread([getattr(p, name) for p in everyone if p.female == female]) for name in names}
        for sex, female in (("men", False), ("women", True))
    }
    older = [p for p in everyone if p.age >= 40.0]
    correlations = {
        "fat over the back, BMI": _correlation([p.fat_back for p in everyone], [p.bmi for p in everyone]),
        "trabecular HU, age": _correlation([p.trabecular for p in everyone], [p.age for p in everyone]),
        "muscle, age": _correlation([p.muscle for p in everyone], [p.age for p in everyone]),
        "fat in multifidus, age": _correlation([p.infiltration for p in everyone], [p.age for p in everyone]),
        "liver volume, height": _correlation([p.liver_volume for p in everyone], [p.height for p in everyone]),
    }
    bent = float(np.mean([abs(p.cobb) > 10.0 for p in older]))
    return {"strata": strata, "spread": table, "correlations": correlations, "cobb_over_10_from_40_years": bent}


def _spread(values: list[float]) -> list[float]:
    return [float(np.mean(values)), float(np.std(values))]


def _correlation(a: list[float], b: list[float]) -> float:
    return float(np.corrcoef(a, b)[0, 1])


class Kept:
    """Results as JSON lines in a file, so that a run that was stopped goes on where it was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._found = dict(json.loads(line) for line in lines)

    def one(self, key: str, make: Callable[[], Any]) -> Any:
        """What is kept under ``key``, made first if it is not."""
        if key not in self._found:
            self._found[key] = make()
            with self._path.open("a") as file:
                file.write(json.dumps([key, self._found[key]]) + "\n")
            print(key, flush=True)
        return self._found[key]


def one_patient(seed: int, spacing: float) -> dict[str, Any]:
    """Seed, person and sizes of a patient at ``spacing`` [mm]."""
    anatomy = load_procedural(seed, 1e-3 * spacing, f"procedural-{seed}")
    facts = {name: anatomy.facts[name] for name in ("sex", "age", "height", "bmi")}
    return {"seed": seed, **facts, "sizes": measure(anatomy)}


def one_scan(folder: str) -> dict[str, Any]:
    """Sizes and HU of an imported scan."""
    anatomy = load_patient(folder)
    made = any("no CT" in str(problem) for problem in anatomy.facts.get("problems", ()))
    return {"sizes": measure(anatomy), "hu": {} if made else hounsfield(anatomy)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--spacing", type=float, default=2.0, help="mm")
    parser.add_argument("--real", nargs="*", default=[], help="folders of imported scans")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = Kept(Path(tempfile.gettempdir()) / f"sonogym-population-v{VERSION}.jsonl")
    patients = [
        kept.one(f"patient {seed} {options.spacing:g} mm", lambda seed=seed: one_patient(seed, options.spacing))
        for seed in range(options.seeds)
    ]
    hu = [
        kept.one(f"hu {seed}", lambda seed=seed: hounsfield(load_procedural(seed, HU_SPACING, f"procedural-{seed}")))
        for seed in range(HU_PATIENTS)
    ]
    scans = {}
    for folder in options.real:
        scans[Path(folder).name] = kept.one(f"scan {folder}", lambda folder=folder: one_scan(folder))
    limits = f"--seeds {options.seeds} --spacing {options.spacing:g}"
    command = f"python benchmarks/population.py {limits} --real {' '.join(scans)}"
    content = {
        "command": command, "version": VERSION, "spacing_mm": options.spacing, "drawn": drawn(),
        "patients": patients, "hu": hu, "real": scans, "cost": _cost(),
    }  # fmt: skip
    (ROOT / "benchmarks" / "population.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")
    write_report(content)


def _cost() -> Any:
    """What benchmarks/population_speed.py left, or None."""
    path = ROOT / "benchmarks" / "population_speed.json"
    return json.loads(path.read_text()) if path.exists() else None


def write_report(content: dict[str, Any]) -> None:
    """The page and the picture of a report."""
    (ROOT / "docs" / "population.md").write_text(page(content))
    _picture(content, ROOT / "docs" / "population.png")


def _picture(content: dict[str, Any], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 13), layout="constrained")
    FigureCanvasAgg(figure)
    chosen = [row for row in ROWS if row.shown]
    axes = figure.subplots(5, 5).ravel()
    for ax, row in zip(axes, chosen, strict=False):
        for sex, colour in (("male", "tab:blue"), ("female", "tab:red")):
            values = [p["sizes"][row.key] for p in content["patients"] if p["sex"] == sex and row.key in p["sizes"]]
            ax.hist(values, bins=15, alpha=0.5, color=colour, label="men" if sex == "male" else "women")
            cited = row.men if sex == "male" else row.women
            if cited is not None:
                ax.axvspan(cited[0] - cited[1], cited[0] + cited[1], color=colour, alpha=0.12)
                ax.axvline(cited[0], color=colour, linestyle="--", linewidth=1)
        for name, scan in content["real"].items():
            if row.key in scan["sizes"]:
                ax.axvline(scan["sizes"][row.key], color="black", linewidth=1, label=name)
        for value in REAL.get(row.key, ()):
            ax.axvline(value, color="gray", linewidth=1, linestyle=":")
        ax.set_title(row.title, fontsize=8)
        ax.tick_params(labelsize=7)
    axes[0].legend(fontsize=6)
    picture_hounsfield(content, axes[len(chosen) :])
    for ax in axes[len(chosen) + 5 :]:
        ax.set_axis_off()
    figure.savefig(path, dpi=70)


if __name__ == "__main__":
    main()
