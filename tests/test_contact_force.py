"""The force law. Golden numbers: the table of the design page, from an independent float64 prototype. Mutations seen to
fail: exp for expm1, d0 not clipped, area without root, damping added instead of multiplied, sign of the speed."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sonogym.errors import InvalidInputError
from sonogym.robot.contact_force import (
    Tissue,
    contact_force,
    indentation_for,
    require_tissue,
    stiffness_at,
    tissue_under,
)

WIDE, NARROW = 840e-6, 38e-3 * 5e-3
GOLDEN = [  # bone depth [mm]; d0 [mm]; indentation [mm] at 2, 5, 8, 30 N; stiffness [N/mm] at 5 N
    (20, 3.07, 3.4, 5.5, 6.7, 10.5, 1.96),
    (30, 4.0, 4.4, 7.2, 8.8, 13.7, 1.50),
    (45, 6.0, 6.6, 10.8, 13.2, 20.6, 1.00),
    (60, 8.0, 8.8, 14.3, 17.6, 27.5, 0.75),
    (80, 10.7, 11.7, 19.1, 23.4, 36.6, 0.56),
    (100, 12.0, 13.2, 21.5, 26.4, 41.2, 0.50),
]
bone = st.floats(0.01, 0.2)


def column(bone_depth, area=WIDE):
    return tissue_under(area, torch.tensor([bone_depth], dtype=torch.float64))


def newton(value):
    return torch.tensor([value], dtype=torch.float64)


@pytest.mark.parametrize(("bone_mm", "d0", "at2", "at5", "at8", "at30", "stiffness"), GOLDEN)
def test_table_of_the_design_page(bone_mm, d0, at2, at5, at8, at30, stiffness):
    tissue = column(bone_mm * 1e-3)
    assert 1e3 * tissue.depth.item() == pytest.approx(d0, abs=0.04)
    for force, expected in ((2, at2), (5, at5), (8, at8), (30, at30)):
        assert 1e3 * indentation_for(tissue, newton(float(force))).item() == pytest.approx(expected, abs=0.06)
        assert contact_force(tissue, newton(expected * 1e-3)).item() == pytest.approx(force, rel=0.02)
    assert 1e-3 * stiffness_at(tissue, newton(5.0)).item() == pytest.approx(stiffness, abs=0.006)


@pytest.mark.parametrize(("bone_mm", "at5", "stiffness"), [(30, 9.8, 1.37), (45, 14.7, 0.91), (100, 29.3, 0.46)])
def test_narrow_face_sinks_deeper(bone_mm, at5, stiffness):
    tissue = column(bone_mm * 1e-3, NARROW)
    assert tissue.force.item() == pytest.approx(0.48, abs=0.005)
    assert 1e3 * indentation_for(tissue, newton(5.0)).item() == pytest.approx(at5, abs=0.08)
    assert 1e-3 * stiffness_at(tissue, newton(5.0)).item() == pytest.approx(stiffness, abs=0.006)


@given(bone, st.floats(0.0, 40.0))
@settings(max_examples=50, deadline=None)
def test_inverse_gives_back_the_force(depth, force):
    tissue = column(depth)
    assert contact_force(tissue, indentation_for(tissue, newton(force))).item() == pytest.approx(force, abs=1e-9)


@given(bone, st.floats(0.1, 30.0))
@settings(max_examples=50, deadline=None)
def test_stiffness_is_the_slope_of_the_force(depth, force):
    tissue, step = column(depth), 1e-7
    delta = indentation_for(tissue, newton(force))
    slope = (contact_force(tissue, delta + step) - contact_force(tissue, delta - step)) / (2 * step)
    assert slope.item() == pytest.approx(stiffness_at(tissue, newton(force)).item(), rel=1e-5)


@given(bone)
@settings(max_examples=20, deadline=None)
def test_force_grows_with_indentation_and_is_soft_enough_for_a_body(depth):
    tissue = column(depth)
    force = contact_force(tissue, torch.linspace(0, 0.03, 300, dtype=torch.float64))
    assert force[0] == 0.0
    assert (force.diff() > 0).all()
    assert 0.3 <= 1e-3 * stiffness_at(tissue, newton(5.0)).item() <= 3.0


@given(st.floats(-0.1, 0.0), st.floats(-1.0, 1.0))
@settings(max_examples=20, deadline=None)
def test_air_pushes_nothing(indentation, speed):
    assert contact_force(column(0.04), newton(indentation), newton(speed)).item() == 0.0


@given(st.floats(0.0, 0.03), st.floats(-5.0, 5.0))
@settings(max_examples=50, deadline=None)
def test_tissue_never_pulls(indentation, speed):
    assert contact_force(column(0.04), newton(indentation), newton(speed)).item() >= 0.0


@pytest.mark.parametrize(("speed", "loss", "expected"), [(0.03, 0.0, 1.3), (0.03, 0.1, 1.4), (-0.03, 0.2, 0.5)])
def test_pressing_feels_more_than_rest_and_release_less(speed, loss, expected):
    """1 % for each mm/s, and the slow loss, which is fully there at 30 mm/s."""
    tissue, delta = column(0.04), newton(0.008)
    ratio = contact_force(tissue, delta, newton(speed), newton(loss)) / contact_force(tissue, delta)
    assert ratio.item() == pytest.approx(expected, abs=1e-3)


@given(bone, st.floats(1e-3, 0.015), st.floats(0.05, 5.0), st.floats(0.05, 5.0))
@settings(max_examples=40, deadline=None)
def test_press_and_release_never_create_energy(depth, deepest, press_time, release_time):
    """Work done on the tissue over a closed path, integral of F d(delta), is what damping takes: never negative."""
    tissue = column(depth)
    path = 0.5 * (1 - torch.cos(torch.linspace(0, math.pi, 2001, dtype=torch.float64))) * deepest
    work = 0.0
    for delta, seconds in ((path, press_time), (path.flip(0), release_time)):
        speed = delta.diff() / (seconds / 2000)
        middle = 0.5 * (delta[1:] + delta[:-1])
        work += (contact_force(tissue, middle, speed) * delta.diff()).sum().item()
    assert work > 0.0


def lost(seconds, loss, turns=1):
    tissue = column(0.04)
    path = 0.5 * (1 - torch.cos(torch.linspace(0, 2 * math.pi * turns, 4001, dtype=torch.float64))) * 0.01
    speed, middle = path.diff() / (seconds / 4000), 0.5 * (path[1:] + path[:-1])
    return (contact_force(tissue, middle, speed, torch.full_like(speed, loss)) * path.diff()).sum().item()


def test_slow_cycle_loses_nothing_without_loss_and_a_fast_one_more():
    assert lost(1000.0, 0.0) == pytest.approx(0.0, abs=1e-5)
    assert lost(2.0, 0.0) > 10 * lost(40.0, 0.0) > 0.0


def test_slow_cycle_loses_twice_the_loss_times_the_work_of_pressing():
    """2 h F0 (d0 (e^(delta/d0) - 1) - delta) above what damping takes, at speeds many times the loss's own."""
    tissue = column(0.04)
    work = (tissue.force * (tissue.depth * torch.expm1(0.01 / tissue.depth) - 0.01)).item()
    assert lost(0.4, 0.2) - lost(0.4, 0.0) == pytest.approx(2 * 0.2 * work, rel=0.05)


def test_batch_and_single_precision_agree_with_double():
    depths = torch.linspace(0.02, 0.1, 9)
    tissue, delta = tissue_under(WIDE, depths), torch.linspace(0.001, 0.012, 9)
    force = contact_force(tissue, delta, torch.full((9,), 0.01))
    assert force.dtype == torch.float32
    for at in range(9):
        alone = contact_force(column(float(depths[at])), newton(float(delta[at])), newton(0.01))
        assert force[at].item() == pytest.approx(alone.item(), rel=1e-5)


def test_area_in_square_millimetres_and_zero_stiffness_are_refused():
    with pytest.raises(InvalidInputError, match=r"face_area must be in .*mm\^2\?"):
        column(0.04, 840.0)
    with pytest.raises(InvalidInputError, match="must be positive and finite, got 0"):
        require_tissue(Tissue(newton(0.0), newton(0.01)))
    with pytest.raises(InvalidInputError, match="must be positive and finite, got nan"):
        require_tissue(tissue_under(WIDE, newton(math.nan)))
