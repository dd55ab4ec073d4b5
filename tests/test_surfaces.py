"""Pictures of surfaces: what is in front hides what is behind, areas are true, scenes hold every surface."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from typer.testing import CliRunner

from sonogym.anatomy.meshes import LOOKS, fan_mesh, surface_meshes
from sonogym.anatomy.phantoms import phantom, phantom_pose
from sonogym.anatomy.raster import Camera, Layer
from sonogym.anatomy.show_surfaces import write_surfaces
from sonogym.anatomy.tissues import Tissue
from sonogym.anatomy.windows import FACE
from sonogym.cli.main import app

CAMERA = Camera(np.zeros(3), np.eye(3)[0], np.eye(3)[2], np.eye(3)[1], 1000.0, (200, 200))
RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


@pytest.fixture(scope="module")
def body():
    def ball(centre, radius):
        return lambda points: (points - torch.tensor(centre, dtype=points.dtype)).norm(dim=-1) < radius

    shapes = [(Tissue.LIVER, ball((0.02, 0.04, 0.0), 0.02)), (Tissue.CORTICAL_BONE, ball((-0.02, 0.03, 0.0), 0.012))]
    return phantom("balls", Tissue.MUSCLE, shapes, spacing=2e-3, size=(0.12, 0.08, 0.12))


def square(depth, half):
    corners = np.array([[-half, depth, -half], [half, depth, -half], [half, depth, half], [-half, depth, half]])
    return corners, np.array([[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_near_surfaces_hide_far_ones_whatever_the_order(order):
    layer = Layer.empty(CAMERA)
    scene = [(square(0.01, 0.03), RED), (square(0.05, 0.06), BLUE)]
    for at in order:
        (vertices, faces), colour = scene[at]
        layer.draw(CAMERA, vertices, faces, colour)
    middle, rim = layer.colour[100, 100], layer.colour[100, 150]
    assert middle[0] > middle[2]
    assert rim[2] > rim[0]
    assert layer.depth[100, 100] == pytest.approx(0.01)
    assert np.isinf(layer.depth[5, 5])


def test_silhouette_of_a_ball_has_its_area():
    ball = trimesh.creation.icosphere(4, 0.05)
    layer = Layer.empty(CAMERA)
    layer.draw(CAMERA, ball.vertices, ball.faces, RED)
    area = np.isfinite(layer.depth).sum() / CAMERA.metre**2
    assert area == pytest.approx(np.pi * 0.05**2, rel=0.03)
    assert layer.facing[100, 100] > 0.98
    assert layer.facing[100, 52] < 0.4, "edge on at its rim"


def test_meshes_enclose_the_tissues_they_stand_for(body):
    meshes = surface_meshes(body)
    assert set(meshes) == {"liver", "bone", "skin"}
    assert meshes["liver"].volume == pytest.approx(4 / 3 * np.pi * 0.02**3, rel=0.12)
    assert meshes["liver"].centroid == pytest.approx([0.02, 0.04, 0.0], abs=1e-3)
    assert meshes["liver"].bounds[1] - meshes["liver"].bounds[0] == pytest.approx([0.04] * 3, abs=3e-3)


def test_fan_is_the_sector_in_the_image_plane():
    fan = fan_mesh(phantom_pose(press=0.0))
    assert np.abs(fan.vertices[:, 2]).max() < 1e-6
    reach = np.hypot(fan.vertices[:, 0], fan.vertices[:, 1] + FACE.radius)
    assert reach.min() == pytest.approx(FACE.radius, abs=1e-5)
    assert reach.max() == pytest.approx(FACE.radius + FACE.depth, abs=1e-5)


def test_picture_and_scene_are_written(tmp_path, body):
    looked_at = replace(body, landmarks={"liver": torch.tensor([0.02, 0.04, 0.0])})
    write_surfaces(looked_at, tmp_path / "a.png", ".png")
    assert np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).std() > 10
    write_surfaces(looked_at, tmp_path / "a.glb", ".glb")
    scene = trimesh.load(tmp_path / "a.glb")
    assert set(scene.geometry) == {"liver", "bone", "skin"}
    assert set(scene.geometry) <= set(LOOKS)


def test_a_plane_without_3d_is_refused(tmp_path):
    result = CliRunner().invoke(
        app, ["anatomy", "show", "procedural:test/0", "--plane", "liver", "--out", str(tmp_path)]
    )
    assert "--3d" in str(result.exception)
