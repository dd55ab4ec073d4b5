import dataclasses
import math

import pytest
import torch
from skin_phantom import torso

from sonogym.anatomy.stack import VolumeStack
from sonogym.anatomy.volume import Volume
from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose, so3
from sonogym.robot.surface_motion import SurfaceMotion, displacement, errors

PRESS = 4e-3
LEFT = torch.tensor([-1.0, 0.0, 0.0])


@pytest.fixture(scope="module")
def motion():
    skins = [torso().skin.distance, torso(0.36, 0.24).skin.distance]
    return SurfaceMotion(skin=VolumeStack.from_volumes(skins), press=PRESS)


def start(motion, count, seed=0):
    """Poses spread over the back of both patients."""
    random = torch.Generator().manual_seed(seed)
    unit = torch.rand(count, 3, generator=random)
    index = torch.arange(count) % 2
    points = torch.stack((0.16 * unit[:, 0] - 0.08, -0.09 - 0.02 * index, 0.2 * unit[:, 1] - 0.1), dim=-1)
    pose, inside = motion.place(points, LEFT.expand(count, 3), index, rounds=4)
    assert inside.all()
    turn = torch.stack((torch.zeros(count), torch.zeros(count), 2.0 * unit[:, 2] - 1.0), dim=-1)
    return Pose(so3.multiply(pose.quaternion, so3.exp(turn)), pose.translation), index


def axis(pose, at):
    return so3.rotate(pose.quaternion, torch.eye(3)[at].expand(len(pose.translation), 3))


def skin_point(pose):
    return pose.translation - PRESS * axis(pose, 2)


def walk(motion, steps=60, seed=1):
    pose, index = start(motion, 16)
    random = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        command = (2.0 * torch.rand(16, 3, generator=random) - 1.0) * torch.tensor([0.03, 0.03, 0.5])
        after, held_back = motion.step(pose, index, command, 0.1)
        yield pose, command, after, held_back, index
        pose = after


def test_probe_stays_pressed_into_the_skin_by_the_same_depth(motion):
    for _, _, pose, _, index in walk(motion):
        assert motion.skin.trilinear(skin_point(pose), index).abs().max() < 3e-4


def test_probe_axis_opposes_the_smoothed_normal_of_the_skin(motion):
    for _, _, pose, _, index in walk(motion, 20):
        point, z = skin_point(pose), axis(pose, 2)
        steps = 9e-3 * torch.eye(3)
        slopes = [motion.skin.trilinear(point + s, index) - motion.skin.trilinear(point - s, index) for s in steps]
        normal = torch.nn.functional.normalize(torch.stack(slopes, -1), dim=-1)
        assert torch.linalg.cross(z, -normal).norm(dim=-1).max() < math.radians(0.1)
        assert (z * normal).sum(-1).max() < 0


def test_normal_of_an_elliptic_cylinder_is_its_analytic_one(motion):
    pose, index = start(motion, 32)
    half = torch.where(index[:, None] == 0, torch.tensor([0.15, 0.10]), torch.tensor([0.18, 0.12]))
    analytic = skin_point(pose)[:, :2] / half**2
    analytic = analytic / analytic.norm(dim=-1, keepdim=True)
    assert ((axis(pose, 2)[:, :2] + analytic).norm(dim=-1)).max() < math.radians(2.0)


def test_no_command_keeps_the_pose(motion):
    pose, index = start(motion, 8)
    after = pose
    for _ in range(100):
        after, held_back = motion.step(after, index, torch.zeros(8, 3), 0.1)
    assert not held_back.any()
    distance, angle = errors(pose.inverse() @ after)
    assert distance.max() < 1e-5
    assert angle.max() < 2e-3


def test_speed_limits_are_kept(motion):
    for before, command, after, _, _ in walk(motion):
        moved = (skin_point(after) - skin_point(before)).norm(dim=-1)
        assert (moved <= 0.1 * command[:, :2].norm(dim=-1) * 1.02 + 1e-6).all()


def test_lateral_command_moves_along_x_and_elevation_command_along_y(motion):
    pose, index = start(motion, 8)
    for at in (0, 1):
        command = torch.zeros(8, 3)
        command[:, at] = 0.03
        after, _ = motion.step(pose, index, command, 0.1)
        moved = skin_point(after) - skin_point(pose)
        assert torch.allclose((moved * axis(pose, at)).sum(-1), torch.full((8,), 3e-3), rtol=0.02)
        assert (moved * axis(pose, 1 - at)).sum(-1).abs().max() < 1e-4


def test_yaw_turns_about_the_normal_and_moves_nothing(motion):
    pose, index = start(motion, 8)
    after, _ = motion.step(pose, index, torch.tensor([0.0, 0.0, 0.5]).expand(8, 3), 0.1)
    assert (after.translation - pose.translation).norm(dim=-1).max() < 1e-5
    assert torch.allclose(axis(after, 2), axis(pose, 2), atol=1e-4)
    turned = so3.log(so3.multiply(so3.conjugate(pose.quaternion), after.quaternion))
    assert torch.allclose(turned, torch.tensor([0.0, 0.0, 0.05]).expand(8, 3), atol=5e-4)


def test_image_axis_is_carried_along_without_twist(motion):
    pose, _ = motion.place(torch.tensor([[-0.05, -0.1, 0.0]]), LEFT[None], torch.tensor([0]), rounds=4)
    for _ in range(30):
        pose, _ = motion.step(pose, torch.tensor([0]), torch.tensor([[-0.03, 0.0, 0.0]]), 0.1)
    assert skin_point(pose)[0, 0] > 0.03
    assert abs(float(axis(pose, 0)[0, 2])) < 0.01, "across a cylinder, x stays perpendicular to its axis"


def test_border_of_the_imaged_skin_holds_the_probe_back_and_lets_it_return(motion):
    pose, index = start(motion, 4)
    up = torch.tensor([0.0, 0.03, 0.0]) * torch.sign(axis(pose, 1)[:, 2:])
    for _ in range(120):
        pose, held_back = motion.step(pose, index, up, 0.1)
    assert held_back.all()
    height = motion.skin.voxel(skin_point(pose), index)[:, 2] * 3e-3
    assert (height <= (motion.skin.shape[index, 2] - 1) * 3e-3 - motion.margin + 1e-6).all()
    _, held_back = motion.step(pose, index, -up, 0.1)
    assert not held_back.any()


def test_yaw_still_turns_a_probe_that_is_held_back(motion):
    pose, index = start(motion, 4)
    up = torch.tensor([0.0, 0.03, 0.0]) * torch.sign(axis(pose, 1)[:, 2:])
    for _ in range(120):
        pose, _ = motion.step(pose, index, up, 0.1)
    after, _ = motion.step(pose, index, up + torch.tensor([0.0, 0.0, 0.5]), 0.1)
    assert torch.allclose(so3.angle(pose.quaternion, after.quaternion), torch.tensor(0.05), atol=1e-3)


def test_a_batch_moves_as_its_members_do_alone(motion):
    before, command, after, _, index = next(walk(motion, 1))
    for at in range(16):
        alone, _ = motion.step(before[at : at + 1], index[at : at + 1], command[at : at + 1], 0.1)
        assert torch.allclose(alone.translation[0], after.translation[at], atol=1e-6)
        assert so3.angle(alone.quaternion[0], after.quaternion[at]) < 1e-3


def test_compiled_steps_are_the_defined_ones(motion):
    count, random = 64, torch.Generator().manual_seed(3)
    pose, index = start(motion, count)
    metre = torch.eye(4, dtype=torch.float64)
    metre[:3, 3] = -0.5
    cut_at_the_midline = Volume(torch.tensor([-0.5, 0.5])[None, :, None, None].expand(1, 2, 2, 2), metre)
    cut = dataclasses.replace(motion, clearance=VolumeStack.from_volumes([cut_at_the_midline] * 2))
    stopped = torch.zeros(2)
    for step in range(40):
        which = (motion, cut)[step % 2]
        command = (2.0 * torch.rand(count, 3, generator=random) - 1.0) * torch.tensor([0.08, 0.08, 0.3])
        command[:, 1] += 0.08  # on to the border
        press = 0.02 * torch.rand(count, 1, generator=random)
        fused, held = which.step(pose, index, command, 0.1, press)
        defined, kept = which.step_reference(pose, index, command, 0.1, press)
        assert (held == kept).all()
        assert torch.allclose(fused.translation, defined.translation, atol=1e-6)
        assert torch.allclose(fused.quaternion, defined.quaternion, atol=5e-6)
        stopped[step % 2] += held.sum()
        pose = fused
    assert (stopped > 0).all()
    slow = torch.zeros(count, 3, requires_grad=True)
    assert motion.step(pose, index, slow, 0.1)[0].translation.requires_grad


def test_placing_a_placed_pose_changes_nothing(motion):
    pose, index = start(motion, 8)
    again, _ = motion.place(skin_point(pose), axis(pose, 0), index)
    assert (again.translation - pose.translation).norm(dim=-1).max() < 1e-5


def test_displacement_is_read_in_the_probe_frame_and_yaw_is_wrapped():
    yaw = math.radians(170.0)
    turn = so3.exp(torch.tensor([[0.0, 0.0, yaw], [0.0, 0.0, -yaw]]))
    goal = Pose(turn, torch.tensor([[0.01, -0.02, 0.003], [0.0, 0.0, 0.0]]))
    way = displacement(goal)
    assert torch.allclose(way, torch.tensor([[0.01, -0.02, yaw], [0.0, 0.0, -yaw]]), atol=1e-5)
    assert torch.allclose(displacement(Pose(-goal.quaternion, goal.translation)), way, atol=1e-5)
    distance, angle = errors(goal)
    assert torch.allclose(distance, torch.tensor([0.0225610, 0.0]), atol=1e-5)
    assert torch.allclose(angle, torch.tensor([yaw, yaw]), atol=1e-4)


def test_a_press_in_millimetres_is_refused(motion):
    with pytest.raises(InvalidInputError, match="press must be in"):
        SurfaceMotion(skin=motion.skin, press=4.0)
