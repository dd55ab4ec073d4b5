"""The rough part of an interface's echo: its level is that of the table, whatever the grid."""

import dataclasses

import numpy as np
import pytest
import torch
from laboratory import BACKENDS, BARE

from sonogym.anatomy.phantoms import layers, phantom_pose
from sonogym.anatomy.tissues import Tissue
from sonogym.ultrasound import renderer
from sonogym.ultrasound.acoustics import INTERFACE_LEVEL, load_acoustics_table
from sonogym.ultrasound.frame import RenderConfig, RenderParams
from sonogym.ultrasound.psf import axial_width

SEEDS = 48
TABLE = load_acoustics_table()
ROUGH = dataclasses.replace(
    TABLE,
    scatter=torch.zeros_like(TABLE.scatter),
    diffuse=torch.ones_like(TABLE.diffuse),
    attenuation=torch.zeros_like(TABLE.attenuation),
)
PLANE = layers((0.02,), (Tissue.FLUID, Tissue.MUSCLE), 1e-3, (0.06, 0.035, 0.03))


@pytest.fixture
def rough_tissues(monkeypatch):
    """Nothing scatters or attenuates, and every interface returns as much diffusely as specularly."""
    monkeypatch.setattr(renderer, "load_acoustics_table", lambda *name: ROUGH)


def diffuse_level(name, **config):
    """RMS over seeds of what differs from the mean echo, over the table's R [dB]."""
    settings = {**BARE, "pitch": 1e-3, "outputs": ("iq",), "lines": 128, "samples": 200, "depth": 0.03, **config}
    probe = renderer.Renderer([PLANE], name, RenderConfig(**settings))
    pose, words = phantom_pose(press=0.0104 if name == "C5-2v" else 0.0), torch.arange(SEEDS) + 1
    poses = type(pose)(pose.quaternion.expand(SEEDS, 4), pose.translation.expand(SEEDS, 3))
    params = dataclasses.replace(RenderParams.default(SEEDS), speckle_seed=words)
    iq = probe.render(poses, torch.zeros(SEEDS, dtype=torch.long), params).iq.numpy()
    middle, step = slice(3 * settings["lines"] // 8, 5 * settings["lines"] // 8), 0.03 / settings["samples"]
    pulse = max(axial_width(probe.transducer), 3.0 * step)
    energy = iq.var(axis=0)[20:, middle].sum(axis=0).mean() * step
    power = energy / (pulse * np.sqrt(np.pi / (8.0 * np.log(2.0))))  # of a Gaussian pulse of that width
    z = ROUGH.impedance
    normal = float((z[Tissue.MUSCLE] - z[Tissue.FLUID]) / (z[Tissue.MUSCLE] + z[Tissue.FLUID]))
    return 10.0 * np.log10(power / (INTERFACE_LEVEL * normal) ** 2)


@pytest.mark.parametrize("name", ["C5-2v", "L11-5v"])
@pytest.mark.parametrize(
    "change", [{"lines": 64}, {"lines": 256}, {"lines": 512}, {"planes": 3}, {"planes": 9}, {"samples": 400}], ids=str
)
def test_level_does_not_depend_on_the_grid(rough_tissues, name, change):
    """V6 of interfaces: RMS = diffuse x R at normal incidence, +- .5 dB."""
    assert diffuse_level(name, **change) == pytest.approx(0.0, abs=0.5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_paths_have_the_level(rough_tissues, backend):
    assert diffuse_level("L11-5v", lines=64, planes=3, backend=backend) == pytest.approx(0.0, abs=0.5)
