"""Where the patient lies. Mutations seen to fail: the head to -y, up along the probe instead of against it, the bed at
the grid's border, the first start instead of their mean."""

import pytest
import torch
from arm_fixtures import ARMS
from skin_phantom import torso

from sonogym.anatomy.phantoms import flat_skin, phantom_pose
from sonogym.anatomy.stack import VolumeStack
from sonogym.geometry import Pose, so3
from sonogym.robot.arm import load_arm
from sonogym.robot.placement import WEDGE, lay

DEPTH, WIDTH = 0.20, 0.30
SIDES = {  # where the probe is on the elliptic cylinder, along which it looks, how far the body reaches below it
    "back": ((0.0, -0.1, 0.02), (0.0, 1.0, 0.0), DEPTH),
    "belly": ((0.0, 0.1, -0.05), (0.0, -1.0, 0.0), DEPTH),
    "right flank": ((0.15, 0.0, 0.0), (-1.0, 0.1, 0.0), WIDTH),
    "left flank": ((-0.15, 0.0, 0.1), (1.0, 0.0, 0.0), WIDTH),
}


def probe(point, axis):
    return Pose.from_axes(torch.tensor([0.0, 0.0, 1.0]), torch.tensor(axis), torch.tensor(point))


def placed(names, arm):
    poses = [probe(*SIDES[name][:2]) for name in names]
    starts = Pose(*(torch.stack([getattr(p, key) for p in poses])[:, None] for key in ("quaternion", "translation")))
    skin = VolumeStack.from_volumes([torso(WIDTH, DEPTH).skin.distance] * len(names))
    return lay(skin, starts, arm), starts


@pytest.mark.parametrize("name", ARMS)
def test_head_lies_to_y_the_scan_where_the_arm_wants_it_and_the_bed_under_the_body(name):
    arm = load_arm(name)
    placement, starts = placed(SIDES, arm)
    goal = placement.base_from_patient.unsqueeze(1) @ starts
    assert torch.allclose(goal.translation[:, 0], arm.scan_at.expand(len(SIDES), 3), atol=1e-6)
    for at, side in enumerate(SIDES):
        pose = placement.base_from_patient[at]
        assert so3.rotate(pose.quaternion, torch.tensor([0.0, 0.0, 1.0])).tolist() == pytest.approx([0, 1, 0], abs=1e-6)
        inward = so3.rotate(goal.quaternion[at, 0], torch.tensor([0.0, 0.0, 1.0]))
        if side in ("back", "belly"):
            assert inward[2] < -0.99
            height = goal.translation[at, 0, 2].item() - placement.bed_height[at].item()
            assert height == pytest.approx(DEPTH, abs=2e-3)
        else:
            leaning = torch.atan2(inward[0], -inward[2]).item()
            assert abs(leaning - arm.lean) <= 0.5 * WEDGE + 1e-6


def test_bed_touches_the_lowest_point_of_a_propped_up_body():
    """The elliptic cylinder's reach along a direction at angle a: sqrt((w/2 sin a)^2 + (d/2 cos a)^2)."""
    arm = load_arm("kuka_iiwa")
    placement, _ = placed(["right flank"], arm)
    up = so3.rotate(so3.conjugate(placement.base_from_patient.quaternion[0]), torch.tensor([0.0, 0.0, 1.0]))
    reach = ((0.5 * WIDTH * up[0]) ** 2 + (0.5 * DEPTH * up[1]) ** 2).sqrt()
    centre = placement.base_from_patient.translation[0, 2]
    assert (centre - placement.bed_height[0]).item() == pytest.approx(reach.item(), abs=2e-3)


def test_mean_of_several_starts_decides_for_each_patient():
    arm = load_arm("kuka_iiwa")
    one, _ = placed(["back", "right flank"], arm)
    low, high = (probe((x, -0.1, 0.0), (0.0, 1.0, 0.0)) for x in (-0.04, 0.04))
    starts = Pose(*(torch.stack((getattr(low, k), getattr(high, k)))[None] for k in ("quaternion", "translation")))
    skin = VolumeStack.from_volumes([torso(WIDTH, DEPTH).skin.distance])
    both = lay(skin, starts, arm)
    middle = (both.base_from_patient.unsqueeze(1) @ starts).translation.mean(1)
    assert torch.allclose(middle[0], arm.scan_at, atol=1e-6)
    assert torch.equal(both.base_from_patient.quaternion[0], one.base_from_patient.quaternion[0])


def test_bed_lies_under_a_body_that_the_scan_cuts_off():
    """A flat phantom has skin on one side only; below, its grid ends 0.05 + 0.04 m deep."""
    arm = load_arm("kuka_iiwa")
    skin = flat_skin((0.2, 0.05, 0.2))
    placement = lay(VolumeStack.from_volumes([skin.distance]), phantom_pose().unsqueeze(0).unsqueeze(0), arm)
    deepest = skin.distance.patient_from_voxel[1, 3] + (skin.distance.voxels.shape[2] - 1) * 3e-3
    below = arm.scan_at[2].item() - placement.bed_height.item()
    assert below == pytest.approx(float(deepest), abs=1e-3)
