"""Refraction: Snell's law bends lines where the speed of sound changes.

Mutations seen to fail: sign of the incident part; ratio instead of its square; no bend below 20 % of difference.
"""

import math

import pytest
import torch
from laboratory import render

from sonogym.anatomy.phantoms import phantom, phantom_pose
from sonogym.anatomy.tissues import Tissue
from sonogym.ultrasound.acoustics import load_acoustics_table
from sonogym.ultrasound.refraction import bend

DEPTH, BEYOND, WIRE = 0.015, 0.018, 1.2e-3
VIEW = {"lines": 256, "samples": 512, "depth": 0.04, "texture": False, "noise": False, "outputs": ("envelope",)}


def wire_behind(angle, above, below):
    """A bone wire straight below the middle of the face, ``BEYOND`` behind an interface turned by ``angle``."""

    def lower(points):
        return (points[..., 1] - DEPTH) * math.cos(angle) - points[..., 0] * math.sin(angle) >= 0

    def wire(points):
        return torch.hypot(points[..., 0], points[..., 1] - DEPTH - BEYOND) <= WIRE

    shapes = [(below, lower), (Tissue.CORTICAL_BONE, wire)]
    return phantom("wire", above, shapes, spacing=2.5e-4, size=(0.044, 0.04, 0.004))


def place_of_wire(anatomy, backend, refraction):
    """Lateral place [m] of the middle of the wire's echo."""
    frame = render(anatomy, "L11-5v", pose=phantom_pose(press=1e-3), backend=backend, refraction=refraction, **VIEW)
    rows = (frame.depth > 0.028) & (frame.depth < 0.036)
    profile = frame.envelope[0][rows].amax(0).double()
    profile = torch.where(profile > 0.5 * profile.max(), profile, torch.zeros_like(profile))
    return float((profile * frame.line_position).sum() / profile.sum())


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize("degrees", [-20.0, 25.0])
def test_wire_behind_a_slanted_interface_is_displaced_as_snell_says(backend, degrees):
    angle, speed = math.radians(degrees), load_acoustics_table().speed
    anatomy = wire_behind(angle, Tissue.SUBCUTANEOUS_FAT, Tissue.MUSCLE)
    shift = place_of_wire(anatomy, backend, True) - place_of_wire(anatomy, backend, False)
    ratio = float(speed[Tissue.MUSCLE] / speed[Tissue.SUBCUTANEOUS_FAT])
    turn = math.asin(ratio * math.sin(abs(angle))) - abs(angle)
    expected = math.copysign(BEYOND * math.tan(turn), angle)
    assert shift == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_lines_stay_straight_at_normal_incidence_and_between_equal_speeds(backend):
    for angle, below in ((0.0, Tissue.MUSCLE), (math.radians(25.0), Tissue.VISCERAL_FAT)):
        anatomy = wire_behind(angle, Tissue.SUBCUTANEOUS_FAT, below)
        shift = place_of_wire(anatomy, backend, True) - place_of_wire(anatomy, backend, False)
        assert abs(shift) < 1e-4


def test_bend_obeys_snell_in_the_plane_of_incidence_and_keeps_length():
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    normal = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    ratio = 0.8 + 0.4 * torch.rand(200, generator=generator, dtype=torch.float64)
    after = bend(direction, normal, ratio)
    assert torch.allclose(after.norm(dim=-1), direction.norm(dim=-1))

    def sine(vectors):
        return torch.linalg.cross(vectors, normal).norm(dim=-1) / vectors.norm(dim=-1) / normal.norm(dim=-1)

    bent = (after - direction).norm(dim=-1) > 0
    assert torch.allclose(sine(after)[bent], (ratio * sine(direction))[bent])
    straight = (ratio * sine(direction) >= 1.0) | ((ratio - 1.0).abs() <= 0.02)
    assert bool((bent == ~straight).all())
    triple = (torch.linalg.cross(direction, normal) * after).sum(-1)
    assert triple.abs().max() < 1e-12
    assert bool(((after * normal).sum(-1).sign() == (direction * normal).sum(-1).sign()).all())


def test_reference_and_kernel_agree_with_refraction():
    anatomy = wire_behind(math.radians(25.0), Tissue.SUBCUTANEOUS_FAT, Tissue.MUSCLE)
    beams = [
        render(anatomy, "L11-5v", pose=phantom_pose(press=1e-3), backend=backend, refraction=True, planes=3,
               ring_down=True, lines=64, samples=128, depth=0.04).beam.int()
        for backend in ("numba", "reference")
    ]  # fmt: skip
    assert float(((beams[0] - beams[1]).abs() <= 1).float().mean()) >= 0.999
