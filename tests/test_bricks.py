"""Voxels in bricks: each is found where it should be, and neighbours in an image plane share cache lines.

Mutations seen to fail: two axes of a brick swapped; truncation in place of rounding in ``nearest``.
"""

import pytest
import torch

from sonogym.anatomy.bricks import STRIDE, BrickStack, address
from sonogym.anatomy.volume import Volume
from sonogym.errors import InvalidInputError

SHAPES = ((13, 9, 7), (6, 8, 5), (1, 2, 3))


@pytest.fixture(scope="module")
def volumes():
    generator = torch.Generator().manual_seed(0)
    return [
        Volume(torch.randint(0, 256, (4, *shape), dtype=torch.uint8, generator=generator), torch.eye(4).double())
        for shape in SHAPES
    ]


def grid(shape):
    return torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij"), dim=-1)


def test_every_voxel_lies_at_its_address(volumes):
    stack = BrickStack.from_volumes(volumes)
    for number, volume in enumerate(volumes):
        at = stack.offset[number] + address(grid(SHAPES[number]), torch.tensor(STRIDE), stack.leap[number])
        assert len(at.unique()) == at.numel()
        assert torch.equal(stack.flat[at], volume.voxels.movedim(0, -1))


def test_nearest_voxel_is_clamped_to_the_border(volumes):
    points = torch.tensor([[[2.4, 3.6, 1.0], [-5.0, 20.0, 0.4]]])
    found = BrickStack.from_volumes(volumes).nearest(points, torch.tensor([1]))
    assert torch.equal(found[0], volumes[1].voxels[:, [2, 0], [4, 7], [1, 0]].T)


@pytest.mark.parametrize(("axis", "share"), [(0, 8), (1, 4), (2, 8)])
def test_a_plane_reads_many_voxels_of_each_cache_line(axis, share):
    """Sagittal and transverse planes find eight of the sixteen words of a line, coronal ones four."""
    stack = BrickStack.from_volumes([Volume(torch.zeros(4, 16, 16, 16, dtype=torch.uint8), torch.eye(4).double())])
    plane = address(grid((16, 16, 16)), torch.tensor(STRIDE), stack.leap[0]).select(axis, 5)
    assert plane.numel() / len((plane // 16).unique()) == share


def test_no_patient_is_refused():
    with pytest.raises(InvalidInputError, match="at least one patient"):
        BrickStack.from_volumes([])
