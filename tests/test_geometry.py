import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import RigidTransform, Rotation

from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose, grids, so3

component = st.floats(-2.0, 2.0, allow_nan=False, width=32)
twists = st.lists(component, min_size=6, max_size=6).map(lambda values: torch.tensor(values, dtype=torch.float64))


def wxyz(rotation):
    return torch.from_numpy(rotation.as_quat(scalar_first=True).copy())


@settings(max_examples=50, deadline=None)
@given(twists)
def test_exp_agrees_with_scipy(twist):
    angular_first = torch.cat((twist[3:], twist[:3])).numpy()
    expected = RigidTransform.from_exp_coords(angular_first).as_matrix()
    torch.testing.assert_close(Pose.exp(twist).matrix(), torch.from_numpy(expected), atol=1e-9, rtol=0)


@settings(max_examples=50, deadline=None)
@given(twists, twists, twists)
def test_se3_axioms(a, b, c):
    p, q, r = Pose.exp(a), Pose.exp(b), Pose.exp(c)
    torch.testing.assert_close(((p @ q) @ r).matrix(), (p @ (q @ r)).matrix(), atol=1e-9, rtol=0)
    torch.testing.assert_close((p @ p.inverse()).matrix(), torch.eye(4, dtype=torch.float64), atol=1e-9, rtol=0)


@settings(max_examples=50, deadline=None)
@given(twists)
def test_log_undoes_exp_below_half_a_turn(twist):
    if twist[3:].norm() > 3.0:
        twist = torch.cat((twist[:3], 3.0 * twist[3:] / twist[3:].norm()))
    torch.testing.assert_close(Pose.exp(twist).log(), twist, atol=1e-6, rtol=0)


def test_log_near_half_a_turn_and_near_zero_is_finite_with_gradient():
    for angle in (0.0, 1e-9, 1e-4, math.pi - 1e-6):
        vector = torch.tensor([angle, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
        so3.log(so3.exp(vector)).sum().backward()
        assert torch.isfinite(vector.grad).all()


def test_matrix_round_trip_over_all_four_branches():
    rotations = Rotation.from_rotvec([[3.1, 0.1, 0], [0, 3.1, 0.1], [0.1, 0, 3.1], [0.1, 0.2, 0.3]])
    matrices = torch.from_numpy(rotations.as_matrix())
    torch.testing.assert_close(so3.to_matrix(so3.from_matrix(matrices)), matrices)


def test_apply_agrees_with_the_matrix_and_broadcasts():
    pose = Pose.exp(torch.randn(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    points = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = grids.affine(pose.matrix()[:, None], points)
    torch.testing.assert_close(pose.unsqueeze(-1).apply(points), expected)


def test_reflection_is_refused():
    with pytest.raises(InvalidInputError, match="not a rotation"):
        so3.from_matrix(torch.diag(torch.tensor([1.0, 1.0, -1.0])))


def test_angle_is_that_of_the_relative_rotation():
    left, right = so3.exp(torch.tensor([0.2, 0.0, 0.0])), so3.exp(torch.tensor([-0.3, 0.0, 0.0]))
    assert so3.angle(left, -right).item() == pytest.approx(0.5, abs=1e-6)


def test_trilinear_is_exact_on_affine_fields_and_second_grids():
    shape = torch.tensor([4, 5, 6])
    x, y, z = torch.meshgrid(*[torch.arange(int(n), dtype=torch.float64) for n in shape], indexing="ij")
    flat = torch.cat((torch.zeros(7, dtype=torch.float64), (1 + 2 * x - 3 * y + 0.5 * z).reshape(-1)))
    points = torch.rand(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * (shape - 1)
    value = grids.trilinear(flat, torch.tensor(7).expand(40), shape.expand(40, 3), points)
    torch.testing.assert_close(value, 1 + 2 * points[:, 0] - 3 * points[:, 1] + 0.5 * points[:, 2])


def test_nearest_clamps_to_the_border():
    flat = torch.arange(8)
    points = torch.tensor([[-5.0, 0.2, 0.9], [9.0, 9.0, 9.0]])
    value = grids.nearest(flat, torch.tensor([0, 0]), torch.tensor([[2, 2, 2], [2, 2, 2]]), points)
    assert value.tolist() == [1, 7]
