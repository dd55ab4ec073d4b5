"""Depth of bone, true depth and transmission against closed forms on layers (physics.md sections 4 and 9, V17)."""

import numpy as np
import pytest
import torch
from laboratory import BACKENDS, render

from sonogym.anatomy.phantoms import homogeneous, layers, plate
from sonogym.anatomy.tissues import Tissue
from sonogym.ultrasound.acoustics import load_acoustics_table

TABLE = load_acoustics_table()
VIEW = {"lines": 40, "samples": 240, "depth": 0.06, "pitch": 1e-3}
STEP = VIEW["depth"] / VIEW["samples"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_true_depth_is_apparent_depth_times_the_speed_of_each_layer(backend):
    """z = sum of thickness; shown at sum of thickness 1540 / c: inverted layer by layer, +- 1 step."""
    thickness = (0.015, 0.01)
    tissues = (Tissue.SUBCUTANEOUS_FAT, Tissue.MUSCLE, Tissue.LIVER)
    frame = render(layers(thickness, tissues), backend=backend, outputs=("true_depth",), **VIEW)
    speed = np.array([float(TABLE.speed[t]) for t in tissues])
    faces = np.cumsum([0.0, *thickness, 1.0])
    shown = np.cumsum([0.0, *(np.array([*thickness, 1.0]) * 1540 / speed)])
    expected = np.interp(frame.depth.numpy(), shown, faces)
    got = frame.true_depth[0].numpy()
    assert np.abs(got - expected[:, None]).max() <= 1.5 * STEP
    assert frame.labels is None
    assert np.abs(got[150] - frame.depth.numpy()[150]).min() > 2 * STEP


@pytest.mark.parametrize("backend", BACKENDS)
def test_first_bone_lies_at_its_true_depth_and_nowhere_beside_it(backend):
    """30 mm of fat are shown as 31.9 mm; the map tells 30 +- 1 step, and inf where no bone is met."""
    anatomy = plate(0.03, 0.005, width=0.02, background=Tissue.SUBCUTANEOUS_FAT)
    frame = render(anatomy, backend=backend, outputs=("bone_depth", "labels"), **VIEW)
    got = frame.bone_depth[0]
    assert got.shape == (40,)
    x = frame.line_position.abs()
    inner, outer = got[x < 0.008], got[x > 0.012]
    assert float((inner - 0.03).abs().max()) <= 2 * STEP
    assert bool(torch.isinf(outer).all())
    shown = frame.depth[(frame.labels[0] == Tissue.CORTICAL_BONE).int().argmax(0)[20]]
    assert float(shown) == pytest.approx(0.03 * 1540 / 1450, abs=2 * STEP)


@pytest.mark.parametrize("backend", BACKENDS)
def test_trabecular_bone_counts_and_soft_tissue_does_not(backend):
    bone = homogeneous(Tissue.TRABECULAR_BONE, 2e-3)
    assert float(render(bone, backend=backend, outputs=("bone_depth",), **VIEW).bone_depth.max()) < 2 * STEP
    soft = homogeneous(Tissue.CARTILAGE, 2e-3)
    assert bool(render(soft, backend=backend, outputs=("bone_depth",), **VIEW).bone_depth.isinf().all())


@pytest.mark.parametrize("backend", BACKENDS)
def test_confidence_is_the_two_way_transmission_of_the_path(backend):
    """10^(-2 alpha z / 20) times 1 - R^2 at the interface, +- .3 dB."""
    pair = (Tissue.MUSCLE, Tissue.SUBCUTANEOUS_FAT)
    frame = render(layers((0.02,), pair), backend=backend, outputs=("transmission",), **VIEW)
    alpha = TABLE.decibels_per_metre(5e6)[list(pair)].tolist()
    z = TABLE.impedance[list(pair)].tolist()
    r = (z[1] - z[0]) / (z[1] + z[0])
    for apparent in (0.01, 0.05):
        at = int(apparent / STEP)
        above = min(apparent * float(TABLE.speed[pair[0]]) / 1540, 0.02)
        below = max(apparent - 0.02 * 1540 / float(TABLE.speed[pair[0]]), 0.0) * float(TABLE.speed[pair[1]]) / 1540
        law = -2 * (alpha[0] * above + alpha[1] * below) + (20 * np.log10(1 - r * r) if below else 0.0)
        got = 20 * np.log10(frame.transmission[0, at].mean().item())
        assert got == pytest.approx(law, abs=0.3)
