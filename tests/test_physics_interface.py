"""Laws of interfaces (physics.md section 9, V11-V14 and the golden coefficients of section 8)."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from laboratory import BACKENDS, envelope, peak, reflection, render, rows_between

from sonogym.anatomy.phantoms import layers, phantom_pose, tilted
from sonogym.anatomy.tissues import Tissue
from sonogym.ultrasound import bake, renderer
from sonogym.ultrasound.acoustics import INTERFACE_LEVEL, interface_table, load_acoustics_table
from sonogym.ultrasound.propagation import reflection as amplitude_of

TABLE = load_acoustics_table()
DEPTH = 0.02
VIEW = {"lines": 48, "depth": 0.03, "pitch": 5e-4}
GRID = {"spacing": 5e-4, "size": (0.02, 0.035, 0.01)}  # what lies beside the grid is held from its edge


def medium(tissue):
    return float(TABLE.speed[tissue]), float(TABLE.density[tissue])


def _echo(anatomy, backend="numba", samples=400, probe="flat75"):
    """Mean height of the echo near DEPTH over the middle lines, and its place [m]."""
    values, depth = envelope(anatomy, probe, backend=backend, samples=samples, **VIEW)
    rows = np.flatnonzero(rows_between(depth, DEPTH - 3e-3, DEPTH + 3e-3))
    step = depth[1] - depth[0]
    found = [peak(values[0, rows, line], step) for line in range(12, 36)]
    return np.mean([f[0] for f in found]), depth[rows[0]] + np.mean([f[1] for f in found])


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        (Tissue.SUBCUTANEOUS_FAT, Tissue.MUSCLE, 0.118),
        (Tissue.SUBCUTANEOUS_FAT, Tissue.KIDNEY_CORTEX, 0.108),
        (Tissue.MUSCLE, Tissue.CORTICAL_BONE, 0.592),
        (Tissue.GEL, Tissue.SKIN, 0.096),
        (Tissue.SKIN, Tissue.SUBCUTANEOUS_FAT, 0.159),
        (Tissue.MUSCLE, Tissue.AIR, 0.9995),
        (Tissue.LIVER, Tissue.BILE, 0.035),
    ],
)
def test_table_gives_the_published_reflection_coefficients(first, second, value):
    assert reflection(medium(first), medium(second)) == pytest.approx(value, abs=6e-4 if value < 0.9 else 1e-4)


def test_bone_is_met_at_its_critical_angle():
    ratio = float(TABLE.speed[Tissue.MUSCLE] / TABLE.speed[Tissue.CORTICAL_BONE])
    assert math.degrees(math.asin(ratio)) == pytest.approx(27.26, abs=0.02)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("second", [Tissue.BLOOD, Tissue.BILE, Tissue.AIR], ids=lambda t: t.name)
def test_plane_echo_at_normal_incidence_is_the_reflection_coefficient(second, backend):
    """V12: closed form +- 1 %. The fluid above attenuates by its table value."""
    height, place = _echo(layers((DEPTH,), (Tissue.FLUID, second), **GRID), backend)
    loss = 10 ** (-2 * DEPTH * float(TABLE.decibels_per_metre(5e6)[Tissue.FLUID]) / 20)
    expected = reflection(medium(Tissue.FLUID), medium(second)) * loss
    assert height / INTERFACE_LEVEL == pytest.approx(expected, rel=0.01)
    assert place == pytest.approx(DEPTH * 1540 / 1520, abs=1.5e-4)


@pytest.mark.parametrize("samples", [320, 500, 777])
def test_plane_echo_does_not_depend_on_the_step(samples):
    """V12: independence of the step, +- 1 %."""
    anatomy = layers((DEPTH,), (Tissue.FLUID, Tissue.BLOOD), **GRID)
    assert _echo(anatomy, samples=samples)[0] == pytest.approx(_echo(anatomy)[0], rel=0.01)


ANGLES = np.radians(np.arange(0.0, 60.5, 2.5))
PAIRS = [
    (Tissue.SUBCUTANEOUS_FAT, Tissue.MUSCLE),
    (Tissue.MUSCLE, Tissue.SUBCUTANEOUS_FAT),
    (Tissue.LIVER, Tissue.FLUID),
    (Tissue.FLUID, Tissue.AIR),
]


def _renderer_reflection(first, second, angles):
    pair = interface_table(TABLE, 0.1, walls=False)[first, second]
    return amplitude_of(torch.from_numpy(np.cos(angles)).float(), pair.expand(len(angles), 7))[0].double().numpy()


def _closed_form(first, second, angles):
    """Signed R, T, and Z1 cos tt / (Z2 cos ti) of two fluids; complex beyond the critical angle."""
    (c1, rho1), (c2, rho2) = medium(first), medium(second)
    below = np.sqrt(1 - (c2 / c1 * np.sin(angles)) ** 2 + 0j)
    a, b = rho2 * c2 * np.cos(angles), rho1 * c1 * below
    return (a - b) / (a + b), 2 * a / (a + b), b / a


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0].name}-{pair[1].name}")
def test_reflection_follows_the_closed_form_over_angle(pair):
    """V13: +- 1 % to 60 degrees (of the largest value, where R passes through zero)."""
    expected = np.abs(_closed_form(*pair, ANGLES)[0])
    assert np.abs(_renderer_reflection(*pair, ANGLES) - expected).max() <= 0.01 * expected.max()


def test_bone_reflects_totally_beyond_its_critical_angle():
    """V13: asin(c1/c2) +- .5 degrees; muscle to bone 27.26."""
    angles = np.radians(np.arange(20.0, 40.0, 0.05))
    total = _renderer_reflection(Tissue.MUSCLE, Tissue.CORTICAL_BONE, angles) >= 1.0
    assert math.degrees(angles[total.argmax()]) == pytest.approx(27.26, abs=0.5)
    assert bool(total[total.argmax() :].all())


@pytest.mark.parametrize(
    "pair", [*PAIRS, (Tissue.MUSCLE, Tissue.CORTICAL_BONE)], ids=lambda p: f"{p[0].name}-{p[1].name}"
)
def test_reflected_and_transmitted_energy_add_up(pair):
    """V14: R^2 + (Z1 cos tt / Z2 cos ti) T^2 = 1 +- 1e-5, R as rendered and T from the closed form."""
    angles = ANGLES[np.degrees(ANGLES) < 25]
    _, through, ratio = _closed_form(*pair, angles)
    energy = _renderer_reflection(*pair, angles) ** 2 + (ratio * through**2).real
    assert np.abs(energy - 1).max() <= 1e-5


@pytest.fixture
def twin_tissues(monkeypatch):
    """Nothing scatters, and the spleen has the impedance and speed of the liver."""
    speed, density = TABLE.speed.clone(), TABLE.density.clone()
    speed[Tissue.SPLEEN], density[Tissue.SPLEEN] = speed[Tissue.LIVER], density[Tissue.LIVER]
    table = replace(TABLE, speed=speed, density=density, scatter=torch.zeros_like(TABLE.scatter))
    monkeypatch.setattr(renderer, "load_acoustics_table", lambda *name: table)
    monkeypatch.setattr(bake, "load_acoustics_table", lambda *name: table)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("angle", [0.0, 20.0, 40.0])
def test_interface_between_equal_media_gives_no_echo(twin_tissues, angle, backend):
    """V11: < -80 dB of a total reflection at any angle; the same interface to bile shows."""
    brightest = []
    for below in (Tissue.SPLEEN, Tissue.BILE):
        anatomy = tilted(DEPTH, math.radians(angle), Tissue.LIVER, below, spacing=5e-4, size=(0.08, 0.035, 0.01))
        values, depth = envelope(anatomy, samples=400, backend=backend, **VIEW)
        rows = rows_between(depth, 0.004, 0.029)
        brightest.append(20 * np.log10(values[0, rows].max() / INTERFACE_LEVEL + 1e-30))
    assert brightest[0] < -80.0 < brightest[1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_face_of_a_plate_passes_what_it_does_not_reflect(backend):
    """What passes is 1 - R^2 once a face: transmission behind both faces of bone, its attenuation included."""
    thickness = 4e-3
    anatomy = layers((DEPTH, thickness), (Tissue.FLUID, Tissue.CORTICAL_BONE, Tissue.FLUID), **GRID)
    frame = render(anatomy, outputs=("transmission",), samples=400, backend=backend, **VIEW)
    alpha = TABLE.decibels_per_metre(5e6)
    r = reflection(medium(Tissue.FLUID), medium(Tissue.CORTICAL_BONE))
    before, behind = (int(np.argmin(np.abs(frame.depth.numpy() - place))) for place in (0.019, 0.026))
    passed = 20 * np.log10(frame.transmission.double().numpy()[0].mean(axis=1))
    expected = 2 * 20 * math.log10(1 - r * r) - 2 * thickness * float(alpha[Tissue.CORTICAL_BONE])
    assert passed[behind] - passed[before] == pytest.approx(expected, abs=1.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_interface_in_a_constant_order_map_is_met_squarely_at_any_pitch(backend):
    """On voxels of .025 mm the rounding of a constant map is no direction: the echo stays |R| +- 1 %."""
    baked = bake.bake(layers((DEPTH,), (Tissue.FLUID, Tissue.BLOOD), **GRID), 1e-3)
    voxels, shrink = baked.voxels.voxels.clone(), torch.diag(torch.tensor([1 / 40, 1 / 40, 1 / 40, 1.0]).double())
    voxels[1:3] = 201
    fine = replace(baked, voxels=replace(baked.voxels, voxels=voxels, patient_from_voxel=shrink @ _matrix(baked)))
    view = {"lines": 1024, "samples": 300, "depth": 0.005, "backend": backend}
    values, depth = envelope(fine, "flat75", pose=phantom_pose(elevation=3e-6), **view)
    heights = values[0, rows_between(depth, 3e-4, 1e-3)].max(axis=0)
    expected = reflection(medium(Tissue.FLUID), medium(Tissue.BLOOD)) * INTERFACE_LEVEL
    assert heights.mean() == pytest.approx(expected, rel=0.01)


def _matrix(baked):
    return baked.voxels.patient_from_voxel.double()


@pytest.mark.parametrize("backend", BACKENDS)
def test_plate_is_as_bright_on_the_outermost_lines(backend):
    values, depth = envelope(
        layers((DEPTH,), (Tissue.FLUID, Tissue.BLOOD), **GRID), samples=400, backend=backend, **VIEW
    )
    rows = rows_between(depth, DEPTH - 3e-3, DEPTH + 3e-3)
    heights = values[0, rows].max(axis=0)  # the diffuse part scatters them by some per cent; mirrored edges give 1.4
    assert heights == pytest.approx(np.median(heights), rel=0.12)
