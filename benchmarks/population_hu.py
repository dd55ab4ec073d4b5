"""Hounsfield units inside each tissue: procedural patients against scans, for benchmarks/population.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from sonogym.anatomy.anatomy import Anatomy
from sonogym.anatomy.tissues import Tissue

TISSUES = (
    "SUBCUTANEOUS_FAT", "VISCERAL_FAT", "MUSCLE", "LIVER", "SPLEEN", "KIDNEY_CORTEX", "BLOOD", "TRABECULAR_BONE",
    "CORTICAL_BONE", "LUNG", "SKIN",
)  # fmt: skip
_BODY, _BODY_RADIUS = "VERTEBRAL_BODY", 9.0  # mm of the middle of a body, as far as regions of interest reach
_BODIES = tuple(f"vertebra_{level}" for level in ("T8", "T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5"))
_THIN = ("CORTICAL_BONE", "SKIN")  # nothing is left of them a voxel inside their edge
SCAN_COLOURS = ("black", "tab:orange", "tab:purple", "tab:gray")
EDGES = np.arange(-1050.0, 1801.0, 5.0)
PERCENTILES = (5, 25, 50, 75, 95)
_LEAST = 400  # voxels
_SLAB = 12  # slices on both sides of a tissue's middle, which are enough to see its noise
_NEAR = 7  # voxels: what varies more slowly is texture, not noise
# means without contrast of a TotalSegmentator test CT (anatomy.md); trabecular: an eroded vertebra
WITHOUT_CONTRAST = {
    "SUBCUTANEOUS_FAT": -106, "MUSCLE": 52, "LIVER": 47, "SPLEEN": 35, "BLOOD": 43, "TRABECULAR_BONE": 118,
    "LUNG": -779,
}  # fmt: skip


def hounsfield(anatomy: Anatomy) -> dict[str, Any]:
    """Per tissue, a voxel inside its edge: mean, spread, percentiles, histogram, and the noise of neighbours."""
    labels, ct = anatomy.labels.voxels[0].numpy(), anatomy.ct.voxels[0].numpy()
    found = {}
    for name in TISSUES:
        mask = labels == Tissue[name]
        inside = mask if name in _THIN else ndimage.binary_erosion(mask)
        if inside.sum() < _LEAST or ct[inside].std() < 1.5:  # a CT made from labels has no spread
            continue
        found[name] = _summary(ct, inside)
    bodies = _bodies(anatomy) & (labels == Tissue.TRABECULAR_BONE)
    if bodies.sum() >= _LEAST:
        found[_BODY] = _summary(ct, bodies)
    return found


def _summary(ct: np.ndarray, inside: np.ndarray) -> dict[str, Any]:
    values = ct[inside]
    counts = np.histogram(values, EDGES)[0]
    return {
        "mean": round(float(values.mean()), 1), "sd": round(float(values.std()), 1),
        "percentiles": np.percentile(values, PERCENTILES).round().tolist(),
        "histogram": (counts / counts.sum()).round(5).tolist(), "noise": _noise(ct, inside),
    }  # fmt: skip


def _bodies(anatomy: Anatomy) -> np.ndarray:
    """Voxels near the middle of a vertebral body."""
    shape, spacing = anatomy.labels.voxels.shape[1:], 1e3 * np.array(anatomy.labels.spacing)
    matrix = anatomy.labels.voxel_from_patient.double().numpy()
    near = np.zeros(shape, dtype=bool)
    for name in set(_BODIES) & set(anatomy.landmarks):
        voxel = matrix[:3, :3] @ anatomy.landmarks[name].double().numpy() + matrix[:3, 3]
        axes = [(np.arange(n) - v) * edge for n, v, edge in zip(shape, voxel, spacing, strict=True)]
        low, high = ([int(np.searchsorted(axis, sign * _BODY_RADIUS)) for axis in axes] for sign in (-1.0, 1.0))
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        x, y, z = np.ix_(*(axis[part] for axis, part in zip(axes, box, strict=True)))
        near[box] |= x**2 + y**2 + z**2 < _BODY_RADIUS**2
    return near


def _noise(ct: np.ndarray, inside: np.ndarray) -> list[float]:
    """Spread of what differs from the mean of its surroundings, and its correlation with the next voxel in x and z."""
    middle = int(np.median(np.flatnonzero(inside.any(axis=(0, 1)))))
    box = (slice(None), slice(None), slice(max(middle - _SLAB, 0), middle + _SLAB))
    inside, values = inside[box], ct[box].astype(np.float32)
    share = ndimage.uniform_filter(inside.astype(np.float32), _NEAR)
    rest = values - ndimage.uniform_filter(np.where(inside, values, 0.0), _NEAR) / np.maximum(share, 1e-3)
    out = [float(rest[inside].std())]
    for axis in (0, 2):
        count = inside.shape[axis]
        first, second = ([np.take(a, range(s, count - 1 + s), axis) for a in (inside, rest)] for s in (0, 1))
        both = first[0] & second[0]
        out.append(float(np.corrcoef(first[1][both], second[1][both])[0, 1]))
    return [round(value, 2) for value in out]


def _pooled(patients: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    """Mean over the patients of every number of a tissue."""
    ours = [patient[name] for patient in patients if name in patient]
    return {key: np.mean([o[key] for o in ours], axis=0) for key in ours[0]} if ours else None


def _alike(ours: dict[str, Any], real: dict[str, Any]) -> tuple[float, float]:
    """Overlap of the two histograms and their Kolmogorov-Smirnov distance, medians laid on each other."""
    shift = round((real["percentiles"][2] - ours["percentiles"][2]) / float(EDGES[1] - EDGES[0]))
    a, b = np.roll(ours["histogram"], shift), np.asarray(real["histogram"])
    return float(np.minimum(a, b).sum()), float(np.abs(np.cumsum(a - b)).max())


def hounsfield_part(content: dict[str, Any]) -> str:
    """The section of the page."""
    scans = {name: scan["hu"] for name, scan in content["real"].items() if scan["hu"]}
    head = ["tissue", "of", "mean +- sd", *(f"p{p}" for p in PERCENTILES), "noise", "x", "z", "off", "sd x"]
    head += ["overlap", "KS"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name in (*TISSUES, _BODY):
        ours = _pooled(content["hu"], name)
        if ours is None:
            continue
        title = name.lower().replace("_", " ")
        spread = np.std([patient[name]["mean"] for patient in content["hu"] if name in patient])
        lines.append(_row(title, f"procedural (means +- {spread:.0f})", ours, ""))
        for scan, found in scans.items():
            if name in found:
                overlap, distance = _alike(ours, found[name])
                off = (ours["mean"] - found[name]["mean"]) / found[name]["sd"]
                alike = f"{off:+.2f} | {ours['sd'] / found[name]['sd']:.2f} | {overlap:.2f} | {distance:.2f}"
                lines.append(_row("", scan, found[name], alike))
        if name in WITHOUT_CONTRAST:
            lines.append(f"| | without contrast | {WITHOUT_CONTRAST[name]} |" + " |" * (len(head) - 3))
    return "\n".join(lines) + "\n"


def _row(title: str, of: str, hu: dict[str, Any], alike: str) -> str:
    cells = [title, of, f"{hu['mean']:.0f} +- {hu['sd']:.0f}", *(f"{p:.0f}" for p in hu["percentiles"])]
    cells += [f"{hu['noise'][0]:.0f}", f"{hu['noise'][1]:.2f}", f"{hu['noise'][2]:.2f}", alike or " | | | "]
    return "| " + " | ".join(cells) + " |"


def picture_hounsfield(content: dict[str, Any], axes: Any) -> None:
    """Histograms of the tissues on a row of axes: ours in green, the scans in SCAN_COLOURS."""
    centre = 0.5 * (EDGES[1:] + EDGES[:-1])
    for ax, name in zip(axes, ("SUBCUTANEOUS_FAT", "MUSCLE", "LIVER", "TRABECULAR_BONE", "LUNG"), strict=False):
        for patient in content["hu"]:
            if name in patient:
                ax.plot(centre, patient[name]["histogram"], color="tab:green", linewidth=0.5)
        scans = [(label, scan["hu"][name]) for label, scan in content["real"].items() if name in scan["hu"]]
        for number, (label, hu) in enumerate(scans):
            ax.plot(centre, hu["histogram"], color=SCAN_COLOURS[number % len(SCAN_COLOURS)], linewidth=1.2, label=label)
        low, high = np.percentile(
            [[p[name]["percentiles"][0], p[name]["percentiles"][4]] for p in content["hu"]], [0, 100]
        )
        ax.set_xlim(low - 1.2 * (high - low), high + 1.2 * (high - low))
        ax.set_title(f"HU of {name.lower().replace('_', ' ')} (green: procedural)", fontsize=7)
        ax.tick_params(labelsize=7)
        ax.legend(fontsize=6)
