"""Echoes that met the probe's face again (physics.md section 4, V24), and all late echoes in both.

Mutations seen to fail: rho^m for rho^(m-1); one order of the two for i < j; r_i + r_j without the half sample; moduli
for complex products.
"""

import numba
import numpy as np
import pytest
import torch
from laboratory import BACKENDS, apparent, envelope, peak, reflection
from test_renderer import scattered_poses

from sonogym.anatomy import phantoms
from sonogym.anatomy.tissues import Tissue
from sonogym.ultrasound.acoustics import INTERFACE_LEVEL, load_acoustics_table
from sonogym.ultrasound.bake import bake
from sonogym.ultrasound.beam import beam_tables
from sonogym.ultrasound.frame import RenderConfig, RenderParams
from sonogym.ultrasound.kernel_reverberation import peak_arrays
from sonogym.ultrasound.kernel_reverberation import reverberate as fused_reverberate
from sonogym.ultrasound.long_paths import FACE_REFLECTION, LENS
from sonogym.ultrasound.propagation import put_pulses
from sonogym.ultrasound.renderer import Renderer
from sonogym.ultrasound.reverberation import reverberate
from sonogym.ultrasound.transducer import load_probe

TABLE = load_acoustics_table()
DEPTH = 0.012
VIEW = {"lines": 32, "samples": 512, "depth": 0.055, "pitch": 5e-4}
GRID = {"spacing": 5e-4, "size": (0.02, 0.03, 0.01)}


def medium(tissue):
    return float(TABLE.speed[tissue]), float(TABLE.density[tissue])


def _series(above, backend, **config):
    """Heights and places [m] of the echoes near m r, m = 1 .. 4, over a total reflection below ``above``."""
    anatomy = phantoms.layers((DEPTH,), (above, Tissue.AIR), **GRID)
    values, depth = envelope(anatomy, backend=backend, **VIEW, **config)
    profile, step, r = values[0, :, 6:-6].mean(axis=1), depth[1] - depth[0], DEPTH * 1540 / medium(above)[0]
    found = []
    for m in range(1, 5):
        rows = np.flatnonzero(abs(depth - m * r) < 2e-3)
        height, place, _ = peak(profile[rows] + 1e-12, step)
        found.append((height, depth[rows[0]] + place))
    return np.array(found).T, r, step


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("above", [Tissue.FLUID, Tissue.BLOOD], ids=lambda t: t.name)
def test_a_lines_lie_at_multiples_of_the_depth_and_decay(above, backend):
    """V24: m r +- 1 sample; a^m rho^(m-1), a with the attenuation to the reflector: m times its decibels in all."""
    (heights, places), r, step = _series(above, backend, reverberation=True)
    order = np.arange(1, 5)
    assert np.abs(places - order * r).max() <= step
    loss = 10 ** (-2 * DEPTH * float(TABLE.decibels_per_metre(5e6)[above]) / 20)
    a = loss * reflection(medium(above), medium(Tissue.AIR))
    expected = INTERFACE_LEVEL * a**order * FACE_REFLECTION ** (order - 1)
    assert 20 * np.log10(heights / expected) == pytest.approx(0.0, abs=0.4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_there_are_no_a_lines_when_switched_off(backend):
    """V24."""
    anatomy = phantoms.layers((DEPTH,), (Tissue.FLUID, Tissue.AIR), **GRID)
    values, depth = envelope(anatomy, backend=backend, **VIEW)
    assert values.max() > 100
    assert values[:, depth > 1.5 * DEPTH].max() < 1e-2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("coupling", [0.0, 0.5], ids=["air", "half"])
def test_a_dry_face_sees_its_lens_again_and_again(backend, coupling):
    """(1 - k) rho^m at m LENS, and the body below by k: 1/2 where gap + .5 ln(1 + e^(-gap/.5)) is .56 gel [mm]."""
    gel, gap = 2e-3, 0.03
    for _ in range(20 if coupling else 0):
        gap = 0.56 * gel - 5e-4 * np.log1p(np.exp(-gap / 5e-4))
    body = phantoms.layers((DEPTH,), (Tissue.FLUID, Tissue.AIR), **GRID)
    pose = phantoms.phantom_pose(press=-gap)
    view = {**VIEW, "samples": 2048, "lattice": 1e-4, "backend": backend, "contact": True}
    seen = []
    for switches in ({"reverberation": True}, {}):
        values, depth = envelope(body, pose=pose, params={"gel": torch.tensor([gel])}, **view, **switches)
        seen.append(values[0, :, 6:-6].mean(axis=1))
    step = depth[1] - depth[0]
    for m in range(1, 4):
        rows = np.flatnonzero(abs(depth - m * LENS) < 0.3 * LENS)
        height, place, _ = peak(seen[0][rows] + 1e-12, step)
        assert depth[rows[0]] + place == pytest.approx(m * LENS, abs=step)
        assert height == pytest.approx(INTERFACE_LEVEL * (1 - coupling) * FACE_REFLECTION**m, rel=0.05)
        assert seen[1][rows].max() < 0.1 * height, "off unless asked for"
    plate = np.flatnonzero(abs(depth - apparent(DEPTH, medium(Tissue.FLUID)[0]) - gap) < 2e-3)
    wet = envelope(body, pose=pose, params={"gel": torch.tensor([0.02])}, **view)[0][0, :, 6:-6].mean(axis=1)
    assert seen[1][plate].max() == pytest.approx(coupling * wet[plate].max(), rel=0.02, abs=1e-2)


@numba.njit
def _fused(echoes, splat, face, orders, nearest, peaks):
    """The kernel's function has no wrapper for Python."""
    fused_reverberate(echoes, splat, face, orders, nearest, peaks)


def _late(echoes, tables, backend):
    if backend == "reference":
        return reverberate(echoes, tables.splat, tables.paths)
    field, paths = echoes[:, 0].clone().numpy(), tables.paths
    late = (np.float32(paths.face), paths.orders, paths.nearest, peak_arrays(field.shape[2]))
    _fused(tuple(field), tables.splat.numpy(), *late)
    return torch.from_numpy(field)[:, None]


@pytest.fixture(scope="module")
def tables():
    config = RenderConfig(lines=8, samples=400, depth=0.05, reverberation=True)
    return beam_tables(load_probe("flat75"), config, TABLE)


def _placed(tables, peaks):
    """A field of one line among eight that holds pulses (row, complex height)."""
    echoes = torch.zeros(2, 1, 400, 8)
    zero = torch.zeros(1, dtype=torch.long)
    for row, height in peaks:
        put_pulses(
            echoes, tables.splat, (zero, zero + 3), torch.tensor([row]), torch.tensor([[height.real], [height.imag]])
        )
    return echoes


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_interfaces_echo_at_the_sum_of_their_depths(tables, backend):
    """2 rho a b at r_a + r_b, rho a^2 at 2 r_a, rho^2 a^3 at 3 r_a: complex products, places exact to 1/32 sample."""
    a, b, rho = 0.5 + 0.2j, 0.1 - 0.3j, FACE_REFLECTION
    first, second = 50.25, 130.5
    direct = [(first, a), (second, b)]
    expected = [*direct, (first + second + 0.5, 2 * rho * a * b)]
    for row, height in direct:
        expected += [(m * (row + 0.5) - 0.5, height**m * rho ** (m - 1)) for m in range(2, 9)]
    got = _late(_placed(tables, direct), tables, backend)
    assert float((got - _placed(tables, expected)).abs().max()) < 2e-4


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_the_four_strongest_reverberate_and_none_at_the_face(tables, backend):
    near = (1.0, 1.0 + 0j)
    strong = [(60.0 + 13 * i, 0.3 + 0.01 * i + 0j) for i in range(4)]
    weak = (40.0, 0.1 + 0j)
    added = _late(_placed(tables, [near, weak, *strong]), tables, backend) - _placed(tables, [near, weak, *strong])
    alone = _late(_placed(tables, strong), tables, backend) - _placed(tables, strong)
    assert float(alone.abs().max()) > 0.01
    assert float((added - alone).abs().max()) < 1e-5


@pytest.fixture(scope="module")
def bodies():
    size = (0.10, 0.08, 0.04)
    wall = (Tissue.SKIN, Tissue.SUBCUTANEOUS_FAT, Tissue.MUSCLE, Tissue.LUNG)
    return [
        bake(phantoms.layers((0.002, 0.008, 0.015), wall, 2e-3, size), 2e-3),
        bake(phantoms.plate(0.03, 0.01, 0.02, content=Tissue.AIR, spacing=2e-3, size=size), 2e-3),
        bake(phantoms.plate(0.02, 0.004, 0.02, spacing=2e-3, size=size), 2e-3),
    ]


@pytest.mark.parametrize("planes", [1, 3])
def test_fused_path_equals_the_reference_with_all_late_echoes(bodies, planes):
    """V31: <= 1 grey level on >= 99.9 % of pixels."""
    both = []
    params = RenderParams(**{**vars(RenderParams.default(6)), "clutter": torch.linspace(-40.0, 0.0, 6)})
    for backend in BACKENDS:
        late = {"reverberation": True, "ring_down": True, "downshift": True}
        config = RenderConfig(lines=64, samples=128, depth=0.1, planes=planes, backend=backend, **late)
        both.append(
            Renderer(bodies, "C5-2v", config).render(scattered_poses(6), torch.arange(6) % 3, params).beam.int()
        )
    assert float(((both[0] - both[1]).abs() <= 1).float().mean()) >= 0.999
    assert float(both[0].float().std()) > 20
