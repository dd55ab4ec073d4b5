"""Bad input through the Python API: one clear error each, before anything is computed."""

import dataclasses

import pytest
import torch

from sonogym.anatomy.phantoms import homogeneous, phantom_pose
from sonogym.anatomy.tissues import Tissue
from sonogym.anatomy.volume import Volume
from sonogym.errors import InvalidInputError, SonogymError, UnknownNameError
from sonogym.geometry import Pose
from sonogym.ultrasound import renderer as renderer_module
from sonogym.ultrasound.bake import bake
from sonogym.ultrasound.frame import RenderConfig, RenderParams
from sonogym.ultrasound.renderer import Renderer
from sonogym.ultrasound.transducer import probe_from_table

SMALL = RenderConfig(lines=16, samples=16, depth=0.04)
ONE = torch.zeros(1, dtype=torch.int64)


@pytest.fixture(scope="module")
def body():
    return bake(homogeneous(Tissue.LIVER, 4e-3, (0.06, 0.06, 0.04)), 4e-3)


@pytest.fixture
def renderer(body, monkeypatch):
    """A renderer that must not get as far as rendering."""
    made = Renderer([body], "flat75", SMALL)
    monkeypatch.setattr(made, "_render_variant", lambda *given: pytest.fail("something was computed"))
    return made


def placed(translation=(0.0, 0.002, 0.0), quaternion=None):
    straight = phantom_pose().quaternion
    quaternion = straight if quaternion is None else torch.tensor(quaternion)
    return Pose(quaternion[None], torch.tensor([translation]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": -0.05}, "depth must be in"),
        ({"depth": 120.0}, r"millimetres\?"),
        ({"depth": float("nan")}, "depth must be in"),
        ({"lines": 0}, "lines must be in"),
        ({"samples": 0}, "samples must be in"),
        ({"planes": 0}, "planes must be in"),
        ({"steering": 20.0}, r"degrees\?"),
        ({"steering": -0.6}, "steering must be in"),
        ({"steering": float("nan")}, "steering must be in"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        RenderConfig(**settings)


@pytest.mark.parametrize("name", ["C5-2v", "P4-2v", "radial360"])
def test_steering_is_for_linear_probes(body, name):
    with pytest.raises(InvalidInputError, match="linear probes only"):
        Renderer([body], name, dataclasses.replace(SMALL, steering=0.1))


@pytest.mark.parametrize(
    ("pose", "message"),
    [
        (placed((0.0, float("nan"), 0.0)), r"\[0\] is not finite"),
        (placed((float("inf"), 0.0, 0.0)), "not finite"),
        (placed(quaternion=(float("nan"), 0.0, 0.0, 1.0)), "not finite"),
        (placed(quaternion=(0.0, 0.0, 0.0, 0.0)), "unit quaternions.*length 0"),
        (placed(quaternion=(2.0, 0.0, 0.0, 0.0)), "unit quaternions.*length 2"),
        (placed((0.0, -1.0, 0.0)), "outside the patient"),
        (placed((0.0, 2.0, 0.0)), "outside the patient"),
        (placed((0.5, 0.0, 0.0)), "outside the patient.*metres"),
        (placed((0.0, 0.0, 120.0)), "outside the patient"),
    ],
)
def test_impossible_poses_are_refused(renderer, pose, message):
    with pytest.raises(InvalidInputError, match=message):
        renderer.render(pose, ONE)


def test_the_bad_ones_of_a_batch_are_named(renderer):
    poses = placed()
    translation = poses.translation.expand(4, 3).clone()
    translation[2] = torch.nan
    with pytest.raises(InvalidInputError, match=r"patient_from_probe \[2\]"):
        renderer.render(Pose(poses.quaternion.expand(4, 4), translation), torch.zeros(4, dtype=torch.int64))


def test_a_pose_of_which_one_line_meets_the_patient_is_rendered(body):
    """The face is 75 mm wide, the patient 60: moved aside by 65 mm, only the lines of one edge reach it."""
    beam = Renderer([body], "flat75", SMALL).render(placed((0.065, 0.002, 0.0)), ONE).beam
    assert beam.shape == (1, 1, 16, 16)


def test_a_probe_that_looks_past_the_patient_from_nearby_sees_nothing(body):
    """An environment at the end of a scan may come to that: a frame of noise, no error that ends a training."""
    away = placed((0.0, -0.03, 0.0), (0.70710678, 0.70710678, 0.0, 0.0))
    frame = Renderer([body], "flat75", dataclasses.replace(SMALL, noise=False)).render(away, ONE)
    assert int(frame.beam.max()) == 0


@pytest.mark.parametrize(
    ("pose", "index", "envs", "message"),
    [
        (placed(), torch.zeros(2, dtype=torch.int64), 2, "batch shape"),
        (Pose(placed().quaternion[0], placed().translation[0]), ONE, 1, "batch shape"),
        (placed(), ONE, 3, "parameters are for 3"),
        (placed(), ONE + 1, 1, "anatomy_index must be in 0 .. 0"),
        (placed(), ONE - 1, 1, "anatomy_index must be in 0 .. 0"),
    ],
)
def test_wrong_batches_are_refused(renderer, pose, index, envs, message):
    with pytest.raises(InvalidInputError, match=message):
        renderer.render(pose, index, RenderParams.default(envs))


@pytest.mark.parametrize(
    ("shape", "scale", "message"),
    [
        ((1, 1, 1), 1.0, r"2 voxels along each axis, got \(1, 1, 1\)"),
        ((4, 0, 4), 1.0, "2 voxels along each axis"),
        ((4, 4, 1), 1.0, "2 voxels along each axis"),
        ((4, 4, 4), 1e3, r"millimetres\?"),
        ((4, 4, 4), 1e-2, r"in \[5e-05, 0.02\] m"),
    ],
)
def test_degenerate_volumes_are_refused(shape, scale, message):
    anatomy = homogeneous(Tissue.LIVER, 4e-3, (0.06, 0.06, 0.04))
    matrix = anatomy.labels.patient_from_voxel @ torch.diag(torch.tensor([scale] * 3 + [1.0], dtype=torch.float64))
    parts = {
        name: Volume(getattr(anatomy, name).voxels[:, : shape[0], : shape[1], : shape[2]], matrix)
        for name in ("ct", "labels")
    }
    with pytest.raises(InvalidInputError, match=message):
        dataclasses.replace(anatomy, **parts)


def test_a_probe_file_with_an_unknown_key_is_refused_by_its_name():
    with pytest.raises(UnknownNameError, match="pitch_mm"):
        probe_from_table({"pitchmm": 0.3}, "mine.toml")


@pytest.mark.parametrize("name", ["gpu", "nonsense", "meta", "cuda:77", "mps:3", ""])
def test_a_device_that_is_not_there_is_refused_before_patients_are_read(monkeypatch, name):
    monkeypatch.setattr(renderer_module, "_acoustic", lambda *_: pytest.fail("a patient was read"))
    with pytest.raises(SonogymError, match="device"):
        Renderer(["procedural:test/0"], "flat75", SMALL, device=name)


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_missing_accelerator_is_no_fallback(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InvalidInputError, match="not available on this machine; use 'cpu'"):
        Renderer(["procedural:test/0"], "flat75", SMALL, device=name)


def test_unknown_probe_is_refused_before_patients_are_read(monkeypatch):
    monkeypatch.setattr(renderer_module, "_acoustic", lambda *_: pytest.fail("a patient was read"))
    with pytest.raises(UnknownNameError, match="radial360"):
        Renderer(["procedural:test/0"], "radial36", SMALL)
