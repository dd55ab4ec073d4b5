"""The atlas names vertebrae of held-out patients from HU alone, says how sure it is, and bows to known landmarks."""

import anatomy_fixtures as trunk
import numpy as np
import pytest
import torch

from sonogym.anatomy import importing
from sonogym.anatomy.atlas import organs, registration, templates
from sonogym.anatomy.atlas.canal import STEP, Spine, find_spine
from sonogym.anatomy.atlas.estimate import Estimate
from sonogym.anatomy.atlas.levels import (
    LEVELS,
    Evidence,
    Levels,
    LevelWeights,
    find_levels,
    place_levels,
    renumbered,
)
from sonogym.anatomy.atlas.registration import PITCH, Channels, along_spine, landmark_in_scan, register
from sonogym.anatomy.atlas.scene import Scene
from sonogym.anatomy.atlas.templates import load_templates, template_of
from sonogym.anatomy.importing import import_ct
from sonogym.anatomy.library import load_patient
from sonogym.anatomy.resampling import Grid
from sonogym.errors import InvalidInputError


@pytest.fixture(scope="module")
def made():
    """A few made patients and what they teach; the atlas itself takes twelve."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(templates, "COUNT", 3)
        load_templates.cache_clear()
        yield load_templates()
    load_templates.cache_clear()


@pytest.fixture(scope="module")
def patient():
    """One that the atlas never sees."""
    return template_of(load_patient("procedural:test/3", 3e-3))


@pytest.fixture(scope="module")
def spine(patient):
    return find_spine(patient.scene)


def test_spine_runs_through_all_vertebral_bodies_in_even_steps(patient, spine):
    for level, centre in patient.centres().items():
        if level != "S1":
            assert np.linalg.norm(spine.points - centre, axis=1).min() < 8e-3, level
    np.testing.assert_allclose(np.linalg.norm(np.diff(spine.points, axis=0), axis=1), STEP, rtol=0.8)
    assert (spine.forward[:, 1] > 0.5).all()
    assert (spine.right[:, 0] > 0.8).all()


def test_vertebrae_of_a_held_out_patient_get_their_names(made, patient, spine):
    found = find_levels(patient.scene, spine, made[1])
    truth = patient.centres()
    assert {"L1", "L2", "L3", "L4", "L5"} <= set(found.centres)
    for level in set(found.centres) & set(truth) - {"S1"}:
        assert np.linalg.norm(found.centres[level] - truth[level]) < 12e-3, level
    assert found.belief > 0.5


def test_a_vertebra_that_sequences_with_other_steps_place_elsewhere_is_less_sure():
    """End-plates every 30 mm, nothing else to go by: below, all step lengths agree; above, they have drifted apart."""
    points = np.column_stack([np.zeros(200), np.zeros(200), STEP * np.arange(200)])
    spine = Spine(points=points, forward=np.tile([0.0, 1.0, 0.0], (200, 1)), right=np.tile([1.0, 0.0, 0.0], (200, 1)))
    fit = np.full((len(LEVELS), 200), 0.1)
    fit[0, 5:8] = 20.0  # the sacrum is plain to see
    evidence = Evidence(bone=fit, lung=0.0 * fit, unknown=np.zeros(len(LEVELS), bool), plates=np.ones(200))
    levels = place_levels(spine, evidence, LevelWeights(certainty=0.1))
    sure = [levels.held[level] for level in ("S1", "L5", "L1", "T9")]
    assert sure[0] == pytest.approx(1.0)
    assert sure[0] >= sure[1] > sure[2] >= sure[3]


def test_one_known_vertebra_settles_the_numbers_of_all():
    centres = {level: np.array([0.0, 0.0, z]) for level, z in (("L3", 0.1), ("L2", 0.135), ("L1", 0.17))}
    held = {"L3": 0.9, "L2": 0.8, "L1": 0.7}
    levels = renumbered(Levels(centres=centres, belief=0.4, held=held), {"L4": np.array([0.004, 0.0, 0.103])})
    assert list(levels.centres) == ["L4", "L3", "L2"]
    assert [levels.confidence(level) for level in ("L4", "L3", "L2")] == [0.9, 0.8, 0.7]
    same = Levels(centres=centres, belief=0.4, held=held)
    assert renumbered(same, {"L4": np.array([0.0, 0.0, 0.3])}) is same


def test_map_along_the_spine_takes_vertebra_to_vertebra(made, patient):
    other = made[0][0]
    ours, theirs = patient.centres(), other.centres()
    levels = [level for level in ours if level in theirs]
    points = np.stack([ours[level] for level in levels])
    mapped = along_spine(points, (patient.scene, ours), (other.scene, theirs))
    np.testing.assert_allclose(mapped, np.stack([theirs[level] for level in levels]), atol=1e-9)


def blob(centre, shape=(24, 24, 24)):
    """Two soft balls in a body that fills the grid, as channels."""
    index = np.moveaxis(np.indices(shape), 0, -1)
    ball = np.exp(-np.square((index - centre) / 4.0).sum(-1)).astype(np.float32)
    values = torch.from_numpy(np.stack([np.ones(shape, np.float32), ball, 0.5 * ball, ball]))[None]
    return Channels(values=values, origin=np.zeros(3))


def test_registration_finds_a_shift_and_the_landmark_moves_with_it(monkeypatch):
    monkeypatch.setattr(registration, "ITERATIONS", 60)
    scan, patient = blob(np.array([12.0, 12.0, 12.0])), blob(np.array([13.5, 11.0, 12.0]))
    landmark = PITCH * np.array([13.5, 11.0, 12.0])
    still, _ = landmark_in_scan(scan.points(), scan, landmark)
    moved, mismatch = register(scan, patient, scan.points())
    found, _ = landmark_in_scan(moved, scan, landmark)
    middle = PITCH * np.array([12.0, 12.0, 12.0])
    assert np.linalg.norm(found - middle) < 0.5 * np.linalg.norm(still - middle)
    assert mismatch < 0.01


GRID = Grid(shape=(60, 40, 50), spacing=3e-3, origin=(-0.09, -0.06, 0.0))
COLUMN = {"L1": np.array([0.0, -0.03, 0.0]), "T8": np.array([0.0, -0.03, 0.12])}


def ball(x, y, z, radius):
    """Where the grid lies within ``radius`` [m] of a point [m]."""
    places = np.moveaxis(np.indices(GRID.shape), 0, -1) * GRID.spacing + np.array(GRID.origin)
    return np.linalg.norm(places - (x, y, z), axis=-1) < radius


def abdomen():
    """A kidney of 30 HU in fat to each side of the spine, a muscle that touches the right one, lung above."""
    right, left = ball(0.04, 0.0, 0.05, 0.024), ball(-0.04, 0.0, 0.06, 0.024)
    bridge = ball(0.066, 0.0, 0.05, 0.004)  # to a muscle at the flank
    muscle = ball(0.085, 0.0, 0.05, 0.017)
    hu = np.where(right | left | bridge | muscle, 30.0, -100.0)
    lung = ball(0.04, -0.03, 0.11, 0.02) | ball(-0.04, 0.02, 0.13, 0.01)
    hu[lung] = -800.0
    return Scene(grid=GRID, hu=hu, body=np.ones(GRID.shape, bool), bone=np.zeros(GRID.shape, bool), lung=lung), right


def test_an_organ_grows_from_its_votes_to_its_edge_and_not_over_a_bridge():
    """The patients place the right kidney 7 mm aside; what they miss is found by its HU."""
    scene, kidney = abdomen()
    share = np.zeros((len(organs.VOTED), *GRID.shape), np.float32)
    vote = ball(0.033, 0.0, 0.05, 0.022).astype(np.float32)
    share[list(organs.VOTED).index("kidney_right")] = vote
    found = organs.organs_of(scene, share, COLUMN)
    assert set(found) == {"kidney_right", "lung_left", "lung_right"}
    mask = found["kidney_right"]
    assert 2 * (mask & kidney).sum() / (mask.sum() + kidney.sum()) > 0.85
    np.testing.assert_allclose(organs.middle(mask, GRID), (0.04, 0.0, 0.05), atol=4e-3)
    assert not mask[ball(0.085, 0.0, 0.05, 0.012)].any()
    exact, off = organs.agreement(mask, [mask.astype(np.float32)]), organs.agreement(mask, [vote])
    assert exact == pytest.approx(1.0)
    assert off < 0.9


def test_lungs_are_told_apart_by_the_spine_and_the_part_behind_it_is_the_landmark():
    scene, _ = abdomen()
    found = organs.organs_of(scene, np.zeros((len(organs.VOTED), *GRID.shape), np.float32), COLUMN)
    assert found["lung_right"].sum() > 4 * found["lung_left"].sum()
    behind = organs.lung_behind(found["lung_right"], COLUMN, GRID)
    height = np.argwhere(found["lung_right"])[:, 2], np.argwhere(behind)[:, 2]
    assert np.ptp(height[1]) == pytest.approx(2 / 3 * np.ptp(height[0]), abs=1.0)
    assert not organs.lung_behind(found["lung_left"], COLUMN, GRID).any(), "it lies in front"


def test_patients_vote_where_the_map_takes_the_scan():
    """A map that shifts by 12 mm: the organ is seen 12 mm to the other side."""
    ids = np.zeros(GRID.shape, np.uint8)
    ids[ball(0.04, 0.0, 0.05, 0.02)] = 1
    steps = [int((n - 1) * GRID.spacing / PITCH) + 2 for n in GRID.shape]
    moved = np.moveaxis(np.indices(steps), 0, -1) * PITCH + np.array(GRID.origin) + (0.012, 0.0, 0.0)
    seen = organs.votes(ids, GRID, moved, GRID)
    assert seen.shape == (len(organs.VOTED), *GRID.shape)
    np.testing.assert_allclose(organs.middle(seen[0] > 0, GRID), (0.028, 0.0, 0.05), atol=1e-3)
    assert not seen[1:].any()


def test_what_is_doubtful_is_told_and_not_used(tmp_path, monkeypatch):
    places = {"vertebra_L3": np.array([0.0, -0.02, 0.084]), "spleen": np.array([-0.06, 0.0, 0.1])}
    asked = []

    def estimate(_hu, _tissue, _grid, known, _progress):
        asked.append(sorted(known))
        return Estimate(landmarks=places, confidence={"vertebra_L3": 0.8, "spleen": 0.2})

    monkeypatch.setattr(importing, "estimate_landmarks", estimate)
    given = {"vertebra_L4": (0.0, -0.02, 0.051)}
    ct = trunk.save_ct(tmp_path / "ct.nii")
    patient = import_ct(ct, None, tmp_path / "x", 3e-3, given, atlas=True)
    assert asked == [["vertebra_L4"]]
    assert sorted(patient.landmarks) == ["vertebra_L3", "vertebra_L4"]
    assert patient.facts["estimates"]["spleen"] == {"mm": [-60.0, 0.0, 100.0], "confidence": 0.2}
    assert any("estimates of the atlas" in problem for problem in patient.facts["problems"])
    with pytest.raises(InvalidInputError, match=r"spleen.*confidence 0\.20"):
        load_patient(tmp_path / "x").landmark("spleen")
    with pytest.raises(InvalidInputError, match="without labels"):
        import_ct(ct, trunk.save_labels(tmp_path / "seg.nii"), tmp_path / "y", 3e-3, label_table="v2", atlas=True)
