"""The wide search for interlaminar windows, on a column of known shape whose canal lies aside of its bodies.

Mutations seen to fail: targets on the other side; targets beside the image plane; no price of what lies aside in the
image; the search also where a view is open.
"""

import dataclasses

import pytest
import torch

from sonogym.anatomy import planes
from sonogym.anatomy.canal_search import canal_offset, canal_probes
from sonogym.anatomy.phantoms import phantom
from sonogym.anatomy.plane_specs import find_spec
from sonogym.anatomy.tissues import Tissue

ASIDE, BEHIND, BODY = 6e-3, 25e-3, 70e-3  # m: the canal from the bodies' middles, these from the skin of the back
INNER, OUTER = 9e-3, 15e-3  # m: the ring around the canal
MIDDLES = {"L3": 18e-3, "L4": -18e-3}  # m towards the head


def column(gap):
    """Two vertebrae with a ring of bone each, whose hind halves leave a ``gap`` [m] between them."""

    def around(points):
        x, y, z = points.unbind(-1)
        return torch.hypot(x - ASIDE, y - (BODY - BEHIND)), y, z

    def bodies(points):
        x, y, z = points.unbind(-1)
        high = torch.stack([(z - middle).abs() < 13e-3 for middle in MIDDLES.values()]).any(0)
        return (torch.hypot(x, y - BODY) < 17e-3) & high

    def rings(points):
        radius, _, z = around(points)
        high = torch.stack([(z - middle).abs() < 8e-3 for middle in MIDDLES.values()]).any(0)
        return (radius > INNER) & (radius < OUTER) & high

    def laminae(points):
        radius, y, z = around(points)
        shut = ((z + 4e-3).abs() > 0.5 * gap) | ((points[..., 0] - ASIDE).abs() > INNER)  # joints to both sides
        return (radius > INNER) & (radius < OUTER) & (y < BODY - BEHIND) & shut

    inside = [(Tissue.TRABECULAR_BONE, shape) for shape in (bodies, rings, laminae)]
    body = phantom(f"column {gap}", Tissue.MUSCLE, inside, spacing=1.5e-3, size=(0.12, 0.11, 0.13))
    marks = {f"vertebra_{level}": torch.tensor([0.0, BODY, z]) for level, z in MIDDLES.items()}
    return dataclasses.replace(body, landmarks=marks)


@pytest.fixture(scope="module")
def open_column():
    return column(9e-3)


def view(body, side):
    name = f"interlaminar_{side}_L3_L4"
    return planes._search(body, [find_spec(name)])[name]


def test_the_canal_is_found_where_the_rings_close_about_it(open_column):
    offset = canal_offset(open_column.labels, open_column.landmarks["vertebra_L3"], torch.eye(3))
    torch.testing.assert_close(offset, torch.tensor([ASIDE, -BEHIND, 0.0]), atol=1e-3, rtol=0.0)


def test_no_canal_where_there_is_no_ring(open_column):
    assert canal_offset(open_column.labels, torch.tensor([0.04, BODY, 0.0]), torch.eye(3)) is None
    away = dataclasses.replace(open_column, landmarks={"vertebra_L3": torch.tensor([0.04, BODY, 0.0])})
    pose, target = canal_probes(away, away.labels, ["vertebra_L3"], torch.eye(3), 1.0)
    assert pose.translation.shape == target.shape == (0, 3)


def test_a_window_beside_the_usual_place_is_found(open_column, monkeypatch):
    """The usual target, 7 mm left of the bodies, lies in the ring's bone, 13 mm from the canal's middle."""
    found = view(open_column, "left")
    assert found.reachable
    aside = float(found.target[0]) - ASIDE
    assert -INNER < aside < 0.0, "the left half of the canal"
    x, y, z = found.pose.inverse().apply(found.target).tolist()
    assert abs(y) < 2e-3
    assert abs(x) < 6e-3, "the middle of the image is preferred"
    assert z == pytest.approx(BODY - BEHIND, abs=8e-3)
    monkeypatch.setattr(planes, "_widened", lambda _body, _spec, view: view)
    assert not view(open_column, "left").reachable


def test_a_usual_view_that_is_open_stays_as_it_is(open_column, monkeypatch):
    monkeypatch.setattr(planes, "canal_probes", lambda *_: pytest.fail("searched"))
    assert view(open_column, "right").reachable


def test_closed_laminae_stay_closed():
    found = view(column(0.0), "left")
    assert found.window == 0.0
    assert "window 0 % open" in found.obstacle
