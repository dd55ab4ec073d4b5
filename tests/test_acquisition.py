"""Volumes from swept planes and fans: poses, places and sizes."""

import math

import numpy as np
import pytest
import torch
from laboratory import BARE
from scipy import ndimage

from sonogym.anatomy.phantoms import phantom, phantom_pose
from sonogym.anatomy.tissues import Tissue
from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose, grids
from sonogym.ultrasound.acquisition import Sweep, acquire
from sonogym.ultrasound.bake import bake
from sonogym.ultrasound.frame import RenderConfig, RenderParams
from sonogym.ultrasound.renderer import Renderer

CENTRE, RADIUS = (0.004, 0.03, -0.003), 0.012  # of the sphere, in the patient's frame


def _sphere(points):
    return (points - torch.tensor(CENTRE, dtype=points.dtype)).norm(dim=-1) <= RADIUS


@pytest.fixture(scope="module")
def renderer():
    body = phantom("sphere", Tissue.FLUID, [(Tissue.LIVER, _sphere)], 1e-3, (0.08, 0.06, 0.06))
    config = RenderConfig(
        lines=128, samples=160, depth=0.055, outputs=("image",), image_size=(110, 150), **BARE, pitch=1e-3
    )
    return Renderer([bake(body, 1e-3)], "flat75", config)


def _bright(volume):
    """Voxels above half the power inside: the display law undone, speckle smoothed, the shine of the surface cut."""
    at = grids.affine(volume.voxel_from_patient, torch.tensor([CENTRE], dtype=torch.float64))[0].round().long().tolist()
    inside = tuple(slice(i - int(5e-3 / s), i + int(5e-3 / s) + 1) for i, s in zip(at, volume.spacing, strict=True))
    power = 10.0 ** (6.0 * volume.voxels[0].numpy() / 255.0) - 1.0
    top = np.quantile(power[inside], 0.25)
    return ndimage.gaussian_filter(power.clip(max=top), 1e-3 / np.array(volume.spacing)) > 0.5 * top


@pytest.mark.parametrize("sweep", [Sweep(planes=60, spacing=0.5e-3), Sweep(planes=72, tilt=math.radians(1.0))])
def test_a_sphere_keeps_its_volume_and_its_place(renderer, sweep):
    """Volume within 5 %, centre within .7 mm; the pose is not along the patient's axes."""
    probe = phantom_pose(press=0.001) @ Pose.exp(torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.4]))
    volume = acquire(renderer, probe, sweep).volume
    bright = _bright(volume)
    voxel = float(torch.linalg.det(volume.patient_from_voxel[:3, :3]).abs())
    assert bright.sum() * voxel == pytest.approx(4 / 3 * math.pi * RADIUS**3, rel=0.05)
    middle = torch.tensor(np.argwhere(bright).mean(0))
    place = grids.affine(volume.patient_from_voxel, middle[None])[0]
    assert float((place - torch.tensor(CENTRE)).norm()) < 0.7e-3


def test_poses_of_a_sweep_are_exact():
    probe = phantom_pose(0.01, 0.02, 0.003)
    poses = Sweep(planes=4, spacing=2e-3).poses(probe)
    elevation = probe.matrix()[:3, 1]
    steps = torch.tensor([-3e-3, -1e-3, 1e-3, 3e-3])
    torch.testing.assert_close(poses.translation, probe.translation + steps[:, None] * elevation)
    assert torch.equal(poses.quaternion, probe.quaternion.expand(4, 4))


def test_poses_of_a_fan_turn_about_the_middle_of_the_face():
    probe = phantom_pose(0.01, 0.02, 0.003)
    poses = Sweep(planes=3, tilt=0.2).poses(probe)
    assert torch.equal(poses.translation, probe.translation.expand(3, 3))
    y, z = probe.matrix()[:3, 1], probe.matrix()[:3, 2]
    for matrix, tilt in zip(poses.matrix(), (-0.2, 0.0, 0.2), strict=True):
        torch.testing.assert_close(matrix[:3, 2], math.cos(tilt) * z + math.sin(tilt) * y)
        torch.testing.assert_close(matrix[:3, 0], probe.matrix()[:3, 0])


def test_one_plane_is_the_plain_frame(renderer):
    """Byte for byte, and its voxels lie where the picture does."""
    probe = phantom_pose(0.003, 0.002, 0.001) @ Pose.exp(torch.tensor([0.0, 0.0, 0.0, 0.1, 0.2, 0.3]))
    params = RenderParams.default(1)
    got = acquire(renderer, probe, Sweep(planes=1, spacing=1e-3), params=params)
    frame = renderer.render(probe.unsqueeze(0), torch.zeros(1, dtype=torch.int64), params)
    assert torch.equal(got.images, frame.image[:, 0])
    assert torch.equal(got.volume.voxels[0, :, 0].T, frame.image[0, 0])
    left, _, _, top = frame.extent
    corner = probe.apply(torch.tensor([[left, 0.0, top]]))[0].double()
    edge = grids.affine(got.volume.patient_from_voxel, torch.tensor([[-0.5, 0.0, -0.5]], dtype=torch.float64))[0]
    torch.testing.assert_close(edge, corner, atol=1e-6, rtol=0)


def test_planes_do_not_depend_on_how_many_are_rendered_at_once(renderer, monkeypatch):
    from sonogym.ultrasound import acquisition

    whole = acquire(renderer, phantom_pose(), Sweep(planes=7, spacing=1e-3))
    monkeypatch.setattr(acquisition, "CHUNK", 3)
    assert torch.equal(acquire(renderer, phantom_pose(), Sweep(planes=7, spacing=1e-3)).images, whole.images)
    assert whole.images.shape == (7, 110, 150)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"planes": 0, "spacing": 1e-3}, "planes of a sweep"),
        ({"planes": 4}, "either spacing"),
        ({"planes": 4, "spacing": 1e-3, "tilt": 0.1}, "either spacing"),
        ({"planes": 4, "spacing": 1.0}, "millimetres"),
        ({"planes": 4, "spacing": -1e-3}, "spacing of a sweep"),
        ({"planes": 1, "tilt": 0.1}, "planes of a fan"),
        ({"planes": 40, "tilt": 0.1}, "tilt between"),
    ],
)
def test_impossible_sweeps_are_refused(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        Sweep(**settings)


def test_a_renderer_without_images_and_a_batch_of_poses_are_refused(renderer):
    with pytest.raises(InvalidInputError, match="without batch"):
        acquire(renderer, phantom_pose().unsqueeze(0), Sweep(planes=2, spacing=1e-3))
    from dataclasses import replace

    blind = renderer.with_config(replace(renderer.config, outputs=()))
    with pytest.raises(InvalidInputError, match="outputs"):
        acquire(blind, phantom_pose(), Sweep(planes=2, spacing=1e-3))
