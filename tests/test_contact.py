"""What a face feels over known bodies: force, pressure, friction, lift and the depth of bone.

Golden numbers: the closed form of contact.md on a flat slab, an integral over a fine grid for the convex face.
Mutations seen to fail: exp for expm1, no or twice the root of the contact area, column without the indentation,
friction along the sliding or without a sticking speed, lift of the other sign, damping or loss of the wrong sign, bone
beside the line not counted as deeper, nodes only (no crossing between them), gel ignored.
"""

import math

import pytest
import torch

from sonogym.anatomy.bone import REACH, bone_distance, column_above_bone
from sonogym.anatomy.phantoms import homogeneous, phantom_pose, plate
from sonogym.anatomy.stack import VolumeStack
from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose
from sonogym.robot.contact import Contact, ContactFactors
from sonogym.ultrasound.contact import face_contact
from sonogym.ultrasound.pressure import face_pressure
from sonogym.ultrasound.transducer import load_probe

BONE = 0.04
SLAB = plate(BONE, 0.02, spacing=2e-3)
SOFT = homogeneous(spacing=2e-3)
SKIN = VolumeStack.from_volumes([SLAB.skin.distance, SOFT.skin.distance])
BONES = VolumeStack.from_volumes([bone_distance(SLAB.labels), bone_distance(SOFT.labels)])


def read(probe="flat75", press=0.006, patient=0, turn=None, **kwargs):
    """A reading of one pose; ``turn`` (3,) [rad] tilts the probe about its own axes."""
    pose = phantom_pose(press=press).unsqueeze(0)
    if turn is not None:
        pose = pose @ Pose.exp(torch.tensor([[0.0, 0.0, 0.0, *turn]]))
    contact = Contact(SKIN, BONES, load_probe(probe))
    return contact.read(pose, torch.tensor([patient]), **kwargs)


def law(area, bone, delta):
    """F0 (exp(delta / d0) - 1) of contact.md, written anew."""
    d0 = min(max(bone, 0.023), 0.09) / 7.5
    return math.sqrt(area / 840e-6) * (math.exp(delta / d0) - 1.0), d0


@pytest.mark.parametrize(("patient", "bone"), [(0, BONE), (1, 0.09)])
@pytest.mark.parametrize("press", [0.003, 0.006, 0.012])
@pytest.mark.parametrize("probe", ["flat75", "L11-5v"])
def test_force_on_a_flat_slab_is_the_closed_form(probe, press, patient, bone):
    """Within 2 %; no bone within reach counts as bone at 90 mm."""
    face = load_probe(probe)
    force, d0 = law(face.width * face.height, bone, press)
    reading = read(probe, press, patient)
    assert reading.force.item() == pytest.approx(force, rel=0.02)
    assert reading.indentation.item() == pytest.approx(press, abs=1e-5)
    assert reading.contact_area.item() == pytest.approx(face.width * face.height, rel=0.01)
    assert reading.peak_pressure.item() == pytest.approx(force / (face.width * face.height), rel=0.02)
    assert reading.depth_scale.item() == pytest.approx(d0, rel=0.02)


def test_force_of_a_convex_face_is_the_integral_over_its_arc():
    """Strips of the arc, each with its own depth and column, summed on 4001 strips; within 3 %."""
    face, press = load_probe("C5-2v"), 0.009
    angle = (torch.arange(4001, dtype=torch.float64) / 4000 - 0.5) * face.field_of_view
    depth = press - face.radius * (1 - angle.cos())
    column = (BONE - depth) / angle.cos() + depth
    touched = (depth > 0).double().mean() * face.width * face.height
    pressure = torch.expm1(depth.clamp_min(0) / (column.clamp(0.023, 0.09) / 7.5)) / math.sqrt(touched * 840e-6)
    force = (pressure * angle.cos()).mean() * face.width * face.height
    assert read("C5-2v", press).force.item() == pytest.approx(force.item(), rel=0.03)


@pytest.mark.parametrize("probe", ["flat75", "C5-2v"])
def test_stiffness_is_the_slope_of_the_force_and_the_scales_extend_it(probe):
    step, press = 2e-4, 0.012
    below, here, above = (read(probe, press + shift) for shift in (-step, 0.0, step))
    slope = (above.force - below.force) / (2 * step)
    assert here.stiffness.item() == pytest.approx(slope.item(), rel=0.03)
    extended = (here.force + here.force_scale) * torch.exp(2e-3 / here.depth_scale) - here.force_scale
    assert extended.item() == pytest.approx(read(probe, press + 2e-3).force.item(), rel=0.03)


def test_air_gives_no_force_and_contact_a_growing_one():
    force = torch.stack([read("C5-2v", press).force[0] for press in (-0.02, -0.003, 0.0, 0.003, 0.006, 0.012)])
    assert force[:3].abs().max() < 0.01
    assert (force[2:].diff() > 0).all()
    assert read("C5-2v", -0.02).coupled.item() == 0.0


def test_bone_under_one_half_of_the_face_moves_the_centre_of_pressure_there():
    """A plate 30 mm deep under x > 0 (the patient's left, where the phantom's x axis is negative)."""
    body = plate(0.03, 0.02, width=0.04, spacing=2e-3)
    bone = VolumeStack.from_volumes([bone_distance(body.labels)])
    contact = Contact(VolumeStack.from_volumes([body.skin.distance]), bone, load_probe("flat75"))
    reading = contact.read(phantom_pose(lateral=-0.03, press=0.008).unsqueeze(0), torch.tensor([0]))
    assert reading.centre_of_pressure[0, 0] > 0.003
    assert abs(reading.centre_of_pressure[0, 1]) < 1e-4
    assert 0.03 < reading.bone_depth.item() < 0.09
    hard, soft = law(0.075 * 0.01, 0.03, 0.008)[0], law(0.075 * 0.01, 0.09, 0.008)[0]
    assert soft < reading.force.item() < hard


def test_tilt_lifts_the_edge_it_raises_and_uncouples_it():
    """Turned about y by +10 degrees, z leans to +x and the +x edge rises by the sine: 37.5 mm x 6/7 of it is read."""
    tilt = math.radians(10.0)
    reading = read("flat75", 0.0, turn=(0.0, tilt, 0.0))
    face = load_probe("flat75")
    assert reading.lift[0, 0].abs().item() == pytest.approx(face.width * 3 / 7 * math.sin(tilt), rel=0.02)
    assert reading.lift[0, 1].abs().item() < 1e-5
    assert reading.coupled.item() < 0.75
    other = read("flat75", 0.0, turn=(0.0, -tilt, 0.0))
    assert other.lift[0, 0].item() == pytest.approx(-reading.lift[0, 0].item(), abs=1e-5)
    assert torch.sign(reading.centre_of_pressure[0, 0]) == -torch.sign(reading.lift[0, 0])


def test_friction_opposes_the_sliding_and_is_mu_times_the_force():
    velocity = torch.tensor([[0.03, -0.04, 0.0]])
    reading = read(velocity=velocity, factors=ContactFactors(friction=torch.tensor([0.3])))
    assert reading.friction.norm().item() == pytest.approx(0.3 * reading.force.item(), rel=1e-4)
    assert (reading.friction * velocity[:, :2]).sum() < 0
    assert torch.linalg.vecdot(reading.friction[0], torch.tensor([0.04, 0.03])).abs() < 1e-6
    slow = read(velocity=1e-3 * velocity, factors=ContactFactors(friction=torch.tensor([0.3])))
    assert slow.friction.norm() < 0.06 * reading.friction.norm()
    assert not read().friction.any()


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_press_and_release_over_a_cycle_take_energy(loss):
    """Poses of a sine of 8 mm, read with the speeds along it: the work done on the body is positive, most with loss."""
    time = torch.linspace(0, 2 * math.pi, 400)
    press, speed = 0.004 * (1 - time.cos()), 0.004 * time.sin()
    base = phantom_pose()
    pose = Pose(base.quaternion.expand(400, 4), base.translation + press[:, None] * torch.tensor([0.0, 1.0, 0.0]))
    velocity = torch.zeros(400, 3)
    velocity[:, 2] = speed
    contact = Contact(SKIN, BONES, load_probe("C5-2v"))
    index = torch.zeros(400, dtype=torch.long)
    force = contact.read(pose, index, velocity, ContactFactors(loss=torch.full((400,), loss))).force
    work = (force * speed).sum().item() * (time[1] - time[0]).item()
    pressing = (force * speed).clamp_min(0).sum().item() * (time[1] - time[0]).item()
    assert 0.01 * pressing < work < 0.6 * pressing
    assert work > 0.3 * pressing or loss == 0.0


def test_thick_gel_couples_across_a_wider_gap_and_stiff_tissue_pushes_harder():
    thin, thick = (read("C5-2v", 0.0, factors=ContactFactors(gel=torch.tensor([g]))) for g in (1e-3, 6e-3))
    assert thin.coupled.item() < 0.3 < 0.5 < thick.coupled.item()
    stiff = read(factors=ContactFactors(stiffness=torch.tensor([2.0])))
    assert stiff.force.item() == pytest.approx(2.0 * read().force.item(), rel=1e-4)


@pytest.mark.parametrize(("probe", "within"), [("flat75", 0.002), ("C5-2v", 0.07)])
def test_image_and_reading_share_pressure_and_coupling(probe, within):
    """Scan lines against the points of the face, in stiff tissue under a thin gel; the face's points are 7 an arc."""
    face, gel = load_probe(probe), torch.tensor([1.5e-3])
    for press in (0.003, 0.010):
        pose = phantom_pose(press=press)
        origin, direction = (part[None] for part in face.scanlines(64))
        origin, direction = pose.apply(origin), pose.apply(direction) - pose.translation
        lines = face_contact(SKIN, BONES, torch.tensor([0]), origin, direction, gel)
        pressure = face_pressure(lines, face.width * face.height, torch.tensor([2.0]))
        reading = read(probe, press, factors=ContactFactors(stiffness=torch.tensor([2.0]), gel=gel))
        assert pressure.item() == pytest.approx(reading.force.item() / (face.width * face.height), rel=within)
        assert lines.coupling.mean().item() == pytest.approx(reading.coupled.item(), abs=within)


def test_bone_below_a_tilted_line_lies_where_the_line_meets_it_and_beside_it_counts_as_deeper():
    """30 mm / cos; past the edge of the plate by s about 2 s is added, and REACH far from it."""
    bone = VolumeStack.from_volumes([bone_distance(plate(0.03, 0.008, width=0.02, spacing=1e-3).labels)])
    angle = torch.tensor(0.3)
    x = torch.tensor([0.0, 0.004, 0.016, 0.024, 0.075])
    origin = torch.stack((x, torch.zeros(5), torch.zeros(5)), -1)[None]
    down = torch.tensor([0.0, 1.0, 0.0]).expand(1, 5, 3)
    depth = column_above_bone(bone, torch.tensor([0]), origin, down)[0]
    assert depth[:2].tolist() == pytest.approx([0.03, 0.03], abs=3e-4)
    assert 0.036 < depth[2] < 0.045 < depth[3] < 0.06
    assert depth[4] == pytest.approx(REACH)
    lean = torch.tensor([-angle.sin(), angle.cos(), 0.0]).expand(1, 1, 3)
    origin = torch.tensor([[[0.009, 0.0, 0.0]]])
    met = column_above_bone(bone, torch.tensor([0]), origin, lean)
    assert met.item() == pytest.approx(0.03 / math.cos(0.3), abs=1e-3)


def test_batch_is_the_loop():
    spread = torch.tensor([5e-3, 5e-3, 5e-3, 0.05, 0.05, 0.05])
    generator = torch.Generator().manual_seed(2)
    pose = phantom_pose(press=0.005).unsqueeze(0) @ Pose.exp(torch.randn(6, 6, generator=generator) * spread)
    index = torch.tensor([0, 1, 0, 1, 0, 1])
    contact = Contact(SKIN, BONES, load_probe("C5-2v"))
    together = contact.read(pose, index, torch.full((6, 3), 0.01))
    for at in range(6):
        alone = contact.read(pose[at : at + 1], index[at : at + 1], torch.full((1, 3), 0.01))
        for name, value in vars(alone).items():
            assert torch.allclose(value[0], getattr(together, name)[at], rtol=1e-5, atol=1e-7), name


@pytest.mark.parametrize("probe", ["C5-2v", "flat75"])
def test_compiled_reading_is_the_one_in_torch(probe):
    generator = torch.Generator().manual_seed(4)
    spread = torch.tensor([5e-3, 5e-3, 8e-3, 0.1, 0.1, 0.5])
    pose = phantom_pose(press=0.004).unsqueeze(0) @ Pose.exp(torch.randn(24, 6, generator=generator) * spread)
    index, contact = torch.arange(24) % 2, Contact(SKIN, BONES, load_probe(probe))
    drawn = torch.rand(4, 24, generator=generator)
    factors = ContactFactors(
        stiffness=0.5 + drawn[0], friction=drawn[1], loss=0.5 * drawn[2], gel=1e-3 + 2e-3 * drawn[3]
    )
    for velocity in (None, 0.02 * torch.randn(24, 3, generator=generator)):
        for given in (factors, ContactFactors()):
            fused, defined = (
                contact.read(pose, index, velocity, given),
                contact.read_reference(pose, index, velocity, given),
            )
            assert (fused.force > 0.1).any()
            assert (fused.force < 0.01).any()
            for name, value in vars(defined).items():
                bound = 2e-4 * value.abs().max().item() + 1e-7
                assert torch.allclose(getattr(fused, name), value, rtol=2e-3, atol=bound), name


def test_impossible_factors_and_probes_are_refused():
    with pytest.raises(InvalidInputError, match="stiffness of the contact must be"):
        ContactFactors(stiffness=torch.tensor([0.0]))
    with pytest.raises(InvalidInputError, match="friction of the contact must be"):
        ContactFactors(friction=torch.tensor([math.nan]))
    with pytest.raises(InvalidInputError, match="loss of the contact must be"):
        ContactFactors(loss=torch.tensor([1.2]))
    with pytest.raises(InvalidInputError, match="lies inside the body"):
        Contact(SKIN, BONES, load_probe("radial360"))


def test_compiled_query_is_the_one_in_torch():
    """Asking for gradients takes the torch path."""
    body = plate(0.03, 0.008, width=0.02, spacing=2e-3)
    bone = VolumeStack.from_volumes([bone_distance(body.labels), bone_distance(SOFT.labels)])
    generator = torch.Generator().manual_seed(3)
    origin = 0.03 * torch.randn(40, 5, 3, generator=generator)
    direction = torch.nn.functional.normalize(torch.randn(40, 5, 3, generator=generator), dim=-1)
    index = torch.arange(40) % 2
    compiled = column_above_bone(bone, index, origin, direction)
    assert torch.allclose(compiled, column_above_bone(bone, index, origin.requires_grad_(), direction), atol=1e-6)
    read = bone.trilinear(origin.detach(), index)
    assert torch.allclose(read, bone.trilinear(origin, index), atol=1e-6)
    assert compiled.std() > 0.01
