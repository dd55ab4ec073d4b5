"""The PyBullet backend. Mutations seen to fail: a gripper left on the flange, the holder mounted at the tool's frame,
force for torque in the wrench, head and skin colliding, contacts told by overlap alone, motors without limits."""

import ast
import dataclasses
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from arm_fixtures import ARMS
from skin_phantom import torso

from sonogym.anatomy.stack import VolumeStack
from sonogym.errors import InvalidInputError, MissingFileError
from sonogym.geometry import Pose, so3
from sonogym.robot.arm import load_arm
from sonogym.robot.bullet import BulletArm
from sonogym.robot.bullet_meshes import WALL, head_mesh, skin_mesh
from sonogym.robot.bullet_world import BulletConfig, BulletWorld
from sonogym.robot.inverse_kinematics import InverseKinematics
from sonogym.robot.placement import lay
from sonogym.robot.robot import BlockReason, KinematicArm
from sonogym.ultrasound.transducer import load_probe

pytest.importorskip("pybullet", reason="pybullet has no wheels from Python 3.12 on")

PROBE = load_probe("C5-2v")
BODY = torso()
SKIN = VolumeStack.from_volumes([BODY.skin.distance])
PERIOD = 0.1


def on_the_back(across=0.0, along=0.0):
    """A probe on the flat of the torso's back, x to the left."""
    y = -0.1 * math.sqrt(1 - (across / 0.15) ** 2)
    x, z = torch.tensor([-1.0, 0.0, 0.0]), torch.tensor([-across / 0.15**2, -y / 0.1**2, 0.0])
    return Pose.from_axes(x, z, torch.tensor([across, y, along]))


def batch(*poses):
    return Pose(torch.stack([p.quaternion for p in poses]), torch.stack([p.translation for p in poses]))


@pytest.fixture(scope="module", params=ARMS)
def robot(request):
    """A Bullet arm over the torso's back, and where the torso lies."""
    return made(request.param)


def made(name, tool="probe", change=None, config=None):
    arm = load_arm(name, tool=tool)
    arm = arm if change is None else dataclasses.replace(arm, chain=dataclasses.replace(arm.chain, **change(arm.chain)))
    start = batch(on_the_back())
    placement = lay(SKIN, start[:, None], arm)
    planner = KinematicArm.among(arm, placement.base_from_patient @ start, InverseKinematics(starts=3))
    head = PROBE if tool == "probe" else None
    return BulletArm(
        planner=planner,
        skins=[BODY.skin],
        placement=placement,
        transducer=head,
        config=config or BulletConfig(),
    )


def index(count):
    return torch.zeros(count, dtype=torch.long)


def started(robot, *poses):
    goal = robot.placement.base_from_patient @ batch(*poses)
    return robot.start(goal, index(len(poses))), goal


def lifted(pose, away):
    return Pose(pose.quaternion, pose.translation + torch.tensor(away))


@pytest.mark.parametrize("tool", ["probe", "drill"])
@pytest.mark.parametrize("name", ARMS)
def test_tools_frame_is_where_bullet_has_it(name, tool):
    robot = made(name, tool)
    world, q = robot.world(0), robot.arm.home + 0.1
    world.place(q.tolist())
    state = world.bullet.getLinkState(
        world.robot, world.head, computeForwardKinematics=True, physicsClientId=world.client
    )
    x, y, z, w = state[5]
    pose = robot.arm.base_from_tool(q)
    assert (pose.translation - torch.tensor(state[4])).norm() < 1e-5
    assert so3.angle(pose.quaternion, torch.tensor([w, x, y, z])) < 1e-5
    assert not any("finger" in link or "hand" in link for link in world.links.values())


def test_arm_keeps_its_pose_and_follows_a_pose_within_half_a_millimetre(robot):
    state, goal = started(robot, on_the_back(), on_the_back(0.03, 0.05))
    assert not state.blocked.any()
    still = robot.move(state, goal, PERIOD)
    assert (still.base_from_probe.translation - goal.translation).norm(dim=-1).max() < 2e-4
    moving = state
    for step in range(1, 6):
        wanted = lifted(goal, [0.0, 2e-3 * step, 0.0])
        moving = robot.move(moving, wanted, PERIOD)
        assert (moving.base_from_probe.translation - wanted.translation).norm(dim=-1).max() < 5e-4
        assert not moving.blocked.any()
    assert (moving.joint_velocity.abs() <= robot.arm.chain.speed * 1.01).all()
    assert (moving.joint_velocity.abs().amax(-1) > 0.01).all()


def test_same_inputs_give_the_same_bytes_whatever_came_between(robot):
    state, goal = started(robot, on_the_back(), on_the_back(-0.04, -0.03))
    wanted, wrench = lifted(goal, [4e-3, 2e-3, 0.0]), torch.tensor([[1.0, -2.0, 9.0, 0.1, 0.0, 0.2]]).expand(2, 6)
    first = robot.move(state, wanted, PERIOD, wrench)
    robot.move(robot.move(first, goal, 0.3), lifted(goal, [0.0, 0.0, 0.1]), 0.2)
    again = robot.move(state, wanted, PERIOD, wrench)
    fresh = dataclasses.replace(robot)
    for other in (again, fresh.move(state, wanted, PERIOD, wrench)):
        assert torch.equal(first.joint_position, other.joint_position)
        assert torch.equal(first.joint_velocity, other.joint_velocity)
    alone = robot.move(
        dataclasses.replace(
            state,
            **{key: getattr(state, key)[1:] for key in vars(state)},
        ),
        wanted[1:],
        PERIOD,
        wrench[1:],
    )
    assert torch.equal(alone.joint_position[0], first.joint_position[1])


def test_wrench_on_the_probe_loads_the_motors_by_the_jacobians_transpose(robot):
    """At rest tau = -J^T w: an independent route to force, point of attack and frame."""
    world = robot.world(0)
    state, _ = started(robot, on_the_back())
    q, point = state.joint_position[0], state.base_from_probe.translation[0]
    wrench, torques = torch.tensor([3.0, -4.0, 12.0, 0.2, -0.3, 0.4]), []
    for load in (None, wrench.tolist()):
        world.place(q.tolist())
        torques.append(torch.from_numpy(world.move(q.tolist(), 0.2, load, point.tolist()).torque))
    exact = robot.arm.to(dtype=torch.float64)
    jacobian = exact.chain.jacobian(exact.frames(q[None].double()))[0]
    assert (torques[1] - torques[0] + jacobian.T @ wrench.double()).abs().max() < 0.05


def test_motor_too_weak_for_its_load_gives_way_and_says_so():
    """Motors that can hold the arm's own weight and little more, pushed sideways by 40 N."""
    strong = made("kuka_iiwa")
    state, _ = started(strong, on_the_back())
    world, q = strong.world(0), state.joint_position[0].tolist()
    world.place(q)
    held = torch.from_numpy(world.move(q, 0.2, None, [0.0] * 3).torque).float()
    weak = made("kuka_iiwa", change=lambda chain: {"torque": 1.5 * held.abs() + 3.0})
    state, goal = started(weak, on_the_back())
    assert not weak.move(state, goal, PERIOD).blocked.any()
    for _ in range(5):
        state = weak.move(state, goal, PERIOD, torch.tensor([[0.0, 40.0, 0.0, 0.0, 0.0, 0.0]]))
    assert state.reason.tolist() == [BlockReason.TORQUE]
    assert state.base_from_probe.translation[0, 1] > goal.translation[0, 1] + 3e-3


def test_link_that_meets_the_skin_is_stopped_and_reported():
    robot = made("kuka_iiwa")
    state, goal = started(robot, on_the_back())
    deep = lifted(goal, [0.0, 0.0, -0.12])  # the holder is 120 mm behind the face
    for _ in range(40):
        state = robot.move(state, deep, PERIOD)
    assert state.blocked.all()
    assert state.reason.tolist() == [BlockReason.COLLISION]
    depth = goal.translation[0, 2] - state.base_from_probe.translation[0, 2]
    assert 0.01 < depth < 0.12
    world = robot.world(0)
    world.place(state.joint_position[0].tolist())
    assert any(pair.endswith("with patient") and "head" not in pair for pair in world.touching())


def test_head_sinks_into_the_skin_without_bullets_force(robot):
    state, goal = started(robot, on_the_back())
    pressed = lifted(goal, [0.0, 0.0, -0.015])
    for _ in range(6):
        state = robot.move(state, pressed, PERIOD)
    assert not state.blocked.any()
    assert (state.base_from_probe.translation - pressed.translation).norm() < 5e-4


def test_folded_arm_touches_itself_and_a_low_one_the_bed(robot):
    world = robot.world(0)
    world.place(robot.arm.home.tolist())
    assert world.touching() == ()
    folded = robot.arm.chain.lower.clone() if robot.arm.name == "franka_panda" else robot.arm.chain.upper.clone()
    folded[0] = math.pi / 2  # away from the patient
    world.place((0.995 * folded).tolist())
    pairs = world.touching()
    assert pairs
    low = robot.arm.home.clone()
    low[1], low[3] = 0.98 * robot.arm.chain.upper[1], -0.1
    world.place(low.tolist())
    assert any("bed" in pair or "patient" in pair for pair in world.touching())


def test_pose_out_of_reach_is_refused_at_the_start_and_blocks_on_the_way():
    robot = made("kuka_iiwa")
    state, goal = started(robot, on_the_back(), on_the_back(0.02))
    away = Pose(goal.quaternion, goal.translation + torch.tensor([[0.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))
    with pytest.raises(InvalidInputError, match=r"start poses \[1\] are out of reach of 'kuka_iiwa'"):
        robot.start(away, index(2))
    after = robot.move(state, away, PERIOD)
    assert after.blocked.tolist() == [False, True]
    assert after.reason.tolist() == [BlockReason.NONE, BlockReason.SPEED]


def test_skin_mesh_is_closed_lies_on_the_skin_and_holds_the_bodys_volume():
    import trimesh

    vertices, faces = skin_mesh(BODY.skin)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    assert mesh.is_watertight
    side = np.abs(vertices[:, 2]) < 0.2
    assert np.abs(BODY.skin.at(torch.from_numpy(vertices[side]).float()).numpy()).max() < 3e-4
    height = np.ptp(vertices[:, 2])
    assert mesh.volume == pytest.approx(math.pi * 0.15 * 0.10 * height, rel=0.02)


@pytest.mark.parametrize("name", ["C5-2v", "L12-3v", "P4-2v", "radial360"])
def test_head_has_the_transducers_face(name):
    probe = load_probe(name)
    vertices, _ = head_mesh(probe)
    assert np.ptp(vertices[:, 1]) == pytest.approx(probe.height + 2 * WALL, abs=1e-9)
    assert vertices[:, 2].max() == pytest.approx(probe.radius if name == "radial360" else 0.0, abs=1e-6)
    origins = probe.scanlines(33)[0].numpy()
    assert origins[:, 0].max() <= vertices[:, 0].max() + 1e-4
    if probe.kind == "convex":
        face = vertices[vertices[:, 2] >= origins[:, 2].min() - 1e-9]
        from_centre = np.hypot(face[:, 0], face[:, 2] + probe.radius)
        assert np.abs(from_centre - probe.radius).max() < WALL


def test_absent_pybullet_says_how_to_install_it_and_that_the_rest_works(monkeypatch):
    arm = load_arm("kuka_iiwa")
    monkeypatch.setitem(sys.modules, "pybullet", None)
    with pytest.raises(MissingFileError, match=r"pip install pybullet.*3\.11.*[Ee]verything else works"):
        BulletWorld(arm, BODY.skin, Pose.identity(), 0.0, PROBE)
    with pytest.raises(MissingFileError, match="pip install pybullet"):
        made("kuka_iiwa")
    assert KinematicArm(arm=arm, known=arm.home[None]).start(arm.base_from_tool(arm.home[None]), index(1)).reason == 0


def test_joint_without_torque_limit_and_wrong_settings_are_refused():
    with pytest.raises(InvalidInputError, match=r"lbr_iiwa_joint_1.*torque limit.*got inf"):
        made("kuka_iiwa", change=lambda chain: {"torque": torch.full_like(chain.torque, math.inf)}).world(0)
    with pytest.raises(InvalidInputError, match="rate in Hz"):
        BulletConfig(substep=240.0)
    one = made("kuka_iiwa")
    with pytest.raises(InvalidInputError, match="one entry a patient, got 1 for 2"):
        dataclasses.replace(one, skins=[BODY.skin] * 2)


def test_no_module_imports_pybullet_when_it_is_imported():
    """So that everything else works without it."""
    for path in (Path(__file__).parents[1] / "sonogym").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith("pybullet") for name in names), path
