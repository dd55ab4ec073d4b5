"""Frames for docs/gallery: `python benchmarks/gallery.py [--real LABELLED_DIR UNLABELLED_DIR LABELS_ONLY_DIR]`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from PIL import Image

GALLERY = Path(__file__).parents[1] / "docs" / "gallery"
PATIENT = "procedural:test/7"
PROCEDURAL = (
    ("transverse_L4", "C5-2v"), ("transverse_L4", "L11-5v"), ("sagittal_L3", "C5-2v"), ("kidney_right_long", "C5-2v"),
    ("liver", "C5-2v"), ("liver", "L11-5v"), ("liver_kidney", "C5-2v"), ("aorta_transverse", "C5-2v"),
    ("gall_bladder", "C5-2v"), ("lung_right", "L11-5v"), ("spleen", "C5-2v"), ("aorta_long", "C5-2v"),
    ("liver", "P4-2v"),
)  # fmt: skip
LABELLED = (
    ("transverse_L2", "C5-2v"), ("transverse_L2", "L11-5v"), ("kidney_right_short", "C5-2v"), ("liver", "C5-2v"),
    ("liver", "L11-5v"), ("aorta_transverse", "C5-2v"), ("lung_right", "L11-5v"), ("transverse_L3", "C5-2v"),
)  # fmt: skip
UNLABELLED = (("transverse_L4", "C5-2v"), ("transverse_L4", "L11-5v"))
LABELS_ONLY = (("interlaminar_right_L3_L4", "C5-2v"), ("kidney_right_long", "C5-2v"))
OVERVIEW = tuple(
    f"procedural-{plane}-C5-2v" for plane in ("transverse_L4", "liver_kidney", "gall_bladder", "aorta_transverse")
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", nargs=3, help="folders of imported scans: labelled, unlabelled, labels only")
    options = parser.parse_args()
    GALLERY.mkdir(parents=True, exist_ok=True)
    jobs = [("procedural", PATIENT, *view) for view in PROCEDURAL]
    if options.real:
        jobs += [("ct", options.real[0], *view) for view in LABELLED]
        jobs += [("ct_only", options.real[1], *view) for view in UNLABELLED]
        jobs += [("labels", options.real[2], *view) for view in LABELS_ONLY]
    for source, patient, plane, probe in jobs:
        file = GALLERY / f"{source}-{plane}-{probe}.png"
        command = ["sonogym", "render", "--patient", patient, "--plane", plane, "--probe", probe, "--out", str(file)]
        if subprocess.run(command, check=False).returncode:
            print(f"no frame: {file.name}", file=sys.stderr)
    frames = [Image.open(GALLERY / f"{name}.png").convert("L") for name in OVERVIEW]
    height = min(frame.height for frame in frames)
    frames = [frame.resize((frame.width * height // frame.height, height)) for frame in frames]
    overview = Image.new("L", (sum(frame.width for frame in frames), height))
    for i, frame in enumerate(frames):
        overview.paste(frame, (sum(other.width for other in frames[:i]), 0))
    overview.save(GALLERY / "overview.png")


if __name__ == "__main__":
    main()
