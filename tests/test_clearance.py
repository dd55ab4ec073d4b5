"""Margins of an arm. Mutations seen to fail: radius not taken off, patient pose not inverted, tool capsule off its
flange, distance beyond the grid clamped, an end of a segment left out."""

import math

import pybullet
import pytest
import torch
from arm_fixtures import ARMS, arm, postures
from hypothesis import given, settings
from hypothesis import strategies as st
from skin_phantom import torso

from sonogym.anatomy.stack import VolumeStack
from sonogym.anatomy.volume import Volume
from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose, so3
from sonogym.robot.clearance import Clearance, distance_to_skin, segment_distance

RADIUS = 0.1  # m, of the ball that stands for a patient


def ball():
    """Exact signed distance of a ball on a 3 mm grid with 36 mm of air around it, as patients have."""
    count = 91
    matrix = torch.diag(torch.tensor([3e-3, 3e-3, 3e-3, 1.0], dtype=torch.float64))
    matrix[:3, 3] = -3e-3 * (count - 1) / 2
    line = 3e-3 * (torch.arange(count) - (count - 1) / 2)
    x, y, z = torch.meshgrid(line, line, line, indexing="ij")
    return Volume(((x * x + y * y + z * z).sqrt() - RADIUS)[None].float(), matrix)


@pytest.fixture(scope="module")
def skin():
    return VolumeStack.from_volumes([ball(), torso().skin.distance])


def at(x, y, z, count=1):
    pose = Pose.identity(count)
    return Pose(pose.quaternion, pose.translation + torch.tensor([x, y, z]))


INDEX = torch.zeros(1, dtype=torch.long)


LOW = {"kuka_iiwa": [0, 60, 0, -90, 0, 30, 0], "franka_panda": [0, 20, 0, -125, 0, 145, 45]}  # deg, tool straight down


@pytest.mark.parametrize("name", ARMS)
def test_bed_margin_is_the_height_of_the_lowest_capsule(name, skin):
    which = arm(name, tool="probe", dtype=torch.float32)
    q = torch.deg2rad(torch.tensor([LOW[name]], dtype=torch.float32))
    clearance = Clearance(arm=which, skin=skin, bed_height=-0.3)
    lowest = arm(name).base_from_tool(q.double()).translation[0, 2].item() - 0.115 - 0.035  # the probe's capsule
    assert clearance.margin(q, at(0.6, 0.0, -2.0), INDEX).bed.item() == pytest.approx(lowest + 0.3, abs=1e-5)


@pytest.mark.parametrize("gap", [0.2, 0.03, -0.02])
def test_skin_margin_is_the_distance_of_tool_and_ball(skin, gap):
    which = arm("kuka_iiwa", tool="probe", dtype=torch.float32)
    clearance = Clearance(arm=which, skin=skin, bed_height=-2.0)
    tool = which.base_from_tool(which.home).translation
    end = tool[2] + 0.065  # of the tool's segment
    below = at(tool[0].item(), tool[1].item(), end.item() - 0.035 - RADIUS - gap)
    assert clearance.margin(which.home[None], below, INDEX).skin.item() == pytest.approx(gap, abs=1e-3)


def test_placing_the_patient_elsewhere_turns_with_it(skin):
    which = arm("franka_panda", tool="probe", dtype=torch.float32)
    clearance = Clearance(arm=which, skin=skin, bed_height=-2.0)
    turn = so3.exp(torch.tensor([[0.4, -0.3, 0.9]]))
    turned = Pose(turn, torch.tensor([[0.45, 0.1, 0.05]]))
    straight = at(0.45, 0.1, 0.05)
    values = [clearance.margin(which.home[None], pose, INDEX).skin.item() for pose in (turned, straight)]
    assert values[0] == pytest.approx(values[1], rel=0.05)
    body = [clearance.margin(which.home[None], pose, INDEX + 1).skin.item() for pose in (turned, straight)]
    assert abs(body[0] - body[1]) > 5e-3


def test_distance_beyond_the_grid_stays_within_4_per_cent_of_a_balls(skin):
    axis = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    for reach in (0.05, 0.1, 0.13, 0.15, 0.2, 0.25):
        found = distance_to_skin(skin, (reach * axis)[None], INDEX)[0]
        assert (found - (reach - RADIUS)).abs().max() < 5e-4 + 0.04 * max(reach - RADIUS, 0.0)


def test_every_point_of_a_grid_that_is_turned_and_scaled_is_read_in_metres():
    matrix = torch.tensor(
        [[-2e-3, 0, 0, 0.1], [0, 0, 4e-3, -0.1], [0, 3e-3, 0, -0.1], [0, 0, 0, 1]], dtype=torch.float64
    )
    z = (matrix[:3, :3] @ torch.stack(torch.meshgrid(*[torch.arange(60.0).double()] * 3, indexing="ij")).flatten(1))[
        2
    ] - 0.1
    slab = VolumeStack.from_volumes([Volume(z.reshape(1, 60, 60, 60).float(), matrix)])
    points = torch.tensor([[[0.05, 0.0, 0.02], [0.3, 0.0, 0.02], [0.0, 0.0, 0.4], [-0.3, 0.5, 0.3]]])
    assert torch.allclose(distance_to_skin(slab, points, INDEX)[0, [0, 2]], points[0, [0, 2], 2], atol=1e-5)


@pytest.mark.parametrize("name", ARMS)
def test_capsules_hold_the_links_meshes_as_pybullet_has_them(name, skin):
    """The distance of two links' hulls is at least that of their capsules (Bullet pads hulls by about 1 mm)."""
    import pybullet_data

    path = {"kuka_iiwa": "kuka_iiwa/model.urdf", "franka_panda": "franka_panda/panda.urdf"}[name]
    which = arm(name)
    clearance = Clearance(arm=which.to(dtype=torch.float32), skin=skin, bed_height=-2.0)
    q = postures(which, 6, seed=1)
    margin = clearance.margin(q.float(), at(9.0, 0.0, 0.0, 6), INDEX.expand(6)).itself
    frame = which.capsules.frame
    client = pybullet.connect(pybullet.DIRECT)
    body = pybullet.loadURDF(f"{pybullet_data.getDataPath()}/{path}", useFixedBase=True, physicsClientId=client)
    for row in range(6):
        for joint in range(7):
            pybullet.resetJointState(body, joint, q[row, joint].item(), physicsClientId=client)
        true = min(
            point[8]
            for one, two in zip(clearance._first, clearance._second, strict=True)
            for point in pybullet.getClosestPoints(
                body, body, 3.0, int(frame[one]) - 1, int(frame[two]) - 1, physicsClientId=client
            )
        )
        assert -2e-3 < true - margin[row].item() < 0.12
    pybullet.disconnect(client)


def test_folded_arm_hits_itself_and_the_home_posture_does_not(skin):
    which = arm("franka_panda", tool="probe", dtype=torch.float32)
    clearance = Clearance(arm=which, skin=skin, bed_height=-2.0)
    folded = torch.tensor([[0.0, 0.0, 0.0, -3.05, 0.0, 1.2, 0.0]])
    q = torch.cat((which.home[None], folded))
    margin = clearance.margin(q, at(9.0, 0.0, 0.0, 2), INDEX.expand(2))
    assert margin.itself[0] > 0.02
    assert margin.itself[1] < 0
    assert torch.equal(margin.least, torch.minimum(torch.minimum(margin.bed, margin.skin), margin.itself))


def test_batch_is_the_loop(skin):
    which = arm("kuka_iiwa", tool="drill", dtype=torch.float32)
    clearance = Clearance(arm=which, skin=skin, bed_height=0.0)
    q, place, index = postures(which, 5), at(0.5, 0.0, 0.2, 5), torch.tensor([0, 1, 0, 1, 1])
    whole = clearance.margin(q, place, index)
    for row in range(5):
        alone = clearance.margin(q[row : row + 1], place[row : row + 1], index[row : row + 1])
        for name in ("bed", "skin", "itself"):
            assert getattr(alone, name)[0].item() == pytest.approx(getattr(whole, name)[row].item(), abs=1e-6)


number = st.floats(-1.0, 1.0)
point = st.tuples(number, number, number)


@given(point, point, point, point)
@settings(max_examples=60, deadline=None)
def test_distance_of_segments_is_the_least_of_a_fine_grid(a, b, c, d):
    p, q, r, s = (torch.tensor([v], dtype=torch.float64) for v in (a, b, c, d))
    share = torch.linspace(0, 1, 201, dtype=torch.float64)[:, None]
    grid = torch.cdist(p + share * (q - p), r + share * (s - r)).min().item()
    found = segment_distance(p, q, r, s).item()
    assert found <= grid + 1e-5
    assert found >= grid - 0.02


def test_distance_of_parallel_crossing_and_point_segments():
    zero, x, y = torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    assert segment_distance(zero, x, y, x + y).item() == pytest.approx(1.0)
    assert segment_distance(zero, x, 3 * x, 5 * x).item() == pytest.approx(2.0)
    assert segment_distance(-x, x, -y, y).item() == pytest.approx(0.0, abs=1e-6)
    assert segment_distance(zero, zero, x + y, x + y).item() == pytest.approx(math.sqrt(2.0))


def test_bed_in_millimetres_is_refused(skin):
    with pytest.raises(InvalidInputError, match="bed_height must be in"):
        Clearance(arm=arm("kuka_iiwa"), skin=skin, bed_height=-100.0)
