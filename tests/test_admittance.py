"""Force control along the normal. V22 runs over the grid of the design page. Mutations seen to fail: explicit Euler,
mass times 50, damping a fifth, latency ignored, sign of the error, stop forgotten."""

import math

import pytest
import torch

from sonogym.errors import InvalidInputError
from sonogym.robot.admittance import Admittance, AdmittanceState, StopReason

STIFFNESS = (300.0, 1000.0, 3000.0)  # N/m at 5 N
SET_POINT = 5.0


def tissues():
    """Stiffness, whether exponential and latency of the twelve cases of a rate."""
    grid = [(k, law, late) for k in STIFFNESS for law in (0.0, 1.0) for late in (0.02, 0.05)]
    return torch.tensor(grid, dtype=torch.float64).T


def force_of(stiffness, exponential, depth):
    """A linear spring, or F0 (exp(delta / d0) - 1) of the same stiffness at 5 N, F0 = 1 N."""
    depth = depth.clamp_min(0.0)
    return torch.where(exponential > 0, torch.expm1(depth * stiffness / (SET_POINT + 1.0)), depth * stiffness)


def press(control, stiffness, exponential, seconds, gap=2e-3, latency=None):
    """Forces over time of a probe that starts ``gap`` above the tissue, and the last state."""
    rest = torch.zeros_like(stiffness)
    state = control.start(torch.full_like(stiffness, SET_POINT), rest, latency)
    forces = []
    for _ in range(round(seconds / control.period)):
        forces.append(force_of(stiffness, exponential, state.travel - gap))
        state = control.step(state, forces[-1])
    return torch.stack(forces), state


@pytest.mark.parametrize("rate", [10.0, 20.0, 50.0, 100.0])
def test_v22_force_settles_without_much_overshoot(rate):
    stiffness, exponential, latency = tissues()
    forces, state = press(Admittance(period=1.0 / rate, latency=0.05), stiffness, exponential, 14.0, latency=latency)
    assert (state.stop == StopReason.NONE).all()
    assert (forces[-round(2 * rate) :] - SET_POINT).abs().max() <= 0.5
    assert forces.max() <= 1.2 * SET_POINT


def test_little_damping_on_stiff_tissue_oscillates():
    """B = 100 N s/m at 3 N/mm and 50 ms limit-cycles on the design page: the test above can fail."""
    stiff = torch.tensor([3000.0]).double()
    forces, _ = press(Admittance(period=0.02, latency=0.05, damping=100.0), stiff, torch.zeros(1).double(), 4.0)
    assert forces.max() > 2 * SET_POINT


def test_free_motion_follows_the_closed_form():
    """v_n = (F_d / B)(1 - (M / (M + B dt))^n): the exact solution of the semi-implicit law under no force."""
    control = Admittance()
    state = control.start(torch.tensor([5.0]).double(), torch.zeros(1).double())
    share = control.mass / (control.mass + control.damping * control.period)
    for step in range(1, 6):
        state = control.step(state, torch.zeros(1).double())
        assert state.speed.item() == pytest.approx(5.0 / control.damping * (1 - share**step), rel=1e-12)


def test_constant_force_at_the_set_point_moves_nothing():
    control = Admittance()
    force = torch.full((3,), 5.0)
    state = control.start(force, force)
    for _ in range(5):
        state = control.step(state, force)
    assert torch.equal(state.travel, torch.zeros(3))


@pytest.mark.parametrize(
    ("latency", "weights"), [(0.0, [1, 0, 0]), (0.02, [0, 1, 0]), (0.03, [0, 0.5, 0.5]), (0.04, [0, 0, 1])]
)
def test_force_is_felt_late_by_the_latency(latency, weights):
    """One pulse of 1 N: the speed changes in the steps in which its interpolated reading arrives."""
    control = Admittance(period=0.02, latency=0.04, mass=0.0)
    zero = torch.zeros(1).double()
    state = control.start(zero, zero, latency=torch.tensor([latency], dtype=torch.float64))
    felt = []
    for force in (1.0, 0.0, 0.0):
        state = control.step(state, torch.tensor([force]).double())
        felt.append(-state.speed.item() * control.damping)
    assert felt == pytest.approx(weights, abs=1e-9)


def scripted(control, force, steps=40, set_point=5.0):
    state = control.start(torch.tensor([set_point, set_point]), torch.zeros(2))
    for _ in range(steps):
        state = control.step(state, torch.tensor([force, 5.0]))
    return state


@pytest.mark.parametrize(
    ("control", "force", "reason"),
    [
        (Admittance(), math.nan, StopReason.SENSOR),
        (Admittance(), math.inf, StopReason.SENSOR),
        (Admittance(), 31.0, StopReason.FORCE),
        (Admittance(speed_limit=0.005), 0.0, StopReason.SPEED),
        (Admittance(travel_limit=0.002), 0.0, StopReason.WORKSPACE),
    ],
)
def test_every_limit_stops_its_environment_only_and_says_why(control, force, reason):
    state = scripted(control, force)
    assert state.stop.tolist() == [reason, StopReason.NONE]
    assert state.speed[0] == 0.0
    assert state.travel.isfinite().all()
    assert state.travel[0].abs() <= control.travel_limit
    after = control.step(state, torch.tensor([5.0, 5.0]))
    for _ in range(5):
        after = control.step(after, torch.tensor([1.0, 5.0]))
    assert after.stop[0] == reason
    assert after.travel[0] == state.travel[0]


def test_force_just_below_its_limit_stops_nothing():
    assert scripted(Admittance(), 29.9, steps=10).stop.tolist() == [StopReason.NONE, StopReason.NONE]


def test_starting_again_frees_one_environment_and_leaves_the_others():
    control = Admittance()
    stopped = scripted(control, 31.0)
    fresh = control.start(torch.tensor([3.0, 3.0]), torch.zeros(2))
    state = fresh.where(torch.tensor([True, False]), stopped)
    assert state.stop.tolist() == [StopReason.NONE, StopReason.NONE]
    assert state.set_point.tolist() == [3.0, 5.0]
    assert torch.equal(state.readings[1], stopped.readings[1])
    assert isinstance(state, AdmittanceState)


def test_batch_is_the_loop():
    stiffness, exponential, latency = tissues()
    control = Admittance(latency=0.05)
    whole, _ = press(control, stiffness, exponential, 2.0, latency=latency)
    for at in (0, 5, 11):
        alone, _ = press(control, stiffness[at : at + 1], exponential[at : at + 1], 2.0, latency=latency[at : at + 1])
        assert torch.equal(alone[:, 0], whole[:, at])


def test_bad_settings_are_refused():
    five, zero = torch.full((1,), 5.0), torch.zeros(1)
    with pytest.raises(InvalidInputError, match="below the force limit"):
        Admittance(force_limit=4.0).start(five, zero)
    with pytest.raises(InvalidInputError, match="below the force limit"):
        Admittance().start(zero * math.nan, zero)
    with pytest.raises(InvalidInputError, match="milliseconds"):
        Admittance(latency=20.0)
    with pytest.raises(InvalidInputError, match="latency must be in"):
        Admittance().start(five, zero, latency=five)
    with pytest.raises(InvalidInputError, match="damping must be in"):
        Admittance(damping=0.0)
