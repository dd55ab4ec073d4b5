"""The differentiable reference: gradients equal finite differences, and they find a pose and an attenuation.

Mutations seen to fail: squared lateral kernel without its norm; blended amplitude doubled.
"""

import dataclasses
import math

import pytest
import torch

from sonogym.anatomy import phantoms
from sonogym.anatomy.tissues import TISSUE_COUNT, Tissue
from sonogym.errors import InvalidInputError, UnknownNameError
from sonogym.geometry import Pose
from sonogym.ultrasound.acoustics import load_acoustics_table
from sonogym.ultrasound.bake import bake
from sonogym.ultrasound.beam import beam_tables
from sonogym.ultrasound.frame import RenderConfig, RenderParams
from sonogym.ultrasound.lines import trace_lines
from sonogym.ultrasound.reference import render_reference
from sonogym.ultrasound.renderer import Renderer
from sonogym.ultrasound.smooth import RULES

SIZE = (0.12, 0.085, 0.05)
SMALL = {"lines": 32, "samples": 48, "depth": 0.08, "outputs": ("decibels", "envelope")}
SMOOTH = {**SMALL, "sampling": "trilinear", "speckle": False}
IN_PLANE = torch.tensor([0, 2, 4])  # lateral, depth, turn about the elevation axis
MILLIMETRE_DEGREE = torch.tensor([1e-3] * 3 + [math.radians(1.0)] * 3)


def ellipsoid(centre, radii):
    return lambda points: (
        ((points - torch.tensor(centre).double()) / torch.tensor(radii).double()).square().sum(-1) <= 1
    )


@pytest.fixture(scope="module")
def body():
    shapes = [
        (Tissue.MUSCLE, lambda points: points[..., 1] > 0.008),
        (Tissue.LIVER, lambda points: points[..., 1] > 0.02 + 0.15 * points[..., 2] + 0.1 * points[..., 0]),
        (Tissue.BLOOD, ellipsoid((-0.012, 0.045, 0.004), (0.007, 0.009, 0.011))),
        (Tissue.KIDNEY_CORTEX, ellipsoid((0.018, 0.05, -0.006), (0.012, 0.009, 0.016))),
    ]
    return bake(phantoms.phantom("organs", Tissue.SUBCUTANEOUS_FAT, shapes, 1.5e-3, SIZE), 1.5e-3)


@pytest.fixture(scope="module")
def renderer(body):
    return Renderer([body], "C5-2v", RenderConfig(**SMOOTH))


def base_pose():
    """Off the voxel grid: no gradient may owe to symmetry."""
    nudge = torch.tensor([[0.0013, 0.0007, 0.0004, 0.03, -0.02, 0.04]])
    return phantoms.phantom_pose(press=0.004).unsqueeze(0) @ Pose.exp(nudge)


def repeated(pose, envs):
    return Pose(pose.quaternion.expand(envs, 4), pose.translation.expand(envs, 3))


def shown(renderer, pose, params=None):
    """Brightness in [0, 1] before rounding."""
    envs = len(pose.translation)
    level = renderer.render(pose, torch.zeros(envs, dtype=torch.long), params).decibels
    return (level / 60.0 + 1.0).clamp(0.0, 1.0)


def descend(loss, start, evaluations):
    """Gradient descent (L-BFGS) from ``start``."""
    value = start.clone().requires_grad_(True)
    optimiser = torch.optim.LBFGS([value], max_iter=evaluations, max_eval=evaluations, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        error = loss(value)
        error.backward()
        return error.detach()

    optimiser.step(closure)
    return value.detach()


@pytest.mark.parametrize("speckle", [True, False])
def test_gradients_equal_finite_differences(body, speckle):
    config = RenderConfig(lines=8, samples=24, depth=0.06, sampling="trilinear", speckle=speckle)
    single = Renderer([body], "C5-2v", config)
    probe = single.transducer
    tables = beam_tables(probe, config, load_acoustics_table()).to(torch.float64)
    near = base_pose()
    base = Pose(near.quaternion.double(), near.translation.double())

    def level(twist, gain, scatter, attenuation):
        neutral = torch.zeros(1, TISSUE_COUNT, dtype=torch.float64)
        params = dataclasses.replace(
            RenderParams.default(1),
            gain=gain,
            scatter_offset=neutral + scatter,
            attenuation_factor=neutral + attenuation,
        )
        lines = trace_lines(
            base @ Pose.exp(twist),
            torch.tensor([0]),
            params,
            probe,
            probe.scanlines(8),
            tables,
            single.voxels,
            (single.skin, single.bone),
        )
        return render_reference(single.voxels.flat, lines, tables, RULES["trilinear", speckle]).decibels

    twist = torch.zeros(1, 6, dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    inputs = tuple(value.requires_grad_(True) for value in (twist, one.clone(), 0.5 * one, 1.2 * one))
    assert torch.autograd.gradcheck(level, inputs, eps=1e-8, atol=1e-2, rtol=1e-3, fast_mode=True)
    parts = torch.autograd.grad(level(*inputs).sum(), inputs)
    assert all(bool(part.isfinite().all()) and float(part.abs().min()) > 0 for part in parts)


def test_expected_image_is_the_mean_over_scatterers(body, renderer):
    seeds = 24
    params = dataclasses.replace(
        RenderParams.default(seeds), speckle_seed=torch.arange(seeds), noise_seed=torch.arange(seeds)
    )
    drawn = Renderer([body], "C5-2v", RenderConfig(**SMALL, sampling="trilinear"))
    index = torch.zeros(seeds, dtype=torch.long)
    power = drawn.render(repeated(base_pose(), seeds), index, params).envelope.double().square().mean(0)
    expected = renderer.render(base_pose(), index[:1]).envelope.double()[0].square()
    excess = 10.0 * torch.log10(expected / power)
    bias = 10.0 / math.log(10.0) * float(math.log(seeds) - torch.digamma(torch.tensor(float(seeds))))
    assert float(excess.mean()) == pytest.approx(bias, abs=0.15)
    assert float(excess.std()) == pytest.approx(10.0 / math.log(10.0) / math.sqrt(seeds), rel=0.25)


def test_blending_tissue_keeps_the_level(body):
    index = torch.zeros(8, dtype=torch.long)
    params = dataclasses.replace(RenderParams.default(8), speckle_seed=torch.arange(8))
    blended, nearest = (
        Renderer([body], "C5-2v", RenderConfig(**SMALL, sampling=name, backend="reference"))
        .render(repeated(base_pose(), 8), index, params)
        .decibels
        for name in ("trilinear", "nearest")
    )
    assert float((blended - nearest).mean()) == pytest.approx(0.0, abs=0.3)


def test_pose_offset_of_two_millimetres_and_two_degrees_is_recovered(renderer):
    base = base_pose()
    with torch.no_grad():
        goal = shown(renderer, base)
    offset = torch.tensor([1.6, 1.2, -2.0])  # 2 mm, 2 degrees

    def loss(free):
        twist = torch.zeros(6).index_put((IN_PLANE,), free) * MILLIMETRE_DEGREE
        return 1e3 * (shown(renderer, base @ Pose.exp(twist[None])) - goal).square().mean()

    found = descend(loss, offset, 48)
    assert float(found[:2].norm()) < 0.2
    assert abs(float(found[2])) < 0.2


def test_attenuation_is_recovered_from_an_image_pair(renderer):
    def seen(factor):
        table = torch.ones(TISSUE_COUNT).index_put((torch.tensor([Tissue.LIVER]),), factor)
        params = dataclasses.replace(RenderParams.default(1), attenuation_factor=table[None])
        return shown(renderer, base_pose(), params)

    with torch.no_grad():
        goal = seen(torch.tensor([1.3]))
    found = descend(lambda factor: 1e3 * (seen(factor) - goal).square().mean(), torch.ones(1), 8)
    assert float(found) == pytest.approx(1.3, rel=0.02)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"sampling": "cubic"}, UnknownNameError, "trilinear"),
        ({"sampling": "trilinear", "backend": "numba"}, InvalidInputError, "reference"),
        ({"speckle": False}, InvalidInputError, "trilinear"),
        ({"sampling": "trilinear", "speckle": False, "outputs": ("iq",)}, InvalidInputError, "no phase"),
    ],
)
def test_impossible_samplings_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        RenderConfig(**settings)


def test_gradients_through_the_nearest_voxel_are_refused(body):
    params = dataclasses.replace(RenderParams.default(1), gain=torch.zeros(1, requires_grad=True))
    with pytest.raises(InvalidInputError, match="trilinear"):
        Renderer([body], "C5-2v", RenderConfig(**SMALL)).render(base_pose(), torch.tensor([0]), params)


def test_settings_that_change_the_way_tissue_is_read_take_hold_in_a_renderer_made_from_another():
    """``with_config`` once kept the kernel and the nearest voxel."""
    from sonogym.anatomy.phantoms import cyst, phantom_pose
    from sonogym.ultrasound.frame import RenderConfig
    from sonogym.ultrasound.renderer import Renderer

    config = RenderConfig(lines=16, samples=32, pitch=2e-3, outputs=("decibels",))
    plain = Renderer([cyst(spacing=2e-3)], "C5-2v", config)
    smooth = plain.with_config(dataclasses.replace(config, sampling="trilinear", speckle=False))
    pose, index = phantom_pose().unsqueeze(0), torch.zeros(1, dtype=torch.int64)
    assert smooth.backend == "reference"
    assert not torch.equal(smooth.render(pose, index).beam, plain.render(pose, index).beam)
