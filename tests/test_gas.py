"""The tail below gas (physics.md sections 4, 8 and 9, V15)."""

import numpy as np
import pytest
import torch
from laboratory import BACKENDS, flattened, level, probe_at, reflection, render, rows_between

from sonogym.anatomy.phantoms import homogeneous, layers, phantom_pose, plate
from sonogym.anatomy.tissues import Tissue
from sonogym.ultrasound.acoustics import INTERFACE_LEVEL, load_acoustics_table
from sonogym.ultrasound.long_paths import TAIL_DECAY, TAIL_LEVEL

TABLE = load_acoustics_table()
DEPTH = 0.02
VIEW = {"lines": 64, "samples": 384, "depth": 0.09}


def _root_mean_square(anatomy, backend="numba", seeds=1, **config):
    frame = render(anatomy, probe_at(3.5), seeds=seeds, backend=backend, **{**VIEW, **config})
    return np.sqrt((frame.envelope.double().numpy() ** 2).mean(axis=(0, 2))), frame.depth.double().numpy()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("gas", [Tissue.AIR, Tissue.LUNG], ids=lambda t: t.name)
def test_tail_is_what_the_gas_reflects_and_decays_with_apparent_depth(gas, backend):
    """TAIL_LEVEL A R exp(-d / TAIL_DECAY) in interface units, +- .5 dB."""
    got, depth = _root_mean_square(layers((DEPTH,), (Tissue.FLUID, gas)), backend, 4, ring_down=True)
    (c1, rho1), (c2, rho2) = ((float(TABLE.speed[t]), float(TABLE.density[t])) for t in (Tissue.FLUID, gas))
    surface = DEPTH * 1540 / c1
    arrives = 10 ** (-2 * DEPTH * float(TABLE.decibels_per_metre(3.5e6)[Tissue.FLUID]) / 20)
    law = TAIL_LEVEL * INTERFACE_LEVEL * arrives * reflection((c1, rho1), (c2, rho2))
    law = law * np.exp(-(depth - surface) / TAIL_DECAY)
    for low, high in ((0.03, 0.05), (0.06, 0.08)):
        rows = rows_between(depth, low, high)
        assert (20 * np.log10(got[rows] / law[rows])).mean() == pytest.approx(0.0, abs=0.5)


def test_tail_has_the_statistics_of_speckle():
    """Random phase: mean over deviation of the envelope is 1.91 +- .1."""
    frame = render(
        layers((DEPTH,), (Tissue.FLUID, Tissue.AIR)), probe_at(3.5), seeds=8, ring_down=True, **VIEW, lattice=1.4e-4
    )
    values = flattened(frame.envelope.double().numpy()[:, rows_between(frame.depth.numpy(), 0.03, 0.08)])
    assert values.mean() / values.std() == pytest.approx(1.91, abs=0.1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_lines_that_meet_gas_have_a_tail_and_only_below_it(backend):
    anatomy = plate(0.03, 0.01, width=0.03, content=Tissue.AIR)
    clear, gas = (
        render(anatomy, outputs=("iq",), backend=backend, ring_down=on, **VIEW).iq[0].abs() for on in (False, True)
    )
    changed = (clear != gas).numpy()
    depth = (np.arange(VIEW["samples"]) + 0.5) * VIEW["depth"] / VIEW["samples"]
    assert changed[depth > 0.033][:, 26:38].mean() > 0.99
    assert not changed[depth < 0.027].any()
    assert not changed[:, :12].any()
    assert not changed[:, -12:].any()
    bone = plate(0.03, 0.01, width=0.03)
    assert torch.equal(
        *(render(bone, outputs=("iq",), backend=backend, ring_down=on, **VIEW).iq for on in (False, True))
    )


def test_shadow_of_gas_holds_with_the_tail_off_and_the_tail_alone_lifts_it():
    """V15: >= 40 dB down behind gas with the tail off. On, what is seen there is the tail: within 1 dB of its law."""
    rows_low, rows_high = 0.06, 0.085
    gas = plate(0.03, 0.01, content=Tissue.AIR)
    clear, depth = _root_mean_square(homogeneous(), seeds=2)
    off, on = _root_mean_square(gas, seeds=2)[0], _root_mean_square(gas, seeds=2, ring_down=True)[0]
    rows = rows_between(depth, rows_low, rows_high)
    assert level(clear[rows]) - level(off[rows]) >= 40.0
    assert level(on[rows]) - level(off[rows]) > 20.0
    assert level(on[rows]) < level(clear[rows]) + 20.0


def test_tail_moves_with_the_tissue():
    """The probe moved sideways by whole lines sees the same tail there; another seed gives another."""
    anatomy = layers((DEPTH,), (Tissue.FLUID, Tissue.AIR))
    view = {"lines": 64, "samples": 256, "depth": 0.06, "ring_down": True}
    pitch = 0.075 / 63
    here, there = (render(anatomy, pose=phantom_pose(lateral=x), **view).envelope[0] for x in (0.0, 8 * pitch))
    assert _correlation(here[120:, 20:50], there[120:, 12:42]) > 0.95
    two = render(anatomy, seeds=2, **view).envelope
    assert abs(_correlation(*two[:, 120:])) < 0.15


def _correlation(first, second):
    """Of the log envelopes about the mean of their rows."""
    rows = [(v.log() - v.log().mean(dim=1, keepdim=True)).flatten() for v in (first, second)]
    return float(torch.corrcoef(torch.stack(rows))[0, 1])
