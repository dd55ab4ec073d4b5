"""Pictures of the scene. Mutations seen to fail:"""

import math

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from skin_phantom import torso
from typer.testing import CliRunner

from sonogym.anatomy import library
from sonogym.anatomy.phantoms import cyst
from sonogym.cli import film, scene
from sonogym.cli.film_frame import FORCE_COLOUR, PANEL, SCENE, Force, compose, write_gif
from sonogym.errors import InvalidInputError, UnknownNameError
from sonogym.geometry import Pose, so3
from sonogym.robot.arm import load_arm
from sonogym.robot.bullet_world import BED_SIZE, BulletWorld
from sonogym.robot.camera import NOTHING, Camera, photograph
from sonogym.robot.scene import Fan, draw_fan
from sonogym.ultrasound.transducer import load_probe

pytest.importorskip("pybullet", reason="pybullet has no wheels from Python 3.12 on")

FACE = torch.tensor([0.6, 0.0, 0.0])
CAMERA = Camera.around((0.45, 0.0, 0.15), math.radians(-60.0), math.radians(20.0), 1.5, 160, 120)
DOWN = Pose.from_axes(torch.tensor([-1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, -1.0]), FACE)


@pytest.fixture(scope="module")
def world():
    """A torso under the arm's probe, its back on the height of the base."""
    turn = so3.from_matrix(torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]))
    patient = Pose(turn, FACE - torch.tensor([0.0, 0.0, 0.1]))
    return BulletWorld(load_arm("kuka_iiwa", "probe"), torso().skin, patient, -0.2, load_probe("C5-2v"))


@pytest.fixture(scope="module")
def picture(world):
    world.place(world.arm.home.tolist())
    return photograph(world, CAMERA)


def pixel(world, camera, point):
    """Row and column of a point by Bullet's own matrices."""
    view = np.array(world.bullet.computeViewMatrix(camera.eye, camera.target, (0, 0, 1))).reshape(4, 4).T
    aspect = camera.width / camera.height
    lens = world.bullet.computeProjectionMatrixFOV(math.degrees(camera.field_of_view), aspect, 0.05, 8.0)
    x, y, _, w = np.array(lens).reshape(4, 4).T @ view @ np.append(point, 1.0)
    height, width = camera.shape
    return (0.5 - 0.5 * y / w) * height - 1.0, (0.5 + 0.5 * x / w) * width


def fan(level=200, width=0.08, depth=0.1):
    shape = (100, 80)
    return Fan(np.full(shape, level, np.uint8), np.ones(shape, bool), (-0.5 * width, 0.5 * width, depth, 0.0))


def test_depth_and_rays_lead_to_points_on_the_body_that_is_shown(world, picture):
    points = np.asarray(CAMERA.eye) + picture.depth[..., None] * CAMERA.rays()
    patient, bed = picture.body == world.patient, picture.body == world.bed
    assert patient.sum() > 500
    assert bed.sum() > 500
    top = np.abs(points[bed][:, 2] + 0.2) < 1e-4
    assert top.mean() > 0.7
    side = np.abs(points[bed][~top][:, 0] - 0.6 - 0.5 * BED_SIZE[0]) < 1e-4  # the bed lies under the patient's origin
    assert side.mean() > 0.5
    on_torso = points[patient] - np.array([0.6, 0.0, -0.1])
    radius = np.hypot(on_torso[:, 0] / 0.15, on_torso[:, 2] / 0.1)
    assert np.quantile(np.abs(radius - 1.0)[np.abs(on_torso[:, 1]) < 0.19], 0.95) < 0.01


def test_fan_is_drawn_where_bullets_own_matrices_project_it(world, picture):
    drawn = draw_fan(picture, DOWN, fan(), world.patient)
    changed = np.abs(drawn.rgb - picture.rgb).max(-1) > 1.0
    for x, z in ((0.03, 0.05), (-0.035, 0.09), (0.0, 0.06)):
        row, column = pixel(world, CAMERA, DOWN.apply(torch.tensor([x, 0.0, z])).numpy())
        assert changed[round(row), round(column)]
    rows, columns = np.nonzero(changed)
    corners = [
        pixel(world, CAMERA, DOWN.apply(torch.tensor([x, 0.0, z])).numpy()) for x in (-0.04, 0.04) for z in (0, 0.1)
    ]
    low, high = np.min(corners, 0), np.max(corners, 0)
    assert [rows.max(), columns.min(), columns.max()] == pytest.approx([high[0], low[1], high[1]], abs=2.0)
    middle = drawn.rgb[tuple(round(v) for v in pixel(world, CAMERA, [0.6, 0.0, -0.06]))]
    assert middle == pytest.approx(200.0, abs=8.0)


def test_fan_behind_the_arm_is_hidden_and_one_behind_the_camera_is_not_drawn(world, picture):
    behind = Pose(DOWN.quaternion, torch.tensor([0.0, 0.6, 0.4]))  # beyond the arm's column, as the camera sees it
    drawn = draw_fan(picture, behind, fan(width=1.0, depth=0.8), world.patient)
    changed = np.abs(drawn.rgb - picture.rgb).max(-1) > 1.0
    assert changed.sum() > 500
    assert not changed[picture.body == world.robot].any()
    assert changed[picture.body == NOTHING].any()
    away = Pose(DOWN.quaternion, torch.tensor([*CAMERA.eye]) + torch.tensor([0.3, -0.6, 0.2]))
    assert np.array_equal(draw_fan(picture, away, fan(), world.patient).rgb, picture.rgb)


def test_picture_is_reduced_by_averaging_and_is_the_same_again(world, picture):
    reduced = picture.reduced()
    assert reduced.shape == (120, 160, 3)
    assert reduced[7, 9] == pytest.approx(picture.rgb[14:16, 18:20].mean((0, 1)), abs=0.51)
    world.place(world.arm.home.tolist())
    assert np.array_equal(photograph(world, CAMERA).reduced(), reduced)


def test_camera_that_looks_straight_down_or_in_degrees_is_refused():
    with pytest.raises(InvalidInputError, match="straight up or down"):
        Camera(eye=(0.5, 0.0, 1.0), target=(0.5, 0.0, 0.0))
    with pytest.raises(InvalidInputError, match="degrees"):
        Camera(eye=(1.0, 0.0, 1.0), target=(0.5, 0.0, 0.0), field_of_view=40.0)


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(library, "load_patient", lambda name: cyst())
    app = typer.Typer()
    scene.register(app)
    film.register(app)

    def call(*words):
        result = CliRunner().invoke(app, list(words))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


BAD = [
    ("scene", ["--out", "a.jpg"], InvalidInputError, r"\.png"),
    ("scene", ["--out", "a.png", "--size", "big"], InvalidInputError, "WIDTHxHEIGHT"),
    ("scene", ["--out", "a.png", "--distance-mm", "1"], InvalidInputError, "distance-mm"),
    ("scene", ["--out", "a.png", "--robot", "kuka"], UnknownNameError, "kuka_iiwa"),
    ("scene", ["--out", "a.png", "--probe", "C5"], UnknownNameError, "C5-2v"),
    ("film", ["--out", "a.mp4"], InvalidInputError, r"\.gif"),
    ("film", ["--out", "a.gif", "--rate", "30"], InvalidInputError, "rate of the control"),
    ("film", ["--out", "a.gif", "--seconds", "1"], InvalidInputError, "--seconds"),
    ("film", ["--out", "a.gif", "--force-n", "50"], InvalidInputError, "--force-n"),
    ("film", ["--out", "a.gif", "--sweep-mm", "0"], InvalidInputError, "--sweep-mm"),
]


@pytest.mark.parametrize(("command", "words", "error", "message"), BAD)
def test_bad_input_is_refused_and_nothing_is_written(run, command, words, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        run(command, "--patient", "p", "--plane", "transverse_L4", *words)
    assert list(tmp_path.iterdir()) == []


def test_film_frame_holds_the_scene_the_image_and_the_force():
    scene_picture = np.full((SCENE[1], SCENE[0], 3), 77, np.uint8)
    plots = [Force(times=[0.0, 1.0], readings=[0.0, newton], set_point=5.0, end=4.0) for newton in (5.0, 9.0)]
    low, high = (compose(scene_picture, fan(255), plot) for plot in plots)
    assert low.shape == (SCENE[1], SCENE[0] + PANEL, 3)
    assert np.array_equal(low[:, : SCENE[0]], scene_picture)
    assert (low[10:200, SCENE[0] :] == 255).all(-1).sum() > 5000
    rows = [np.nonzero((frame == FORCE_COLOUR).all(-1))[0].min() for frame in (low, high)]
    assert rows[1] < rows[0] - 20


def test_gif_keeps_every_frame_and_its_rate(tmp_path):
    frames = [np.full((20, 30, 3), 12 * i, np.uint8) for i in range(12)]
    write_gif(tmp_path / "a.gif", frames, 10.0, 32)
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 12
        assert film.info["duration"] == 100
        film.seek(11)
        assert np.asarray(film.convert("RGB"))[5, 5] == pytest.approx([132] * 3, abs=8)
