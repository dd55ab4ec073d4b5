"""Reading of URDF files. Mutations seen to fail: soft limits ignored, package:// kept in the path, loop search left
out, roll and yaw swapped, capsule radius by the mean."""

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from arm_fixtures import PLANAR
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sonogym.errors import InvalidInputError, MissingFileError, UnknownNameError
from sonogym.robot.arm import load_arm
from sonogym.robot.capsules import enclosing_capsule, link_capsules
from sonogym.robot.chain import chain_from_joints, rotation_from_rpy
from sonogym.robot.urdf import read_urdf

angle = st.floats(-6.0, 6.0)


def written(tmp_path, text):
    path = tmp_path / "robot.urdf"
    path.write_text(text, encoding="utf-8")
    return path


def test_chain_runs_from_base_to_tip_and_its_axes_have_unit_length(tmp_path):
    joints = read_urdf(written(tmp_path, PLANAR)).chain("base", "tip")
    assert [joint.name for joint in joints] == ["shoulder", "elbow", "wrist"]
    assert joints[0].axis == (0.0, 0.0, 1.0)
    assert joints[1].upper == 2.5


def test_soft_limit_counts_where_it_is_tighter(tmp_path):
    soft = '<limit lower="-3" upper="3" velocity="1"/><safety_controller soft_lower_limit="-4" soft_upper_limit="2"/>'
    joint = read_urdf(written(tmp_path, PLANAR.replace(LIMIT, soft)))
    assert (joint.joint_to["upper"].lower, joint.joint_to["upper"].upper) == (-3.0, 2.0)


def test_continuous_joint_has_no_limits(tmp_path):
    text = PLANAR.replace('name="elbow" type="revolute"', 'name="elbow" type="continuous"')
    assert read_urdf(written(tmp_path, text)).joint_to["lower"].upper == math.inf


@pytest.mark.parametrize("folder", ["", "robots/planar"])
def test_mesh_of_a_package_is_found_beside_the_file_or_above(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes" / "arm.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    text = PLANAR.replace('<box size="0.3 0.04 0.04"/>', '<mesh filename="package://meshes/arm.obj" scale="2 1 1"/>')
    shape = read_urdf(written(tmp_path / folder, text)).shapes["lower"][0]
    assert shape.mesh == tmp_path / "meshes" / "arm.obj"
    assert shape.size == (2.0, 1.0, 1.0)


MIMIC = '<mimic joint="shoulder" multiplier="-0.5" offset="0.2"/>'


def test_joint_that_mimics_moves_the_chain_with_its_leader(tmp_path):
    """Closed form of the planar arm with elbow = .2 - shoulder / 2, and the derivative of its pose."""
    text = PLANAR.replace('<origin xyz="0.4 0 0"/>', '<origin xyz="0.4 0 0"/>' + MIMIC)
    chain, _ = chain_from_joints(read_urdf(written(tmp_path, text)).chain("base", "tip"))
    assert chain.joint_names == ("shoulder",)
    q = torch.tensor([[0.7], [-1.1]], dtype=torch.float64)
    frames = chain.frames(q)
    both = 0.5 * q + 0.2
    x, y = 0.4 * q.cos() + 0.3 * both.cos(), 0.4 * q.sin() + 0.3 * both.sin()
    assert torch.allclose(frames.origin[:, -1, :2], torch.cat((x, y), 1), atol=1e-12)
    slope = torch.cat((-0.4 * q.sin() - 0.15 * both.sin(), 0.4 * q.cos() + 0.15 * both.cos()), 1)
    assert torch.allclose(chain.jacobian(frames)[:, :2, 0], slope, atol=1e-12)
    assert torch.allclose(chain.jacobian(frames)[:, 5, 0], torch.full((2,), 0.5).double(), atol=1e-12)


def test_fingers_of_the_panda_mimic_one_another():
    pytest.importorskip("pybullet_data", reason="the Panda's URDF lies in pybullet_data")
    robot = load_arm("franka_panda").model
    second = robot.joint_to["panda_rightfinger"].mimic
    assert (second.joint, second.multiplier, second.offset) == ("panda_finger_joint1", 1.0, 0.0)
    assert robot.joint_to["panda_leftfinger"].mimic is None
    with pytest.raises(InvalidInputError, match=r"'panda_finger_joint2' mimics 'panda_finger_joint1', which is not b"):
        chain_from_joints(robot.chain("panda_hand", "panda_rightfinger"))


LIMIT = '<limit lower="-3" upper="3" velocity="1" effort="1"/>'
BOX = '<box size="0.3 0.04 0.04"/>'
ROD = '<joint name="{}" type="fixed"><parent link="{}"/><child link="{}"/></joint></robot>'


def changed(old, new):
    assert old in PLANAR
    return PLANAR.replace(old, new)


BAD = {
    "not XML": (PLANAR[:-20], InvalidInputError, "is not XML"),
    "not a robot": ("<sdf/>", InvalidInputError, "root is <sdf>"),
    "unknown parent": (changed('<parent link="upper"/>', '<parent link="uper"/>'), UnknownNameError, "'upper'"),
    "no limit": (changed(LIMIT, ""), InvalidInputError, "no <limit"),
    "limits crossed": (changed('lower="-3"', 'lower="3.5"'), InvalidInputError, "lower < upper"),
    "NaN limit": (changed('lower="-3"', 'lower="nan"'), InvalidInputError, "lower must be 1 number"),
    "two numbers": (changed('xyz="0.4 0 0"', 'xyz="0.4 0"'), InvalidInputError, "xyz must be 3 numbers"),
    "zero axis": (changed('xyz="0 0 2"', 'xyz="0 0 0"'), InvalidInputError, "zero length"),
    "unknown type": (changed('type="fixed"', 'type="welded"'), UnknownNameError, "fixed"),
    "name twice": (changed('"elbow"', '"shoulder"'), InvalidInputError, "given twice"),
    "no geometry": (changed(BOX, ""), InvalidInputError, "has no mesh"),
    "mesh absent": (changed(BOX, '<mesh filename="package://a/b.stl"/>'), MissingFileError, "b.stl"),
    "mimics none": (
        changed('<origin xyz="0.4 0 0"/>', MIMIC.replace("shoulder", "sholder")),
        UnknownNameError,
        "'shoulder'",
    ),
    "mimics itself": (
        changed('<origin xyz="0.4 0 0"/>', MIMIC.replace("shoulder", "elbow")),
        InvalidInputError,
        "another",
    ),
    "mimics by 0": (changed('<origin xyz="0.4 0 0"/>', MIMIC.replace("-0.5", "0")), InvalidInputError, "other than 0"),
    "no speed": (changed('velocity="2"', 'velocity="0"'), InvalidInputError, "velocity > 0"),
    "two parents": (changed("</robot>", ROD.format("rod", "base", "lower")), InvalidInputError, "closed loops"),
    "ring": (changed("</robot>", ROD.format("back", "tip", "base")), InvalidInputError, "form a loop"),
}


@pytest.mark.parametrize(("text", "error", "word"), BAD.values(), ids=BAD)
def test_bad_file_gives_one_clear_error(tmp_path, text, error, word):
    with pytest.raises(error, match=word):
        read_urdf(written(tmp_path, text))


def test_absent_file_unknown_link_and_unrelated_links_are_refused(tmp_path):
    with pytest.raises(MissingFileError, match="no URDF file"):
        read_urdf(tmp_path / "none.urdf")
    robot = read_urdf(written(tmp_path, PLANAR))
    with pytest.raises(UnknownNameError, match="'base'"):
        robot.chain("bas", "tip")
    with pytest.raises(InvalidInputError, match="does not hang on"):
        robot.chain("tip", "base")


def test_floating_joint_and_rigid_chain_are_refused(tmp_path):
    text = PLANAR.replace('name="wrist" type="fixed"', 'name="wrist" type="floating"')
    with pytest.raises(InvalidInputError, match="is floating"):
        chain_from_joints(read_urdf(written(tmp_path, text)).chain("base", "tip"))
    with pytest.raises(InvalidInputError, match="no joint between base and tip moves"):
        chain_from_joints(read_urdf(written(tmp_path, PLANAR)).chain("lower", "tip"))


def test_robot_without_collision_shapes_is_refused(tmp_path):
    root = ElementTree.fromstring(PLANAR)
    for link in root.findall("link"):
        for shape in link.findall("collision"):
            link.remove(shape)
    robot = read_urdf(written(tmp_path, ElementTree.tostring(root, encoding="unicode")))
    with pytest.raises(InvalidInputError, match="no clearance can be told"):
        link_capsules(robot, chain_from_joints(robot.chain("base", "tip"))[1])


@given(st.tuples(angle, angle, angle))
@settings(max_examples=30, deadline=None)
def test_rpy_is_the_fixed_axis_rotation_of_scipy(rpy):
    expected = Rotation.from_euler("xyz", rpy).as_matrix()
    assert np.allclose(rotation_from_rpy(rpy).numpy(), expected, atol=1e-12)


def test_capsule_of_a_cylinder_is_the_cylinder_and_that_of_a_sphere_a_ball(tmp_path):
    robot = read_urdf(written(tmp_path, PLANAR))
    capsules = link_capsules(robot, chain_from_joints(robot.chain("base", "tip"))[1])
    assert capsules.names == ("upper", "lower")
    assert capsules.frame.tolist() == [1, 2]
    assert 0.03 <= capsules.radius[0] < 0.0315
    assert torch.allclose((capsules.end - capsules.start)[0].abs(), torch.tensor([0.4, 0.0, 0.0]).double(), atol=1e-9)
    assert 0.5 * (capsules.end + capsules.start)[0, 0] == pytest.approx(0.2, abs=1e-9)
    directions = np.random.default_rng(0).normal(size=(4000, 3))
    start, end, radius = enclosing_capsule(directions / np.linalg.norm(directions, axis=1, keepdims=True))
    assert radius == pytest.approx(1.0, abs=0.01)
    assert np.linalg.norm(end - start) < 0.03


@given(st.integers(0, 10**6), st.integers(2, 60))
@settings(max_examples=25, deadline=None)
def test_every_vertex_lies_in_its_capsule(seed, count):
    points = np.random.default_rng(seed).normal(size=(count, 3)) * np.array([1.0, 0.3, 0.1])
    start, end, radius = enclosing_capsule(points)
    way = end - start
    share = np.clip((points - start) @ way / max(way @ way, 1e-12), 0.0, 1.0)
    assert np.linalg.norm(points - start - share[:, None] * way, axis=1).max() <= radius * (1 + 1e-9)
