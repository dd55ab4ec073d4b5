"""24 seeded patients, and the findings, on one sheet each: `python benchmarks/patient_gallery.py`.

docs/gallery/patients.png: axial CT at L3, median sagittal CT, the frame of a standard plane (six planes in turn).
docs/gallery/findings.png: the plane of the CT and a frame that shows each kind of finding.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy import ndimage

from sonogym.anatomy import Tissue
from sonogym.anatomy.anatomy import Anatomy
from sonogym.anatomy.patients import make_procedural
from sonogym.anatomy.planes import plane_pose, skin_pose
from sonogym.geometry import Pose
from sonogym.ultrasound.frame import RenderConfig
from sonogym.ultrasound.renderer import Renderer

GALLERY = Path(__file__).parents[1] / "docs" / "gallery"
SEEDS = range(1100, 1124)  # the first 24 of the test split
PLANES = ("transverse_L4", "sagittal_L3", "kidney_right_long", "liver", "aorta_transverse", "spleen")
FINDINGS = {  # seed: the direction from the finding to the probe (right, forward, up)
    1300: (0.8, -0.6, 0.0), 1301: (0.4, 0.9, 0.0), 1302: (-0.75, -0.66, 0.0), 1303: (0.9, 0.3, 0.0),
    1304: (-0.75, -0.66, 0.0), 1305: (0.0, 1.0, 0.0), 1306: (0.0, -1.0, 0.0), 1307: (0.0, -1.0, 0.0),
    1308: (0.0, -1.0, 0.0), 1309: (0.9, 0.4, 0.0),
}  # fmt: skip
TISSUES = {  # of what is shown where it is largest; the others at their landmark
    "renal_cyst": Tissue.FLUID, "gallstones": Tissue.STONE, "kidney_stone": Tissue.STONE,
    "hydronephrosis": Tissue.FLUID, "pleural_effusion": Tissue.FLUID,
}  # fmt: skip
UP = torch.tensor([0.0, 0.0, 1.0])
HEIGHT = 150  # pixels
SPACING, WINDOW = 2.5e-3, (-200.0, 300.0)


def ct_tile(anatomy: Anatomy, landmark: str, axis: int, tissue: Tissue | None = None) -> Image.Image:
    """The CT slice across ``axis`` through a landmark, or where most of the ``tissue`` that lies there is."""
    ct = anatomy.ct.voxels[0].numpy()
    point = torch.cat([anatomy.landmarks[landmark].double(), torch.ones(1, dtype=torch.float64)])
    voxel = (anatomy.ct.voxel_from_patient.double() @ point)[:3].numpy()
    if tissue is not None:
        voxel = _fullest(anatomy.labels.voxels[0].numpy() == tissue, voxel)
    plane = np.take(ct, int(np.clip(round(voxel[axis]), 0, ct.shape[axis] - 1)), axis).T[::-1]
    grey = np.clip((plane - WINDOW[0]) / (WINDOW[1] - WINDOW[0]) * 255.0, 0, 255).astype(np.uint8)
    return _fitted(Image.fromarray(grey))


def _fullest(mask: np.ndarray, voxel: np.ndarray) -> np.ndarray:
    """Along each axis the slice that holds most of the connected part of a mask nearest to a voxel."""
    parts, _ = ndimage.label(mask)
    points = np.argwhere(mask)
    nearest = points[np.argmin(((points - voxel) ** 2).sum(axis=1))]
    part = np.argwhere(parts == parts[tuple(nearest)])
    return np.array([np.bincount(part[:, axis]).argmax() for axis in range(3)])


def frame_tile(anatomy: Anatomy, pose: Pose) -> Image.Image:
    """The C5-2v frame, pressed 5 mm."""
    config = RenderConfig(
        lines=160, samples=400, pitch=SPACING, outputs=("image",), image_size=(HEIGHT * 2, HEIGHT * 3)
    )
    pressed = pose @ Pose(torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 5e-3]))
    frame = Renderer([anatomy], "C5-2v", config).render(pressed.unsqueeze(0), torch.zeros(1, dtype=torch.long))
    assert frame.image is not None
    return _fitted(Image.fromarray(frame.image[0, 0].numpy()))


def _fitted(image: Image.Image) -> Image.Image:
    return image.resize((round(image.width * HEIGHT / image.height), HEIGHT), Image.Resampling.BILINEAR)


def sheet(entries: list[tuple[str, list[Image.Image]]], columns: int, path: Path) -> None:
    """Entries (a line of text over tiles side by side) in columns, written as a PNG of 64 greys."""
    width = max(sum(tile.width + 2 for tile in tiles) for _, tiles in entries)
    height = HEIGHT + 12
    out = Image.new("L", (columns * width, -(-len(entries) // columns) * height))
    for n, (text, tiles) in enumerate(entries):
        x, y = (n % columns) * width, (n // columns) * height
        ImageDraw.Draw(out).text((x + 2, y), text, fill=220)
        for tile in tiles:
            out.paste(tile, (x, y + 12))
            x += tile.width + 2
    out.quantize(64).save(path, optimize=True)


def patients() -> list[tuple[str, list[Image.Image]]]:
    """The 24 patients."""
    entries = []
    for n, seed in enumerate(SEEDS):
        anatomy, plane = make_procedural(seed, SPACING), PLANES[n % len(PLANES)]
        tiles = [ct_tile(anatomy, "vertebra_L3", 2), ct_tile(anatomy, "vertebra_L3", 0)]
        tiles.append(frame_tile(anatomy, plane_pose(anatomy, plane)))
        facts = anatomy.facts
        entries.append((f"test/{n}: {facts['sex']}, {facts['age']:.0f} y, BMI {facts['bmi']:.0f}, {plane}", tiles))
        print(entries[-1][0], flush=True)
    return entries


def findings() -> list[tuple[str, list[Image.Image]]]:
    """One patient for each kind of finding."""
    entries = []
    for seed, outward in FINDINGS.items():
        anatomy = make_procedural(seed, SPACING)
        truth = _due(anatomy, seed)
        name = f"finding_{truth['name']}"
        tissue = TISSUES.get(str(truth["name"]))
        tiles = [ct_tile(anatomy, name, axis, tissue) for axis in (2, 1)]
        pose = skin_pose(anatomy.skin, anatomy.landmarks[name], torch.tensor(outward), UP)
        tiles.append(frame_tile(anatomy, pose))
        words = (f"{key} {value:.3g}" if isinstance(value, float) else f"{value}" for key, value in truth.items())
        entries.append((f"findings/{seed - 1300}: {', '.join(words)}", tiles))
        print(entries[-1][0], flush=True)
    return entries


def main() -> None:
    torch.set_num_threads(1)
    GALLERY.mkdir(parents=True, exist_ok=True)
    sheet(patients(), 3, GALLERY / "patients.png")
    sheet(findings(), 2, GALLERY / "findings.png")


def _due(anatomy: Anatomy, seed: int) -> dict[str, object]:
    from sonogym.anatomy.patients.drawing import PREVALENCE

    name = tuple(PREVALENCE)[(seed - 1300) % len(PREVALENCE)]
    return next(truth for truth in anatomy.facts["findings"] if truth["name"] == name)


if __name__ == "__main__":
    main()
