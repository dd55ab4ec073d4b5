"""What a scan's Hounsfield units say of it: contrast agent, metal, the median of each structure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int16, UInt8
from scipy import ndimage

from sonogym.anatomy.tissues import Tissue

METAL_HU = 2500.0  # cortical bone ends about 2000
HIGHEST_HU = 3071.0  # of twelve bits, the scale of most scanners
ENHANCED = {"aorta": 130.0, "kidney_left": 100.0, "kidney_right": 100.0}  # HU; without contrast 43 and 30
ENHANCED_BLOOD = 5e-6  # m3 of bright vessels without a label
SMALLEST_METAL = 2e-8  # m3: less is noise, or the edge of dense bone


def structure_medians(
    ids: Int16[np.ndarray, "x y z"], names: Mapping[int, str], hu: Float[np.ndarray, "x y z"]
) -> dict[str, float]:
    """Median HU of each structure, the reference from which its density is told (contrast shifts it)."""
    boxes = dict(enumerate(ndimage.find_objects(ids), start=1))
    found = {names[i]: hu[box][ids[box] == i] for i, box in boxes.items() if box is not None and i in names}
    return {name: round(float(np.median(values)), 1) for name, values in found.items()}


def contrast_agent(medians: Mapping[str, float], tissue: UInt8[np.ndarray, "x y z"], spacing: float) -> str:
    """``yes``, ``no``, or ``probably`` (no labels, but vessels as bright as bone)."""
    known = [medians[name] > limit for name, limit in ENHANCED.items() if name in medians]
    if known:
        return "yes" if any(known) else "no"
    bright = float((tissue == Tissue.BLOOD).sum()) * spacing**3
    return "probably" if bright > ENHANCED_BLOOD else "unknown"


def find_metal(
    hu: Float[np.ndarray, "x y z"], body: Bool[np.ndarray, "x y z"], spacing: float
) -> Bool[np.ndarray, "x y z"]:
    """Voxels of the body brighter than any bone; none where they are too few to be an implant."""
    metal = (hu > METAL_HU) & body
    return metal if metal.sum() * spacing**3 >= SMALLEST_METAL else np.zeros_like(metal)


def problems_of(facts: Mapping[str, Any]) -> list[str]:
    """Sentences about what a user should know before trusting the patient."""
    problems = list(facts.get("landmarks_lost", []))
    if not facts["orientation_in_header"]:
        problems.append("the header names no orientation: left and right may be exchanged")
    if facts["skin_cut_percent"] > 0.5:
        problems.append(
            f"the field of view cuts {facts['skin_cut_percent']:g} % of the skin at the sides: no probe can stand "
            "there (red in the picture)"
        )
    if facts["metal_ml"]:
        problems.append(
            f"{facts['metal_ml']:g} ml of metal or undiluted contrast agent (above {METAL_HU:.0f} HU): taken "
            f"for metal where no label says blood, HU cut at {HIGHEST_HU:.0f}; streaks around it stay"
        )
    if max(facts["spacing_mm"]) > 2.0 * facts["grid_mm"]:
        problems.append(
            f"voxels are {max(facts['spacing_mm']):g} mm long: detail between them on the {facts['grid_mm']:g} mm grid "
            "is interpolated"
        )
    if facts["source"] is None:
        problems.append("no CT: Hounsfield units are those usual for each tissue, fat and muscle a guess by depth")
    if facts["labels"] is None:
        problems.append("no labels: air, lung, fat, soft tissue and bone by HU only")
    if facts["estimates"]:
        problems.append(
            "vertebrae and organs are estimates of the atlas, each with its confidence: compare them with the picture; "
            "--landmark NAME=X,Y,Z corrects them, and one vertebra settles the numbers of all"
        )
    elif facts["labels"] is None and not facts["landmarks_given"]:
        problems.append("no landmark is known and no spine was recognised: give landmarks to use the planes")
    return problems
