"""Structure of the renderer, and what a frame depends on."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from laboratory import random_params, scattered_poses

from sonogym.anatomy import phantoms
from sonogym.anatomy.tissues import Tissue
from sonogym.errors import InvalidInputError, UnknownNameError
from sonogym.geometry import Pose
from sonogym.ultrasound.bake import bake, load_acoustics
from sonogym.ultrasound.frame import Frame, RenderConfig, RenderParams
from sonogym.ultrasound.renderer import Renderer

SIZE = (0.10, 0.08, 0.04)
PITCH = 2e-3


@pytest.fixture(scope="module")
def bodies():
    layered = (Tissue.SKIN, Tissue.SUBCUTANEOUS_FAT, Tissue.MUSCLE, Tissue.LIVER)
    return [
        bake(phantoms.layers((0.002, 0.01, 0.02), layered, 2e-3, SIZE), PITCH),
        bake(phantoms.plate(0.04, 0.004, 0.02, spacing=2e-3, size=SIZE), PITCH),
        bake(phantoms.cyst(0.04, 0.01, spacing=2e-3, size=SIZE), PITCH),
    ]


def frames(bodies, envs=6, probe="C5-2v", **settings):
    settings = {"lines": 48, "samples": 64, "depth": 0.09} | settings
    renderer = Renderer(bodies, probe, RenderConfig(**settings))
    return renderer.render(scattered_poses(envs), torch.arange(envs) % len(bodies), random_params(envs))


def test_outputs_of_both_paths_agree(bodies):
    outputs = ("iq", "envelope", "labels", "transmission")
    fused, reference = (frames(bodies, outputs=outputs, backend=name) for name in ("numba", "reference"))
    assert float((fused.labels != reference.labels).float().mean()) < 1e-3
    for name in ("iq", "envelope", "transmission"):
        a, b = getattr(fused, name), getattr(reference, name)
        assert float((a - b).abs().mean()) < 1e-3 * float(b.abs().mean())


def test_frame_repeats_and_its_seeds_matter(bodies):
    renderer = Renderer(bodies, "C5-2v", RenderConfig(lines=48, samples=64))
    poses, index, params = scattered_poses(2), torch.zeros(2, dtype=torch.int64), random_params(2)
    first = renderer.render(poses, index, params).beam
    assert torch.equal(first, renderer.render(poses, index, params).beam)
    speckle = dataclasses.replace(params, speckle_seed=params.speckle_seed + 1)
    noise = dataclasses.replace(params, noise_seed=params.noise_seed + 1)
    assert float((renderer.render(poses, index, speckle).beam != first).float().mean()) > 0.5
    assert 0 < float((renderer.render(poses, index, noise).beam != first).float().mean()) < 0.9


def test_moving_patient_and_probe_together_changes_nothing(bodies):
    moved = []
    shift = Pose.exp(torch.tensor([0.01, -0.02, 0.03, 0.0, 0.0, 0.0]))
    for body in bodies:
        matrix = shift.matrix().double()
        voxels = dataclasses.replace(body.voxels, patient_from_voxel=matrix @ body.voxels.patient_from_voxel)
        distance = dataclasses.replace(
            body.skin.distance, patient_from_voxel=matrix @ body.skin.distance.patient_from_voxel.double()
        )
        skin = dataclasses.replace(body.skin, distance=distance)
        bone = dataclasses.replace(body.bone, patient_from_voxel=matrix @ body.bone.patient_from_voxel)
        moved.append(dataclasses.replace(body, voxels=voxels, skin=skin, bone=bone))
    config = RenderConfig(lines=48, samples=64)
    poses, index = scattered_poses(6), torch.arange(6) % 3
    here = Renderer(bodies, "C5-2v", config).render(poses, index).beam.int()
    there = Renderer(moved, "C5-2v", config).render(shift @ poses, index).beam.int()
    assert float(((here - there).abs() <= 2).float().mean()) > 0.99


def test_each_environment_sees_the_patient_it_picks(bodies):
    renderer = Renderer(bodies, "C5-2v", RenderConfig(lines=48, samples=64))
    pose = phantoms.phantom_pose(press=0.006).unsqueeze(0)
    poses = Pose(pose.quaternion.expand(3, 4), pose.translation.expand(3, 3))
    beam = renderer.render(poses, torch.tensor([0, 1, 2])).beam
    swapped = renderer.render(poses, torch.tensor([2, 1, 0])).beam
    assert torch.equal(beam.flip(0), swapped)
    assert not torch.equal(beam[0], beam[2])


def test_requested_outputs_and_only_those_are_filled(bodies):
    frame = frames(bodies[:1], envs=2, outputs=("image", "labels"), image_size=(40, 50))
    assert frame.image.shape == (2, 1, 40, 50)
    assert frame.image.dtype == torch.uint8
    assert frame.labels.shape == (2, 64, 48)
    assert frame.iq is None
    assert frame.envelope is None
    assert frame.extent[0] == pytest.approx(-frame.extent[1])
    assert frame.beam.shape == (2, 1, 64, 48)
    assert frame.depth.shape == (64,)
    assert frame.line_position.shape == (48,)
    assert isinstance(frame, Frame)


def test_lines_off_the_skin_hold_only_noise(bodies):
    lifted = phantoms.phantom_pose(press=-0.004).unsqueeze(0)
    config = RenderConfig(lines=48, samples=64, outputs=("envelope",))
    envelope = Renderer(bodies[:1], "L11-5v", config).render(lifted, torch.tensor([0])).envelope
    assert float(envelope.square().mean().sqrt()) == pytest.approx(10 ** (-76 / 20), rel=0.2)


def test_gain_moves_the_level_by_as_many_decibels(bodies):
    renderer = Renderer(bodies[:1], "C5-2v", RenderConfig(lines=48, samples=64, noise=False))
    pose, index = phantoms.phantom_pose(press=0.006).unsqueeze(0), torch.tensor([0])
    base = RenderParams.default(1)
    plain = renderer.render(pose, index, base).beam.float()
    louder = renderer.render(pose, index, dataclasses.replace(base, gain=torch.tensor([6.0]))).beam.float()
    middle = (plain > 20) & (louder < 250)
    assert float((louder - plain)[middle].mean()) == pytest.approx(6 / 60 * 255, abs=0.6)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"depth": 12.0}, InvalidInputError),
        ({"lines": 1}, InvalidInputError),
        ({"pitch": 1.5}, InvalidInputError),
        ({"outputs": ("pressure",)}, UnknownNameError),
        ({"backend": "cupy"}, UnknownNameError),
        ({"image_size": (0, 10)}, InvalidInputError),
    ],
)
def test_impossible_settings_are_refused(settings, error):
    with pytest.raises(error):
        RenderConfig(**settings)


def test_wrong_batches_and_empty_patient_lists_are_refused(bodies):
    renderer = Renderer(bodies, "C5-2v", RenderConfig(lines=16, samples=16))
    with pytest.raises(InvalidInputError, match="anatomy_index"):
        renderer.render(scattered_poses(3), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InvalidInputError, match="index"):
        renderer.render(scattered_poses(1), torch.tensor([len(bodies)]))
    with pytest.raises(InvalidInputError, match="parameters"):
        renderer.render(scattered_poses(2), torch.zeros(2, dtype=torch.int64), RenderParams.default(3))
    with pytest.raises(InvalidInputError, match="patient"):
        Renderer([], "C5-2v", RenderConfig(lines=16, samples=16))


def test_baked_patient_is_small_isotropic_and_starts_with_gel():
    anatomy = phantoms.homogeneous(Tissue.LIVER, 2e-3, SIZE)
    body = bake(anatomy, 3e-3)
    assert body.voxels.spacing == pytest.approx((3e-3,) * 3)
    assert body.voxels.voxels.dtype == torch.uint8
    labels = body.voxels.voxels[0]
    assert labels.unique().tolist() == [Tissue.GEL, Tissue.LIVER]
    surface = body.voxels.patient_from_voxel[1, 3] + 3e-3 * (int((labels[5, :, 5] == Tissue.GEL).sum()) - 0.5)
    assert float(surface) == pytest.approx(0.0, abs=1.6e-3)
    assert bake(anatomy, 3e-3).digest == body.digest != bake(anatomy, 2e-3).digest


def test_imported_patient_is_baked_once(tmp_path, monkeypatch):
    from sonogym.anatomy.anatomy import anatomy_file, anatomy_tensors
    from sonogym.anatomy.cache import write_tensors
    from sonogym.ultrasound import bake as module

    write_tensors(anatomy_file(tmp_path), *anatomy_tensors(phantoms.homogeneous(Tissue.LIVER, 2e-3, SIZE)))
    first = load_acoustics([str(tmp_path)], 3e-3)[0]
    monkeypatch.setattr(module, "load_patient", lambda *_: pytest.fail("the CT was read again"))
    again = load_acoustics([str(tmp_path)], 3e-3)[0]
    assert torch.equal(first.voxels.voxels, again.voxels.voxels)
    assert (first.digest, first.name) == (again.digest, again.name)


def test_speckle_is_the_same_in_another_process(bodies):
    code = (
        "import torch; from sonogym.anatomy import phantoms; from sonogym.anatomy.tissues import Tissue;"
        "from sonogym.ultrasound.renderer import Renderer; from sonogym.ultrasound.frame import RenderConfig;"
        "r = Renderer([phantoms.homogeneous(Tissue.LIVER, 4e-3, (.06, .06, .03))], 'L11-5v',"
        "RenderConfig(lines=16, samples=16, pitch=4e-3, backend='reference'));"
        "f = r.render(phantoms.phantom_pose(press=.002).unsqueeze(0), torch.tensor([0]));"
        "print(f.beam.flatten().tolist())"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/").stdout
        for _ in "12"
    ]
    assert runs[0] == runs[1]
    assert len(set(runs[0].split(","))) > 10
