"""Haze: its level, decay and stillness."""

import dataclasses

import numpy as np
import pytest
import torch
from laboratory import BACKENDS, BARE, probe_at, rows_between

from sonogym.anatomy.phantoms import homogeneous, phantom_pose
from sonogym.anatomy.tissues import Tissue
from sonogym.errors import InvalidInputError
from sonogym.ultrasound.downshift import level_gain
from sonogym.ultrasound.frame import RenderConfig, RenderParams
from sonogym.ultrasound.long_paths import HAZE_DECAY
from sonogym.ultrasound.renderer import Renderer

ENVS = 3


def _frames(backend, clutter, noise_seed=0, **change):
    settings = {**BARE, "lines": 64, "samples": 256, "depth": 0.06, **change}
    config = RenderConfig(outputs=("envelope",), backend=backend, **settings)
    renderer = Renderer([homogeneous(Tissue.GEL, 2e-3)], probe_at(5.0), config)
    pose = phantom_pose().unsqueeze(0)
    poses = type(pose)(pose.quaternion.expand(ENVS, 4), pose.translation.expand(ENVS, 3))
    params = dataclasses.replace(
        RenderParams.default(ENVS),
        clutter=torch.tensor(clutter),
        speckle_seed=torch.arange(ENVS) + 1,
        noise_seed=torch.arange(ENVS) + noise_seed,
    )
    return renderer.render(poses, torch.zeros(ENVS, dtype=torch.long), params)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("samples", "downshift"), [(256, False), (512, False), (256, True)])
def test_haze_has_its_level_relative_to_liver_and_falls_with_depth(backend, samples, downshift):
    """RMS = 10^(clutter/20) exp(-r/HAZE_DECAY) x echo of liver (.5 dB/cm/MHz), +- .6 dB; gel adds nothing."""
    frame = _frames(backend, [-20.0, -20.0, -10.0], samples=samples, downshift=downshift)
    depth, power = frame.depth.double().numpy(), frame.envelope.double().numpy() ** 2
    for low, high in ((0.004, 0.02), (0.035, 0.055)):
        rows = rows_between(depth, low, high)
        law = np.exp(-depth / HAZE_DECAY) * 10 ** (-2 * 50 * 5.0 * depth / 20)
        law *= level_gain(probe_at(5.0), torch.from_numpy(depth)).numpy() if downshift else 1.0
        got = 10 * np.log10((power[:, rows] / law[rows, None] ** 2).mean(axis=(1, 2)))
        assert got == pytest.approx([-20.0, -20.0, -10.0], abs=0.6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_haze_stands_still_while_the_noise_changes(backend):
    a, b = (_frames(backend, [-20.0, -20.0, -20.0], seed).envelope for seed in (0, 50))
    assert torch.equal(a, b)
    assert not torch.equal(a[0], a[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_haze_is_the_default_and_touches_no_other_environment(backend):
    off = float("-inf")
    plain, one = (_frames(backend, levels, noise=True).beam for levels in ([off, off, off], [off, -10.0, off]))
    assert torch.equal(plain[0], one[0])
    assert torch.equal(plain[2], one[2])
    assert not torch.equal(plain[1], one[1])
    assert RenderParams.default(2).clutter is None


def test_absurd_haze_is_refused():
    for level in (60.0, float("nan")):
        with pytest.raises(InvalidInputError, match="clutter"):
            dataclasses.replace(RenderParams.default(1), clutter=torch.tensor([level]))
