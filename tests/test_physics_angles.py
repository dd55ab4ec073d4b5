"""V13 in the frame: what a slanted interface returns, against Snell and the two impedances.

The law itself holds to 1 % (test_physics_interface); here the angle comes from voxels of .5 mm, on a third of the blur
of their order map. What is left is the staircase of the labels: each place is off by up to half a degree.
"""

import math
from dataclasses import replace

import pytest
import torch
from laboratory import BARE

from sonogym.anatomy.phantoms import phantom_pose, tilted
from sonogym.anatomy.tissues import Tissue
from sonogym.geometry import Pose
from sonogym.ultrasound.acoustics import load_acoustics_table
from sonogym.ultrasound.beam import beam_tables
from sonogym.ultrasound.frame import RenderConfig, RenderParams
from sonogym.ultrasound.lines import trace_lines
from sonogym.ultrasound.propagation import propagate
from sonogym.ultrasound.renderer import Renderer
from sonogym.ultrasound.transducer import load_probe

TABLE = load_acoustics_table()
ROUGH, DIFFUSE, WALL = 4, 5, 3  # columns of the interface table
PRESSES = (0.00013, 0.00089, 0.00162)  # m: no voxel centre lies on the plane, and no line
LINES, SAMPLES = 180, 400


def returned(degrees, above, below):
    """Mean reflection coefficient of the interface over lines and PRESSES, its lobe and diffuse part left out."""
    anatomy = tilted(0.0203, math.radians(degrees), above, below, spacing=5e-4, size=(0.03, 0.05, 0.006))
    config = RenderConfig(lines=LINES, samples=SAMPLES, depth=0.045, pitch=5e-4, backend="reference", **BARE)
    probe = replace(load_probe("L11-5v"), elements=60)
    renderer = Renderer([anatomy], probe, config)
    tables = beam_tables(probe, config, TABLE)
    tables.pair[..., [WALL, ROUGH, DIFFUSE]] = 0.0
    envs = len(PRESSES)
    index, params = torch.zeros(envs, dtype=torch.long), RenderParams.default(envs)
    pose = phantom_pose()
    place = pose.translation + torch.tensor(PRESSES)[:, None] * torch.tensor([0.0, 1.0, 0.0])
    poses = Pose(pose.quaternion.expand(envs, 4), place)
    lines = trace_lines(poses, index, params, probe, probe.scanlines(LINES), tables, renderer.voxels, None)
    field = propagate(renderer.voxels.flat, lines, tables)
    first = (field.labels == int(below)).int().argmax(1, keepdim=True)
    met = field.transmission.gather(1, first - 1)[:, 0] * lines.tissue[0, int(above), 1]
    near = (torch.arange(SAMPLES)[:, None] - first).abs() < 25
    echo = (field.echoes[0] * near).sum(1) / tables.splat[16].sum()
    return float((echo / met).mean())


def closed_form(degrees, above, below):
    angle = math.radians(degrees)
    (z1, z2), (c1, c2) = ([float(v[t]) for t in (above, below)] for v in (TABLE.impedance, TABLE.speed))
    sine = c2 / c1 * math.sin(angle)
    if sine >= 1.0:
        return 1.0
    behind = math.sqrt(1.0 - sine**2)
    return abs((z2 * math.cos(angle) - z1 * behind) / (z2 * math.cos(angle) + z1 * behind))


@pytest.mark.parametrize("degrees", [0, 15, 30, 45, 60])
def test_slanted_interface_returns_what_snell_and_the_impedances_say(degrees):
    pair = (Tissue.SUBCUTANEOUS_FAT, Tissue.MUSCLE)
    assert returned(degrees, *pair) == pytest.approx(closed_form(degrees, *pair), rel=0.01)


def test_bone_reflects_all_beyond_its_critical_angle():
    """asin(c1 / c2) = 27.26 degrees between muscle and bone."""
    pair = (Tissue.MUSCLE, Tissue.CORTICAL_BONE)
    critical = math.degrees(math.asin(float(TABLE.speed[pair[0]] / TABLE.speed[pair[1]])))
    assert critical == pytest.approx(27.26, abs=0.05)
    assert returned(critical - 5.0, *pair) == pytest.approx(closed_form(critical - 5.0, *pair), rel=0.01)
    assert returned(critical + 3.0, *pair) > 0.999
