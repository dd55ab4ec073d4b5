"""Comet tails: what bounces within a thin strong reflector follows it as a train of decaying echoes."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from laboratory import BACKENDS, peak, probe_at, render

from sonogym.anatomy.phantoms import layers, phantom, plate
from sonogym.anatomy.tissues import Tissue
from sonogym.ultrasound import renderer
from sonogym.ultrasound.acoustics import load_acoustics_table
from sonogym.ultrasound.long_paths import COMET_REACH

TABLE = load_acoustics_table()
STEEL, THICKNESS, DEPTH = Tissue.METAL, 2e-3, 0.012
SPEED, DENSITY, LOSS = (float(column[STEEL]) for column in (TABLE.speed, TABLE.density, TABLE.attenuation))
VIEW = {"lines": 32, "samples": 600, "depth": 0.018, "pitch": 2e-4}


@pytest.fixture
def steel(monkeypatch):
    """Fluid and smooth metal without scatter."""
    silent = torch.zeros_like(TABLE.scatter)
    table = dataclasses.replace(TABLE, scatter=silent, diffuse=silent)
    monkeypatch.setattr(renderer, "load_acoustics_table", lambda *name: table)


def echoes(anatomy, backend, comet_tails, **change):
    """Mean of the middle lines' signal (samples,), and where it lies below the steel's front face [m]."""
    view = {**VIEW, **change}
    frame = render(anatomy, probe_at(15.0, "L11-5v"), backend=backend, comet_tails=comet_tails, outputs=("iq",), **view)
    middle = view["lines"] // 2
    signal = frame.iq.real.double().numpy()[0, :, middle - 2 : middle + 2].mean(axis=1)
    return signal, frame.depth.double().numpy() - DEPTH * 1540.0 / float(TABLE.speed[Tissue.FLUID])


def steel_plate(thickness=THICKNESS):
    return layers((DEPTH, thickness), (Tissue.FLUID, STEEL, Tissue.FLUID), 2e-4, (0.012, 0.02, 0.004))


def closed_form(order, thickness=THICKNESS):
    """Height of the m-th bounce over the front face's echo, and its place: (1 - R^2) T (R^2 T)^m at (m + 1) d c0/c."""
    z1 = float(TABLE.speed[Tissue.FLUID] * TABLE.density[Tissue.FLUID])
    r = (SPEED * DENSITY - z1) / (SPEED * DENSITY + z1)
    through = 10 ** (-2 * LOSS * 15.0 * thickness / 20)
    return (1 - r * r) * through * (r * r * through) ** order, (order + 1) * thickness * 1540.0 / SPEED


@pytest.mark.parametrize("backend", BACKENDS)
def test_bounces_lie_and_fall_as_the_closed_form_says(steel, backend):
    signal, below = echoes(steel_plate(), backend, True)
    step, front = below[1] - below[0], peak(signal[np.abs(below) < 2e-4], below[1] - below[0])[0]
    for order in range(6):
        height, place = closed_form(order)
        near = np.abs(below - place) < 2e-4
        found, at, _ = peak(signal[near], step)
        assert found / front == pytest.approx(height, rel=0.05), order
        assert below[near][0] + at == pytest.approx(place, abs=0.03e-3 * (order + 1)), order


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_them_only_the_two_faces_return(steel, backend):
    signal, below = echoes(steel_plate(), backend, False)
    first, second = closed_form(0)[1], closed_form(1)[1]
    assert np.abs(signal[below > 0.5 * (first + second)]).max() < 1e-3 * signal.max()
    plain, _ = echoes(steel_plate(), backend, False, reverberation=False)
    assert np.array_equal(plain, signal)


def test_thick_plates_have_none(steel):
    """Bounces farther apart than COMET_REACH are no tail."""
    thick = 1.2 * COMET_REACH * SPEED / 1540.0
    anatomy = layers((0.004, thick), (Tissue.FLUID, STEEL, Tissue.FLUID), 4e-4, (0.012, 0.03, 0.004))
    view = {"pitch": 4e-4, "samples": 500}
    assert np.array_equal(*(echoes(anatomy, "numba", on, **view)[0] for on in (True, False)))


def test_only_lines_through_the_reflector_have_a_tail(steel):
    narrow = plate(DEPTH, THICKNESS, 6e-3, Tissue.FLUID, STEEL, 2e-4, (0.02, 0.02, 0.004))
    with_tail, without = (
        render(narrow, "L11-5v", comet_tails=on, outputs=("envelope",), **VIEW).envelope.numpy()[0]
        for on in (True, False)
    )
    changed = np.flatnonzero(np.abs(with_tail - without).max(axis=0) > 1e-3 * without.max())
    pitch = 128 * 0.3e-3 / 31
    assert 1 <= len(changed) <= math.ceil(6e-3 / pitch) + 4
    assert abs(changed.mean() - 15.5) <= 1.0


def test_both_paths_agree(steel):
    narrow = plate(DEPTH, THICKNESS, 6e-3, Tissue.FLUID, STEEL, 4e-4, (0.02, 0.02, 0.004))
    view = {**VIEW, "pitch": 4e-4, "samples": 200, "planes": 3, "comet_tails": True, "outputs": ("envelope",)}
    fused, reference = (render(narrow, "L11-5v", backend=name, **view).envelope.numpy() for name in BACKENDS)
    plain = render(narrow, "L11-5v", **{**view, "comet_tails": False}).envelope.numpy()
    assert np.abs(fused - plain).max() > 0.05 * fused.max()
    assert np.abs(fused - reference).max() < 2e-3 * fused.max()


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_reflects_all_leaves_nothing_to_bounce(backend):
    """Metal met at 35 degrees, beyond its critical angle of 16: behind it 0 / 0 once filled the frame."""

    def inside(points):
        across = (points[..., 1] - DEPTH) * math.cos(0.61) - points[..., 0] * math.sin(0.61)
        return (across >= 0) & (across < 1.2e-3)

    needle = phantom("needle", Tissue.MUSCLE, [(STEEL, inside)], 4e-4, (0.02, 0.02, 0.004))
    view = {**VIEW, "samples": 200, "pitch": 4e-4, "backend": backend, "outputs": ("envelope",)}
    with_tail, without = (render(needle, "L11-5v", comet_tails=on, **view).envelope for on in (True, False))
    assert bool(with_tail.isfinite().all())
    assert float(with_tail.max()) < 1.5 * float(without.max())
