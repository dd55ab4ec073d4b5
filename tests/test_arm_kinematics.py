"""Forward kinematics, Jacobian and presets, against PyBullet. Mutations seen to fail: cosine term's sign, tool
offset not turned, lever from the base instead of the joint, angular rows of a sliding joint kept, flange or speeds of
the file left out."""

import math

import numpy as np
import pybullet
import pytest
import torch
from arm_fixtures import ARMS, PLANAR, arm, postures
from hypothesis import given, settings
from hypothesis import strategies as st

from sonogym.errors import InvalidInputError, MissingFileError, UnknownNameError
from sonogym.geometry import Pose, so3
from sonogym.resources import asset_names
from sonogym.robot import arm as arm_module
from sonogym.robot.arm import load_arm
from sonogym.robot.chain import chain_from_joints
from sonogym.robot.urdf import read_urdf

LINK = {"kuka_iiwa": 6, "franka_panda": 7}  # PyBullet's index of the flange's link
FLANGE = {"kuka_iiwa": (0.0, 0.0, 0.045), "franka_panda": (0.0, 0.0, 0.0)}
TURN = {"kuka_iiwa": 0.0, "franka_panda": math.radians(135.0)}  # of the flange about its z


@pytest.fixture(scope="module", params=ARMS)
def twin(request):
    """An arm, and the same URDF in PyBullet."""
    import pybullet_data

    path = {"kuka_iiwa": "kuka_iiwa/model.urdf", "franka_panda": "franka_panda/panda.urdf"}[request.param]
    client = pybullet.connect(pybullet.DIRECT)
    body = pybullet.loadURDF(f"{pybullet_data.getDataPath()}/{path}", useFixedBase=True, physicsClientId=client)
    yield request.param, arm(request.param), body, client
    pybullet.disconnect(client)


def bullet_state(body, client, link, posture):
    for joint, value in enumerate(posture):
        pybullet.resetJointState(body, joint, value, physicsClientId=client)
    return pybullet.getLinkState(body, link, computeForwardKinematics=True, physicsClientId=client)


def test_flange_is_where_pybullet_has_it(twin):
    name, which, body, client = twin
    q = postures(which, 50)
    pose = which.base_from_tool(q)
    for row in range(50):
        state = bullet_state(body, client, LINK[name], q[row].tolist())
        x, y, z, w = state[5]
        expected = Pose(torch.tensor([w, x, y, z]).double(), torch.tensor(state[4]).double())
        point = expected.apply(torch.tensor(FLANGE[name]).double())
        assert (pose.translation[row] - point).norm() < 1e-5
        turned = so3.multiply(expected.quaternion, so3.exp(torch.tensor([0.0, 0.0, TURN[name]], dtype=torch.float64)))
        assert so3.angle(pose.quaternion[row], turned) < 1e-5


def test_every_link_is_where_pybullet_has_it(twin):
    _, which, body, client = twin
    q = postures(which, 10, seed=1)
    frames = which.frames(q)
    for row in range(10):
        for joint in range(7):
            state = bullet_state(body, client, joint, q[row].tolist())
            assert (frames.origin[row, joint + 1] - torch.tensor(state[4]).double()).norm() < 1e-5


def test_jacobian_is_pybullets(twin):
    name, which, body, client = twin
    q = postures(which, 30, seed=2)
    jacobian = which.chain.jacobian(which.frames(q))
    dofs = 7 if name == "kuka_iiwa" else 9
    for row in range(30):
        position = [*q[row].tolist(), 0.0, 0.0][:dofs]
        linear, angular = pybullet.calculateJacobian(
            body, LINK[name], FLANGE[name], position, [0.0] * dofs, [0.0] * dofs, physicsClientId=client
        )
        expected = torch.tensor([*linear, *angular]).double()[:, :7]
        assert (jacobian[row] - expected).abs().max() < 1e-5


@pytest.mark.parametrize("name", ARMS)
def test_flange_and_jacobian_are_pinocchios(name):
    pinocchio = pytest.importorskip("pinocchio", reason="pinocchio is not installed (pip install pin)")
    which = arm(name)
    model = pinocchio.buildModelFromUrdf(str(which.model.path))
    data, frame = model.createData(), model.getFrameId(which.flange)
    columns = [model.joints[model.getJointId(joint)].idx_v for joint in which.chain.joint_names]
    q = postures(which, 30, seed=4)
    poses, jacobians = which.base_from_tool(q), which.chain.jacobian(which.frames(q))
    for row in range(30):
        full = pinocchio.neutral(model)
        full[columns] = q[row].numpy()
        pinocchio.forwardKinematics(model, data, full)
        pinocchio.updateFramePlacements(model, data)
        placement = data.oMf[frame]
        tip = placement.translation + placement.rotation @ np.array(FLANGE[name])
        assert np.abs(poses.translation[row].numpy() - tip).max() < 1e-9
        turned = (
            placement.rotation
            @ so3.to_matrix(so3.exp(torch.tensor([0.0, 0.0, TURN[name]], dtype=torch.float64))).numpy()
        )
        assert np.abs(so3.to_matrix(poses.quaternion[row]).numpy() - turned).max() < 1e-9
        local = pinocchio.ReferenceFrame.LOCAL_WORLD_ALIGNED
        jacobian = pinocchio.computeFrameJacobian(model, data, full, frame, local)[:, columns]
        jacobian[:3] += np.cross(jacobian[3:].T, placement.rotation @ np.array(FLANGE[name])).T
        assert np.abs(jacobians[row].numpy() - jacobian).max() < 1e-9


def test_single_precision_stays_within_ten_micrometres(twin):
    _, which, _, _ = twin
    q = postures(which, 500, seed=3)
    single = which.to(dtype=torch.float32).frames(q.float())
    double = which.frames(q.float().double())
    assert (single.origin - double.origin).abs().max() < 1e-5
    assert (single.rotation - double.rotation).abs().max() < 1e-5


@pytest.mark.parametrize("name", ARMS)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_jacobian_is_the_derivative_of_the_pose(name, seed):
    which = arm(name, tool="probe")
    q = postures(which, 1, seed)
    jacobian, step = which.chain.jacobian(which.frames(q))[0], 1e-6
    for joint in range(7):
        shift = step * torch.eye(7, dtype=torch.float64)[joint]
        ahead, behind = which.base_from_tool(q + shift), which.base_from_tool(q - shift)
        linear = (ahead.translation - behind.translation)[0] / (2 * step)
        angular = so3.log(so3.multiply(ahead.quaternion, so3.conjugate(behind.quaternion)))[0] / (2 * step)
        assert torch.allclose(jacobian[:, joint], torch.cat((linear, angular)), atol=1e-6)


def test_batch_is_the_loop_and_any_leading_shape_is_taken():
    which = arm("kuka_iiwa", tool="probe")
    q = postures(which, 12).reshape(3, 4, 7)
    whole = which.base_from_tool(q)
    assert whole.translation.shape == (3, 4, 3)
    for row in range(3):
        for column in range(4):
            alone = which.base_from_tool(q[row, column])
            assert torch.allclose(alone.translation, whole.translation[row, column], atol=1e-14)
            assert torch.equal(alone.quaternion, whole.quaternion[row, column])


@given(shoulder=st.floats(-3, 3), elbow=st.floats(-2.5, 2.5))
@settings(max_examples=25, deadline=None)
def test_planar_arm_follows_its_closed_form(tmp_path_factory, shoulder, elbow):
    path = tmp_path_factory.getbasetemp() / "planar.urdf"
    path.write_text(PLANAR)
    chain, _ = chain_from_joints(read_urdf(path).chain("base", "tip"))
    frames = chain.frames(torch.tensor([[shoulder, elbow]], dtype=torch.float64))
    first, both = shoulder, shoulder + elbow
    x, y = 0.4 * math.cos(first) + 0.3 * math.cos(both), 0.4 * math.sin(first) + 0.3 * math.sin(both)
    assert torch.allclose(frames.origin[0, -1], torch.tensor([x, y, 0.0]).double(), atol=1e-12)
    jacobian = chain.jacobian(frames)[0]
    expected = torch.tensor([[-y, -0.3 * math.sin(both)], [x, 0.3 * math.cos(both)]]).double()
    assert torch.allclose(jacobian[:2], expected, atol=1e-12)
    assert torch.equal(jacobian[5], torch.ones(2).double())


def test_sliding_joint_moves_along_its_axis_and_turns_nothing(tmp_path):
    path = tmp_path / "slide.urdf"
    text = PLANAR.replace('name="elbow" type="revolute"', 'name="elbow" type="prismatic"')
    resting = '<origin xyz="0.4 0 0" rpy="0 0 0.5"/><axis xyz="1 0 0"/>'
    path.write_text(text.replace('<origin xyz="0.4 0 0"/><axis xyz="0 0 1"/>', resting))
    chain, _ = chain_from_joints(read_urdf(path).chain("base", "tip"))
    frames = chain.frames(torch.tensor([0.2, 0.1], dtype=torch.float64))
    x = 0.4 * math.cos(0.2) + 0.4 * math.cos(0.7)
    assert frames.origin[-1, 0] == pytest.approx(x, abs=1e-12)
    jacobian = chain.jacobian(frames)
    assert jacobian[:, 1].tolist() == pytest.approx([math.cos(0.7), math.sin(0.7), 0, 0, 0, 0], abs=1e-12)


@pytest.mark.parametrize("name", asset_names("robots", ".toml"))
@pytest.mark.parametrize(("tool", "length"), [("probe", 0.18), ("drill", 0.25)])
def test_every_preset_holds_its_tool_straight_down_and_x_to_the_base_at_home(name, tool, length):
    held, bare = arm(name, tool=tool), arm(name)
    pose, flange = held.base_from_tool(held.home), bare.base_from_tool(bare.home)
    assert so3.rotate(pose.quaternion, torch.tensor([0.0, 0.0, 1.0]).double())[2] < -1 + 1e-9
    assert so3.rotate(pose.quaternion, torch.tensor([1.0, 0.0, 0.0]).double())[0] < -1 + 1e-9
    assert torch.allclose(flange.translation - pose.translation, torch.tensor([0, 0, length]).double(), atol=1e-9)
    assert torch.allclose((flange.inverse() @ pose).translation, held.flange_from_tool.translation, atol=1e-12)
    assert (held.chain.speed > 0.5).all()
    assert (held.chain.speed < 3.2).all()


def test_kuka_reaches_its_data_sheet_height_and_speed():
    which = arm("kuka_iiwa")
    assert which.base_from_tool(torch.zeros(7).double()).translation[2] == pytest.approx(
        0.36 + 0.42 + 0.4 + 0.126, abs=1e-9
    )
    assert torch.rad2deg(which.chain.speed).tolist() == pytest.approx([85, 85, 100, 75, 130, 135, 135])


def test_tool_of_a_file_is_mounted_with_its_turn(tmp_path):
    path = tmp_path / "angled.toml"
    path.write_text('name = "angled"\ntranslation_mm = [10, 0, 100]\nrotation_deg = [0, 90, 0]\n')
    which, bare = arm("franka_panda", tool=str(path)), arm("franka_panda")
    relative = bare.base_from_tool(bare.home).inverse() @ which.base_from_tool(which.home)
    assert relative.translation.tolist() == pytest.approx([0.01, 0, 0.1], abs=1e-9)
    assert so3.rotate(relative.quaternion, torch.tensor([0.0, 0.0, 1.0]).double()).tolist() == pytest.approx(
        [1, 0, 0], abs=1e-9
    )
    assert len(which.capsules.names) == len(bare.capsules.names)


def test_tool_on_a_turned_tool_is_at_the_product_of_their_poses():
    which = arm("kuka_iiwa")
    twists = torch.tensor([[0.1, 0.2, 0.3, 0.5, -0.4, 0.9], [-0.2, 0.1, 0.05, -1.0, 0.2, 0.3]]).double()
    first, second = Pose.exp(twists[0]), Pose.exp(twists[1])
    found = which.chain.with_tip(first).with_tip(second).frames(which.home).tip
    expected = which.base_from_tool(which.home) @ first @ second
    assert torch.allclose(found.translation, expected.translation, atol=1e-9)
    assert so3.angle(found.quaternion, expected.quaternion) < 1e-7


def test_own_arm_of_a_toml_file_and_a_urdf_by_path(tmp_path):
    (tmp_path / "planar.urdf").write_text(PLANAR)
    table = 'name = "mine"\nurdf = "planar.urdf"\nbase = "base"\nflange = "tip"\njoints = ["shoulder", "elbow"]\n'
    path = tmp_path / "mine.toml"
    path.write_text(table + "home_deg = [0, 90]\n")
    which = load_arm(str(path), tool="flange")
    assert which.base_from_tool(which.home).translation.tolist() == pytest.approx([0.4, 0.3, 0.0], abs=1e-6)
    (tmp_path / "long.urdf").write_text(PLANAR.replace('xyz="0.3 0 0"', 'xyz="0.5 0 0"'))
    other = load_arm(str(path), tool="flange", urdf=tmp_path / "long.urdf")
    assert other.base_from_tool(other.home).translation.tolist() == pytest.approx([0.4, 0.5, 0.0], abs=1e-6)
    path.write_text(table.replace('"elbow"', '"elbo"') + "home_deg = [0, 90]\n")
    with pytest.raises(UnknownNameError, match="Did you mean 'elbow'"):
        load_arm(str(path) + "", tool="probe")
    path.write_text(table + "home_deg = [0, 160]\n")
    with pytest.raises(InvalidInputError, match="elbow must be in"):
        load_arm(str(path), tool="drill")


def test_unknown_names_and_absent_package_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(UnknownNameError, match="Did you mean 'kuka_iiwa'"):
        load_arm("kuka")
    with pytest.raises(UnknownNameError, match="drill, flange, probe"):
        load_arm("kuka_iiwa", tool="needle")
    with pytest.raises(MissingFileError, match="no arm file"):
        load_arm(str(tmp_path / "none.toml"))
    monkeypatch.setattr(arm_module.importlib.util, "find_spec", lambda name: None)
    arm_module._load.cache_clear()
    with pytest.raises(MissingFileError, match="pip install pybullet"):
        load_arm("kuka_iiwa")


def test_posture_in_degrees_is_refused():
    which = arm("kuka_iiwa")
    with pytest.raises(InvalidInputError, match=r"lbr_iiwa_joint_4 must be in .*got -90 \(degrees"):
        which.require_posture(torch.tensor([[0.0] * 7, [0.0, 0.0, 0.0, -90.0, 0.0, 0.0, 0.0]]).double())
    with pytest.raises(InvalidInputError, match="got nan"):
        which.require_posture(torch.full((7,), math.nan).double())
