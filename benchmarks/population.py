"""Sizes of the procedural population against the literature and real scans.

    python benchmarks/population.py --seeds 100 --spacing 2 --real DIR [DIR ...]

writes docs/population.md, docs/population.png and benchmarks/population.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from population_tables import HU_REAL, REAL, ROWS, page

from sonogym.anatomy.anatomy import Anatomy
from sonogym.anatomy.library import SPLITS, load_patient
from sonogym.anatomy.morphometry import gaps, straighten, vertebrae
from sonogym.anatomy.patients import VERSION, make_procedural
from sonogym.anatomy.patients.drawing import draw_patient
from sonogym.anatomy.slices import calibre, organ_sizes, slice_sizes
from sonogym.anatomy.tissues import Tissue

ROOT = Path(__file__).parents[1]
HU_TISSUES = ("SUBCUTANEOUS_FAT", "MUSCLE", "LIVER", "SPLEEN", "BLOOD", "TRABECULAR_BONE", "CORTICAL_BONE", "LUNG")
HU_EDGES = np.arange(-1050.0, 1601.0, 10.0)


def measure(anatomy: Anatomy) -> dict[str, float]:
    """Every size that this patient's labels and landmarks allow, as ``level.name``."""
    sizes = dict(organ_sizes(anatomy))
    for level in ("L1", "L3", "L4"):
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


def hounsfield(anatomy: Anatomy) -> dict[str, Any]:
    """Histogram, mean and spread of the HU of each tissue, a voxel inside its edge."""
    from scipy import ndimage

    labels, ct = anatomy.labels.voxels[0].numpy(), anatomy.ct.voxels[0].numpy()
    out = {}
    for name in HU_TISSUES:
        mask = labels == Tissue[name]
        inner = ndimage.binary_erosion(mask) if name != "CORTICAL_BONE" else mask
        if inner.sum() > 200:
            values = ct[inner]
            counts = np.histogram(values, HU_EDGES)[0]
            out[name] = {
                "mean": float(values.mean()), "sd": float(values.std()), "median": float(np.median(values)),
                "histogram": (counts / counts.sum()).round(4).tolist(),
            }  # fmt: skip
    return out


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--spacing", type=float, default=2.0, help="mm")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop and report after so long")
    parser.add_argument("--real", nargs="*", default=[], help="folders of imported scans")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()
    patients, hu = [], []
    for seed in range(options.seeds):
        if time.monotonic() > start + 60.0 * options.minutes:
            break
        anatomy = make_procedural(seed, 1e-3 * options.spacing)
        facts = {name: anatomy.facts[name] for name in ("sex", "age", "height", "bmi")}
        patients.append({"seed": seed, **facts, "sizes": measure(anatomy)})
        if seed < 10:
            hu.append(hounsfield(anatomy))
        print(f"\r{seed + 1}/{options.seeds}", end="", flush=True)
    scans = {}
    for folder in options.real:
        anatomy = load_patient(folder)
        scans[Path(folder).name] = {"sizes": measure(anatomy), "hu": hounsfield(anatomy)}
    limits = f"--seeds {options.seeds} --minutes {options.minutes:g} --spacing {options.spacing:g}"
    command = f"python benchmarks/population.py {limits} --real {' '.join(scans)}"
    content = {
        "command": command, "version": VERSION, "spacing_mm": options.spacing, "drawn": drawn(),
        "patients": patients, "hu": hu, "real": scans,
    }  # fmt: skip
    (ROOT / "benchmarks" / "population.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")
    write_report(content)


def write_report(content: dict[str, Any]) -> None:
    """The page and the picture of a report."""
    (ROOT / "docs" / "population.md").write_text(page(content))
    _picture(content, ROOT / "docs" / "population.png")


def _picture(content: dict[str, Any], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 11), layout="constrained")
    FigureCanvasAgg(figure)
    chosen = [row for row in ROWS if row.shown]
    axes = figure.subplots(4, 5).ravel()
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
    centre = 0.5 * (HU_EDGES[1:] + HU_EDGES[:-1])
    for ax, name in zip(axes[len(chosen) :], ("SUBCUTANEOUS_FAT", "MUSCLE", "TRABECULAR_BONE", "LUNG"), strict=False):
        for patient in content["hu"][:5]:
            ax.plot(centre, patient[name]["histogram"], color="tab:green", linewidth=0.7)
        for scan in content["real"].values():
            if name in scan["hu"] and scan["hu"][name]["sd"] > 1.0:
                ax.plot(centre, scan["hu"][name]["histogram"], color="black", linewidth=1)
        middle = HU_REAL.get(name, content["hu"][0][name]["mean"])
        ax.set_xlim(middle - 300, middle + 300)
        ax.set_title(f"HU of {name.lower().replace('_', ' ')} (green: procedural, black: real)", fontsize=7)
        ax.tick_params(labelsize=7)
    figure.savefig(path, dpi=70)


if __name__ == "__main__":
    main()
