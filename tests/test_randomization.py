"""What is drawn of scanner and tissue: each draw does what its name says, in both paths, and can be replayed."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from sonogym.anatomy import phantoms
from sonogym.anatomy.tissues import TISSUE_COUNT, Tissue
from sonogym.envs.navigation import navigation_config
from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose
from sonogym.random import Streams
from sonogym.robot.surface_motion import SurfaceMotion
from sonogym.sim import randomization
from sonogym.sim.randomization import Randomization
from sonogym.sim.simulator import Simulator
from sonogym.sim.start_region import StartRegion
from sonogym.sim.state import put, take
from sonogym.ultrasound.acoustics import acoustics_from_table, load_acoustics_table
from sonogym.ultrasound.bake import bake
from sonogym.ultrasound.frame import RenderConfig, RenderParams
from sonogym.ultrasound.renderer import Renderer

SIZE = (0.12, 0.08, 0.05)
WIDE = Randomization.wide()
BEAMS = {"frequency_factors": WIDE.frequency_factors, "focus_factors": WIDE.focus_factors}
SMALL = {"lines": 32, "samples": 48, "depth": 0.08}
BARE = {"contact": False, "walls": False, "texture": False, "penumbra": False, "noise": False}


@pytest.fixture(scope="module")
def bodies():
    layered = (Tissue.SKIN, Tissue.SUBCUTANEOUS_FAT, Tissue.MUSCLE, Tissue.LIVER)
    return [
        bake(phantoms.layers((0.002, 0.01, 0.02), layered, 2e-3, SIZE), 2e-3),
        bake(phantoms.plate(0.04, 0.004, 0.02, spacing=2e-3, size=SIZE), 2e-3),
    ]


def streams(envs, seed=7, first=0):
    index = torch.arange(first, first + envs)
    return Streams(seed, index, torch.full_like(index, 3), torch.zeros_like(index))


def simulator(bodies, **config):
    renderer = Renderer(bodies, "C5-2v", RenderConfig(**{**SMALL, **BEAMS, **config}))
    return Simulator(renderer=renderer, motion=SurfaceMotion(skin=renderer.skin, press=5e-3), control_period=0.1)


def region(sim, patients):
    rows, columns = torch.linspace(-0.01, 0.01, 3), torch.linspace(-0.02, 0.02, 3)
    z, x = torch.meshgrid(rows, columns, indexing="ij")
    points = torch.stack((x, torch.zeros_like(x), z), dim=-1)
    lateral = torch.tensor([-1.0, 0.0, 0.0]).expand(patients, 3)
    return StartRegion(sim.motion, points.expand(patients, 3, 3, 3), lateral)


def looking_down(envs):
    pose = phantoms.phantom_pose().unsqueeze(0)
    return Pose(pose.quaternion.expand(envs, 4), pose.translation.expand(envs, 3))


def envelope(body, params, **config):
    renderer = Renderer([body], "flat75", RenderConfig(**{**SMALL, **BARE, **config, "outputs": ("envelope",)}))
    frame = renderer.render(looking_down(len(params.gain)), torch.zeros(len(params.gain), dtype=torch.long), params)
    return frame.envelope.double(), frame.depth.double()


def of_tissue(tissue, value, neutral, envs=1):
    table = torch.full((envs, TISSUE_COUNT), neutral)
    table[-1, tissue] = value
    return table


@pytest.mark.parametrize("planes", [1, 3])
def test_fused_path_equals_the_reference_under_every_draw(bodies, planes):
    sims = [simulator(bodies, backend=name, planes=planes) for name in ("numba", "reference")]
    params = WIDE.draw(streams(9), region(sims[0], 2))
    beams = [sim.render(sim.reset(params)).beam.int() for sim in sims]
    assert len(set(params.image.variant.tolist())) > 3
    assert float(((beams[0] - beams[1]).abs() <= 1).float().mean()) >= 0.999
    assert float(beams[0].float().std()) > 20


def test_logged_parameters_replay_the_frame_of_any_step(bodies):
    sim = simulator(bodies)
    state = sim.reset(WIDE.draw(streams(6), region(sim, 2)))
    for _ in range(3):
        state = sim.step(state, torch.tensor([0.02, 0.01, 0.3]).expand(6, 3))
    seen = sim.render(state).beam
    logged = take(state, torch.tensor([4]))
    assert torch.equal(simulator(bodies).render(logged).beam[0], seen[4])
    other = dataclasses.replace(logged.params.image, scatter_offset=logged.params.image.scatter_offset + 1.0)
    changed = dataclasses.replace(logged, params=dataclasses.replace(logged.params, image=other))
    assert not torch.equal(sim.render(changed).beam[0], seen[4])


def test_draw_of_an_environment_depends_on_no_other(bodies):
    start = region(simulator(bodies), 2)
    many, alone = WIDE.draw(streams(8), start), WIDE.draw(streams(1, first=5), start)
    for name, value in vars(alone.image).items():
        assert value is None or torch.equal(value[0], getattr(many.image, name)[5]), name
    assert torch.equal(alone.start.translation[0], many.start.translation[5])


def test_partial_reset_replaces_only_its_rows(bodies):
    start = region(simulator(bodies), 2)
    before, fresh = WIDE.draw(streams(4), start), WIDE.draw(streams(1, seed=99), start)
    after = put(before, torch.tensor([2]), fresh)
    assert torch.equal(after.image.attenuation_factor[2], fresh.image.attenuation_factor[0])
    for row in (0, 1, 3):
        assert torch.equal(after.image.attenuation_factor[row], before.image.attenuation_factor[row])


def test_draws_fill_their_ranges_and_tissues_vary_on_their_own(bodies):
    image = WIDE.draw(streams(400), region(simulator(bodies), 2)).image
    table = load_acoustics_table()
    attenuation = image.attenuation_factor * table.attenuation
    for tissue in Tissue:
        low, high, drawn = table.attenuation_low[tissue], table.attenuation_high[tissue], attenuation[:, tissue]
        assert low * 0.999 <= drawn.min() <= low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) <= drawn.max() <= high * 1.001
    assert image.scatter_offset.min() >= -WIDE.scatter
    assert image.scatter_offset.max() <= WIDE.scatter
    assert image.scatter_offset.std() == pytest.approx(WIDE.scatter / math.sqrt(3.0), rel=0.05)
    both = torch.cat((image.scatter_offset, image.attenuation_factor), dim=1).numpy()
    others = np.corrcoef(both.T) - np.eye(2 * TISSUE_COUNT)
    assert abs(others).max() < 0.25
    assert torch.bincount(image.variant, minlength=9).min() > 20
    assert image.clutter.aminmax() == pytest.approx(WIDE.clutter, abs=0.5)
    assert image.scatterers.log2().aminmax() == pytest.approx((0.0, 4.0), abs=0.05)
    assert float(image.scatterers.log2().mean()) == pytest.approx(2.0, abs=0.2)


def test_attenuation_is_drawn_from_the_table_that_the_renderer_reads(bodies, monkeypatch):
    table = load_acoustics_table()
    other = dataclasses.replace(table, attenuation_high=5.0 * table.attenuation)
    tables = {"default": table, "other": other}
    monkeypatch.setattr(randomization, "load_acoustics_table", lambda name="default": tables[name])
    drawn = [
        Randomization(attenuation=1.0, tissues=name).draw(streams(200), region(simulator(bodies), 2)).image
        for name in tables
    ]
    assert float(drawn[0].attenuation_factor[:, Tissue.LIVER].max()) == pytest.approx(1.2, abs=0.02)
    assert float(drawn[1].attenuation_factor[:, Tissue.LIVER].max()) == pytest.approx(5.0, abs=0.2)


def test_published_ranges_hold_the_table_and_are_read_in_its_units():
    table = load_acoustics_table()
    assert bool(
        (table.attenuation_low <= table.attenuation).all() & (table.attenuation <= table.attenuation_high).all()
    )
    assert (float(table.attenuation_low[Tissue.SKIN]), float(table.attenuation_high[Tissue.SKIN])) == (35.0, 100.0)
    assert float(table.attenuation_high[Tissue.LIVER]) == pytest.approx(60.0)


def test_defaults_draw_nothing_of_tissue_and_beam(bodies):
    image = Randomization().draw(streams(3), region(simulator(bodies), 2)).image
    assert image.scatter_offset is image.attenuation_factor is image.variant is None
    assert image.clutter is image.scatterers is None
    assert navigation_config().randomization == Randomization()
    assert navigation_config("randomized").randomization == WIDE


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_neutral_values_change_no_byte(bodies, backend):
    renderer = Renderer(bodies, "C5-2v", RenderConfig(backend=backend, **SMALL))
    plain = RenderParams.default(2)
    neutral = dataclasses.replace(
        plain, scatter_offset=torch.zeros(2, TISSUE_COUNT), attenuation_factor=torch.ones(2, TISSUE_COUNT)
    )
    frames = [renderer.render(looking_down(2), torch.arange(2), params).beam for params in (plain, neutral)]
    assert torch.equal(*frames)


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_scatter_offset_moves_its_tissue_by_as_many_decibels(backend):
    body = bake(phantoms.homogeneous(Tissue.LIVER, 2e-3, SIZE), 2e-3)
    offset = of_tissue(Tissue.LIVER, 4.0, 0.0, envs=2)
    params = dataclasses.replace(RenderParams.default(2), scatter_offset=offset)
    (plain, louder), depth = envelope(body, params, backend=backend)
    rows = depth > 0.02  # below the echo of the surface
    change = 20.0 * torch.log10(louder[rows] / plain[rows])
    assert float((change - 4.0).abs().max()) < 0.01


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_attenuation_factor_multiplies_the_slope(backend):
    body = bake(phantoms.homogeneous(Tissue.LIVER, 2e-3, SIZE), 2e-3)
    factor = of_tissue(Tissue.LIVER, 1.5, 1.0, envs=2)
    params = dataclasses.replace(RenderParams.default(2), attenuation_factor=factor)
    (plain, darker), depth = envelope(body, params, backend=backend)
    change = 20.0 * torch.log10(darker.square().mean(1).sqrt() / plain.square().mean(1).sqrt())
    rows = depth > 0.015
    slope = np.polyfit(depth[rows].numpy(), change[rows].numpy(), 1)[0]  # dB a metre of apparent depth
    megahertz = 1e-6 * Renderer([body], "flat75", RenderConfig(**SMALL)).transducer.center_frequency
    expected = -0.5 * 2.0 * 50.0 * megahertz**1.05 * (1555.0 / 1540.0)
    assert slope == pytest.approx(expected, rel=0.02)


def test_variant_is_the_probe_driven_at_that_frequency_and_focus(bodies):
    mixed = Renderer(bodies, "C5-2v", RenderConfig(**SMALL, **BEAMS))
    variant = torch.tensor([5, 0, 7, 5])
    params = dataclasses.replace(RenderParams.default(4), variant=variant, noise_seed=torch.arange(4))
    index = torch.tensor([0, 1, 1, 0])
    seen = mixed.render(looking_down(4), index, params).beam
    for env, number in enumerate(variant.tolist()):
        frequency, focus = WIDE.frequency_factors[number // 3], WIDE.focus_factors[number % 3]
        driven = mixed.transducer.driven(frequency, focus)
        assert driven.center_frequency == pytest.approx(3.57e6 * frequency)
        assert driven.transmit_focus == pytest.approx(0.07 * focus)
        one = dataclasses.replace(params[env : env + 1], variant=None)
        alone = Renderer(bodies, driven, RenderConfig(**SMALL)).render(looking_down(1), index[env : env + 1], one)
        assert torch.equal(alone.beam[0], seen[env])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Randomization(scatter=-1.0), "scatter must be in"),
        (lambda: Randomization(attenuation=50.0), "published range"),
        (lambda: Randomization(clutter=(-20.0, 60.0)), "clutter"),
        (lambda: Randomization(scatterers=(4.0, 1.0)), "scatterers"),
        (lambda: Randomization(frequency_factors=(3.5e6,)), "not Hz"),
        (lambda: RenderConfig(focus_factors=()), "at least one factor"),
        (lambda: Renderer([], "C5-2v", RenderConfig(frequency_factors=(2.0,))), "patient"),
        (lambda: dataclasses.replace(RenderParams.default(2), scatter_offset=torch.zeros(2, 3)), r"\(envs, tissues\)"),
        (
            lambda: dataclasses.replace(RenderParams.default(1), attenuation_factor=-torch.ones(1, TISSUE_COUNT)),
            "attenuation_factor must be >= 0",
        ),
    ],
)
def test_impossible_draws_are_refused(make, message):
    with pytest.raises(InvalidInputError, match=message):
        make()


def test_frequency_outside_the_band_and_unknown_variants_are_refused(bodies):
    with pytest.raises(InvalidInputError, match="outside its band"):
        Renderer(bodies, "C5-2v", RenderConfig(frequency_factors=(1.0, 1.5)))
    renderer = Renderer(bodies, "C5-2v", RenderConfig(**SMALL))
    params = dataclasses.replace(RenderParams.default(1), variant=torch.tensor([1]))
    with pytest.raises(InvalidInputError, match=r"variant must be in 0 \.\. 0"):
        renderer.render(looking_down(1), torch.tensor([0]), params)


def test_table_whose_value_lies_outside_its_range_is_refused():
    from sonogym.resources import read_toml

    table = read_toml("tissues", "default", "tissue table")
    table["tissue"]["SKIN"]["attenuation_high_db_cm_mhz"] = 0.5
    with pytest.raises(InvalidInputError, match=r"SKIN.*outside its own range"):
        acoustics_from_table(table, "mine")
