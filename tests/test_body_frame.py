"""Skin, stacks and standard planes on an ellipsoid body with closed-form answers."""

import pytest
import torch

from sonogym.anatomy.anatomy import Body
from sonogym.anatomy.library import resolve_patients
from sonogym.anatomy.planes import plane_pose, reachable_planes, spine_axis
from sonogym.anatomy.stack import VolumeStack
from sonogym.anatomy.surface import skin_from_body
from sonogym.anatomy.volume import Volume
from sonogym.errors import InvalidInputError, MissingFileError, UnknownNameError

RADIUS = 0.1


@pytest.fixture(scope="module")
def body():
    spacing, count = 2.5e-3, 100
    matrix = torch.diag(torch.tensor([spacing, spacing, spacing, 1.0], dtype=torch.float64))
    matrix[:3, 3] = -spacing * (count - 1) / 2
    axes = [(torch.arange(count) - (count - 1) / 2) * spacing] * 3
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    skin = skin_from_body(x**2 + y**2 + z**2 < RADIUS**2, matrix)
    centres = {f"vertebra_L{i}": torch.tensor([0.0, -0.03, 0.03 * (4 - i)]) for i in (3, 4, 5)}
    return Body(name="ball", skin=skin, landmarks=centres, digest="x")


def test_skin_distance_and_normal_of_a_ball(body):
    direction = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    direction = direction / direction.norm(dim=-1, keepdim=True)
    for offset in (-0.02, 0.0, 0.02):
        distance = body.skin.at((RADIUS + offset) * direction)
        assert (distance - offset).abs().max() < 1.2e-3
    assert (body.skin.normal(RADIUS * direction) * direction).sum(-1).min() > 0.995


def test_projection_lands_on_the_skin(body):
    points = body.skin.project(torch.tensor([[0.0, -0.09, 0.01], [0.07, -0.08, 0.0]]))
    assert body.skin.at(points).abs().max() < 1e-5


def test_transverse_plane_looks_in_from_the_back_with_the_head_along_elevation(body):
    matrix = plane_pose(body, "transverse_L4").matrix()
    torch.testing.assert_close(matrix[:3, 0], torch.tensor([-1.0, 0.0, 0.0]), atol=0.02, rtol=0)
    torch.testing.assert_close(matrix[:3, 1], torch.tensor([0.0, 0.0, 1.0]), atol=0.02, rtol=0)
    torch.testing.assert_close(matrix[:3, 3], torch.tensor([0.0, -RADIUS, 0.0]), atol=1.5e-3, rtol=0)


def test_sagittal_plane_has_the_head_along_the_image(body):
    torch.testing.assert_close(
        plane_pose(body, "sagittal_L4").matrix()[:3, 0], torch.tensor([0.0, 0.0, 1.0]), atol=0.02, rtol=0
    )


def test_spine_axis_points_to_the_head(body):
    torch.testing.assert_close(spine_axis(body, "L5"), torch.tensor([0.0, 0.0, 1.0]))


def test_planes_need_their_landmark(body):
    names = set(reachable_planes(body))
    assert names >= {f"{kind}_L{i}" for kind in ("transverse", "sagittal") for i in (3, 4, 5)}
    assert all(any(f"L{i}" in name for i in (3, 4, 5)) for name in names), "nothing else is known of this body"
    with pytest.raises(UnknownNameError, match="kidney_left"):
        plane_pose(body, "kidney_left_long")
    with pytest.raises(UnknownNameError, match="Did you mean 'transverse_L4'"):
        plane_pose(body, "transverse_L44")


def test_ray_that_never_meets_skin_is_refused(body):
    with pytest.raises(InvalidInputError, match="no skin"):
        body.skin.cast(torch.tensor([0.0, 0.0, 0.12]), torch.tensor([0.0, 0.0, 1.0]))


def test_stack_reads_each_environment_from_its_own_anatomy(body):
    other = Volume(body.skin.distance.voxels[:, :40] + 1.0, body.skin.distance.patient_from_voxel)
    stack = VolumeStack.from_volumes([body.skin.distance, other])
    points = torch.tensor([[[0.0, 0.0, 0.0]], [[-0.05, 0.0, 0.0]], [[-0.05, 0.0, 0.0]]])
    value = stack.trilinear(points, torch.tensor([0, 0, 1]))[:, 0]
    torch.testing.assert_close(value[1] + 1.0, value[2])
    torch.testing.assert_close(value[:2], body.skin.at(points[:2, 0]))


@pytest.mark.parametrize("matrix", [torch.zeros(4, 4, dtype=torch.float64), torch.full((4, 4), float("nan"))])
def test_singular_affine_is_refused(matrix):
    with pytest.raises(InvalidInputError, match="singular or not finite"):
        Volume(torch.zeros(1, 2, 2, 2), matrix)


def test_patient_names():
    assert resolve_patients("procedural:test/7") == ["procedural:test/7"]
    assert len(resolve_patients("procedural:train", 12)) == 12
    assert resolve_patients("procedural:val/3-5") == [f"procedural:val/{i}" for i in (3, 4, 5)]
    with pytest.raises(UnknownNameError, match="Did you mean 'test'"):
        resolve_patients("procedural:tets")
    with pytest.raises(InvalidInputError, match=r"0 \.\. 199"):
        resolve_patients("procedural:test/200")
    with pytest.raises(MissingFileError, match="neither an imported folder"):
        resolve_patients("/no/such/patient")
