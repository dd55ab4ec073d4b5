"""Differential and goal inverse kinematics. Mutations seen to fail: logarithm in the tool's axes, pull not taken out of
the task, blocked joints kept, step clipped per joint instead of shortened, starts without fallback, limits or damping
left out, postures that are there moved on."""

import dataclasses
import math

import pytest
import torch
from arm_fixtures import ARMS, PLANAR, arm, postures
from hypothesis import given, settings
from hypothesis import strategies as st

from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose, so3
from sonogym.robot.inverse_kinematics import (
    InverseKinematics,
    follow,
    move,
    pose_error,
    reachability_margin,
    solve,
    step_reference,
)

CONFIG = InverseKinematics()
POSITION, ANGLE = 1e-4, math.radians(0.1)


def errors(which, q, goal):
    error = pose_error(which.base_from_tool(q), goal)
    return error[:, :3].norm(dim=-1), error[:, 3:].norm(dim=-1)


@pytest.mark.parametrize("name", ARMS)
def test_random_reachable_poses_are_reached_from_random_starts(name):
    which = arm(name, tool="probe", dtype=torch.float32)
    goal = which.base_from_tool(postures(which, 100, seed=1))
    solution = solve(which, postures(which, 100, seed=2), goal, CONFIG)
    which.require_posture(solution.joint_position)
    exact = which.to(dtype=torch.float64)
    wanted = Pose(goal.quaternion.double(), goal.translation.double())
    distance, angle = errors(exact, solution.joint_position.double(), wanted)
    reached = (distance < POSITION) & (angle < ANGLE)
    assert reached.float().mean() >= 0.99
    assert torch.equal(solution.reached & ~reached, torch.zeros(100, dtype=torch.bool))


def test_goal_near_the_start_is_reached_without_changing_the_posture_much():
    which = arm("kuka_iiwa", tool="probe", dtype=torch.float32)
    start = postures(which, 64, seed=3, margin=0.15)
    goal = which.base_from_tool(start + 0.02)
    solution = solve(which, start, goal, CONFIG)
    assert solution.reached.all()
    assert (solution.joint_position - start).abs().amax(-1).median() < 0.1


def test_goal_out_of_reach_is_flagged_for_its_environment_only():
    which = arm("kuka_iiwa", tool="probe", dtype=torch.float32)
    goal = which.base_from_tool(postures(which, 4, seed=4, margin=0.2))
    away = goal.translation.clone()
    away[1], away[3] = torch.tensor([2.0, 0.0, 0.5]), torch.tensor([0.0, 0.0, -1.2])
    few = InverseKinematics(starts=3)
    solution = solve(which, which.home.expand(4, 7), Pose(goal.quaternion, away), few)
    assert solution.reached.tolist() == [True, False, True, False]
    assert (solution.position_error[[1, 3]] > 0.1).all()
    assert solution.joint_position.isfinite().all()


def test_solution_of_a_batch_is_that_of_the_loop():
    which = arm("franka_panda", tool="probe")
    goal, start = which.base_from_tool(postures(which, 6, seed=5)), postures(which, 6, seed=6)
    whole = solve(which, start, goal, CONFIG)
    for at in range(6):
        alone = solve(which, start[at : at + 1], goal[at : at + 1], CONFIG)
        assert torch.allclose(alone.joint_position[0], whole.joint_position[at], atol=1e-6)
        assert alone.reached[0] == whole.reached[at]


@pytest.mark.parametrize("name", ARMS)
@given(seed=st.integers(0, 10**6), duration=st.floats(0.01, 0.5))
@settings(max_examples=15, deadline=None)
def test_steps_respect_speeds_and_limits(name, seed, duration):
    which = arm(name, tool="probe")
    q = postures(which, 16, seed)
    twist = 20.0 * torch.randn(16, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    goal = which.base_from_tool(postures(which, 16, seed + 1))
    for after in (move(which, q, twist, duration, CONFIG), follow(which, q, goal, duration, CONFIG)):
        assert ((after - q).abs() <= which.chain.speed * duration * (1 + 1e-9)).all()
        which.require_posture(after)


def test_joint_that_is_too_fast_slows_all_of_them_alike():
    which = arm("kuka_iiwa", tool="probe")
    config = InverseKinematics(posture_gain=0.0)
    q = postures(which, 16, seed=7, margin=0.25)
    twist = torch.zeros(16, 6).double()
    twist[:, 0] = 0.001
    slow = move(which, q, twist, 1e-3, config) - q
    hasty = move(which, q, 1e4 * twist, 1e-4, InverseKinematics(posture_gain=0.0)) - q
    direction = torch.nn.functional.cosine_similarity(slow, hasty)
    at_limit = (hasty.abs() / (which.chain.speed * 1e-4)).amax(-1)
    assert (direction[at_limit > 1 - 1e-9] > 0.999).all()
    assert (at_limit > 1 - 1e-9).sum() > 8


@pytest.mark.parametrize("name", ARMS)
def test_tool_follows_a_twist(name):
    which = arm(name, tool="probe")
    q = which.home + 0.2 * (postures(which, 32, seed=8, margin=0.2) - which.home)
    twist = torch.randn(32, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.02
    before = which.base_from_tool(q)
    after = which.base_from_tool(move(which, q, twist, 0.01, CONFIG))
    assert ((after.translation - before.translation) - 0.01 * twist[:, :3]).abs().max() < 3e-6
    turn = so3.log(so3.multiply(after.quaternion, so3.conjugate(before.quaternion)))
    assert (turn - 0.01 * twist[:, 3:]).abs().max() < 3e-5


@pytest.mark.parametrize("name", ARMS)
def test_posture_returns_home_in_the_null_space_while_the_tool_stays(name):
    which = arm(name, tool="probe")
    q = which.home.expand(4, 7)
    goal = which.base_from_tool(q)
    elsewhere = dataclasses.replace(
        which, home=which.home + torch.tensor([0.8, 0.0, -0.8, 0.0, 0.5, 0.0, 0.0]).double()
    )
    distances = []
    for puller in (elsewhere, which):
        for _ in range(50):
            q = follow(puller, q, goal, 0.08, CONFIG)
        distance, angle = errors(which, q, goal)
        assert distance.max() < POSITION
        assert angle.max() < ANGLE
        distances.append((q - which.home).norm(dim=-1).max().item())
    assert distances[0] > 0.3
    assert distances[1] < 0.1 * distances[0]


def test_without_gain_the_posture_drifts_nowhere():
    which = arm("kuka_iiwa", tool="probe")
    start = postures(which, 8, seed=10, margin=0.2)
    q = follow(which, start, which.base_from_tool(start), 0.1, InverseKinematics(posture_gain=0.0))
    assert (q - start).abs().max() < 1e-9


def test_joint_on_its_limit_leaves_the_work_to_the_others():
    """A turn about the tool's axis, which the last joint would do alone if it could."""
    which = arm("kuka_iiwa", tool="probe")
    q = which.home.clone()[None]
    q[0, 6] = which.chain.upper[6]
    before = which.base_from_tool(q)
    axis = so3.rotate(before.quaternion, torch.tensor([[0.0, 0.0, 1.0]]).double())
    twist = torch.cat((torch.zeros(1, 3).double(), 0.05 * axis), dim=-1)
    after = move(which, q, twist, 0.01, InverseKinematics(posture_gain=0.0))
    assert after[0, 6] <= which.chain.upper[6]
    assert (pose_error(before, which.base_from_tool(after)) - 0.01 * twist).norm() < 0.05 * 0.01 * twist.norm()


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_singular_postures_stay_finite_and_the_step_bounded(name, dtype):
    which = arm(name, tool="probe", dtype=dtype)
    stretched = torch.zeros(3, 7, dtype=dtype)
    stretched[1, 1], stretched[2, 3] = 0.7, -0.01
    stretched = torch.minimum(torch.maximum(stretched, which.chain.lower), which.chain.upper)
    pull = torch.zeros(3, 6, dtype=dtype)
    pull[:, 2] = 0.1
    for twist in (pull, -pull, torch.zeros_like(pull)):
        after = move(which, stretched, twist, 0.1, CONFIG)
        assert after.isfinite().all()
        assert ((after - stretched).abs() <= which.chain.speed * 0.1 * (1 + 1e-5)).all()


@pytest.mark.parametrize("name", ARMS)
def test_compiled_step_is_the_torch_definition(name):
    """At limits, far off, half turns away and near the goal; a twist and a pose."""
    which = arm(name, tool="probe")
    q = postures(which, 200, seed=11)
    q[:40, 3], q[40:80, 1] = which.chain.upper[3], which.chain.lower[1]
    goal = which.base_from_tool(postures(which, 200, seed=12))
    near = which.base_from_tool(q[100:150] + 1e-3)
    half = so3.exp(torch.tensor([[math.pi - 1e-9, 0.0, 0.0], [0.0, 2.5, 1.0], [1e-9, 0.0, 0.0]]).double())
    opposite = so3.multiply(which.base_from_tool(q[150:153]).quaternion, half)
    goal = Pose(
        torch.cat((goal.quaternion[:100], near.quaternion, -opposite, goal.quaternion[153:])),
        torch.cat((goal.translation[:100], near.translation, goal.translation[150:])),
    )
    twist = torch.randn(200, 6, generator=torch.Generator().manual_seed(13), dtype=torch.float64)
    found, expected = follow(which, q, goal, 0.1, CONFIG), step_reference(which, q, goal, 0.1, CONFIG)
    assert torch.allclose(found, expected, atol=1e-9)
    found, expected = move(which, q, twist, 0.1, CONFIG), step_reference(which, q, 0.1 * twist, 0.1, CONFIG)
    assert torch.allclose(found, expected, atol=1e-9)
    single = which.to(dtype=torch.float32)
    goal = Pose(goal.quaternion.float(), goal.translation.float())
    assert (follow(single, q.float(), goal, 0.1, CONFIG) - follow(which, q, goal, 0.1, CONFIG)).abs().max() < 1e-4
    assert follow(single, q.float(), goal, 0.1, CONFIG).dtype == torch.float32


def test_gradients_pass_through_a_step():
    which = arm("kuka_iiwa", tool="probe")
    twist = torch.full((1, 6), 0.01, dtype=torch.float64, requires_grad=True)
    move(which, which.home[None], twist, 0.1, CONFIG).sum().backward()
    assert twist.grad.abs().sum() > 0


def test_pose_error_is_the_turn_left_in_base_axes():
    turn = torch.tensor([[0.3, -0.2, 0.5], [3.0, 0.0, 0.0]]).double()
    tip = Pose(so3.exp(torch.tensor([[1.0, 2.0, -0.5]]).double()).expand(2, 4), torch.zeros(2, 3).double())
    goal = Pose(so3.multiply(so3.exp(turn), tip.quaternion), torch.ones(2, 3).double())
    assert torch.allclose(pose_error(tip, goal), torch.cat((torch.ones(2, 3).double(), turn), -1), atol=1e-9)
    assert torch.allclose(pose_error(tip, Pose(-goal.quaternion, goal.translation))[:, 3:], turn, atol=1e-9)


def test_reachability_margin_vanishes_at_limits_and_singularities():
    which = arm("kuka_iiwa", tool="probe")
    q = torch.stack((which.home, torch.zeros(7).double(), which.chain.upper))
    joint, worst = reachability_margin(which, q, CONFIG)
    assert joint.tolist() == pytest.approx([1 - 90 / 120, 1.0, 0.0], abs=1e-6)
    assert worst[0] > 0.02
    assert worst[1] < 1e-9


def test_bad_goals_starts_and_settings_are_refused():
    which = arm("kuka_iiwa", tool="probe")
    goal = which.base_from_tool(which.home.expand(2, 7))
    broken = goal.translation.clone()
    broken[1, 0] = math.nan
    with pytest.raises(InvalidInputError, match=r"environments \[1\]"):
        solve(which, which.home.expand(2, 7), Pose(goal.quaternion, broken), CONFIG)
    with pytest.raises(InvalidInputError, match="degrees"):
        solve(which, torch.full((2, 7), 30.0).double(), goal, CONFIG)
    with pytest.raises(InvalidInputError, match="damping must be in"):
        InverseKinematics(damping=0.0)


def test_compiled_step_of_an_arm_that_slides_is_the_torch_definition(tmp_path):
    (tmp_path / "slide.urdf").write_text(
        PLANAR.replace('name="elbow" type="revolute"', 'name="elbow" type="prismatic"')
    )
    path = tmp_path / "slide.toml"
    path.write_text(
        'name = "slide"\nurdf = "slide.urdf"\nbase = "base"\nflange = "tip"\njoints = ["shoulder", "elbow"]\n'
        "home_deg = [10, 20]\n"
    )
    which = arm(str(path), tool="probe")
    q, twist = postures(which, 20), torch.full((20, 6), 0.3, dtype=torch.float64)
    expected = step_reference(which, q, 0.1 * twist, 0.1, CONFIG)
    assert torch.allclose(move(which, q, twist, 0.1, CONFIG), expected, atol=1e-9)
