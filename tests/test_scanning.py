"""Scanning-v0 and what its images show of a target."""

import dataclasses
import functools

import gymnasium
import numpy as np
import pytest
import torch

from sonogym.agents.evaluate import evaluate
from sonogym.agents.experts import ExpertPolicy
from sonogym.anatomy.breathing import displacement
from sonogym.anatomy.bricks import BrickStack
from sonogym.anatomy.stack import VolumeStack
from sonogym.anatomy.tissues import Tissue
from sonogym.anatomy.volume import Volume
from sonogym.envs.scan_targets import TARGETS, target_points
from sonogym.envs.scanning import make_task, scanning_config
from sonogym.errors import InvalidInputError, SonogymError, UnknownNameError
from sonogym.geometry import Pose, so3
from sonogym.sim.sight import Sight, newly_seen
from sonogym.sim.state import SAFETY_TERMS
from sonogym.ultrasound.transducer import load_probe

SMALL = {"patients": "procedural:test/1", "pitch": 3e-3, "lines": 40, "samples": 40, "observation": ("force", "swept")}
PLATE = (0.040, 0.046)  # m: depths between which there is bone, for x < 0


@functools.cache
def task_of(**options):
    return make_task(**{**SMALL, **options})


def vector(num_envs, **options):
    return gymnasium.make_vec(
        "sonogym/Scanning-v0", num_envs=num_envs, vectorization_mode="vector_entry_point", **{**SMALL, **options}
    )


def muscle_with_a_plate():
    labels = torch.full((1, 60, 60, 90), int(Tissue.MUSCLE), dtype=torch.uint8)
    labels[:, :30, :, round(PLATE[0] / 2e-3) : round(PLATE[1] / 2e-3)] = int(Tissue.CORTICAL_BONE)
    matrix = torch.diag(torch.tensor([2e-3, 2e-3, 2e-3, 1.0], dtype=torch.float64))
    matrix[:2, 3] = -0.06
    return BrickStack.from_volumes([Volume(labels.expand(4, -1, -1, -1), matrix)])


def sight(probe):
    return Sight(voxels=muscle_with_a_plate(), transducer=load_probe(probe), depth=0.12)


def look(points, probe="C5-2v"):
    pose = Pose(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.zeros(1, 3))
    inside, clear = sight(probe)(pose, torch.tensor([0]), torch.tensor([points], dtype=torch.float32))
    return inside[0].tolist(), clear[0].tolist()


def test_image_shows_what_lies_in_its_fan_and_thickness():
    fan = load_probe("C5-2v")
    edge = (fan.radius + 0.06) * np.sin(0.5 * fan.field_of_view), (fan.radius + 0.06) * np.cos(0.5 * fan.field_of_view)
    points = [[0.01, 0.0, 0.06], [0.01, 8e-4, 0.06], [0.01, 1e-3, 0.06], [0.0, 0.0, 0.121], [0.0, 0.0, -0.01]]
    points += [[share * edge[0], 0.0, edge[1] - fan.radius] for share in (0.99, 1.01)]
    assert look(points)[0] == [True, True, False, False, False, True, False]


def test_nothing_is_seen_behind_bone():
    points = [[-0.02, 0.0, 0.03], [-0.02, 0.0, 0.08], [0.02, 0.0, 0.08]]
    assert look(points) == ([True] * 3, [True, False, True])
    assert look(points, "flat75") == ([True] * 3, [True, False, True])


def test_compiled_sight_is_the_defined_one():
    random = torch.Generator().manual_seed(0)
    points = 0.13 * torch.rand(6, 2000, 3, generator=random) - torch.tensor([0.065, 0.065, 0.0])
    turn = so3.exp(0.4 * torch.randn(6, 3, generator=random))
    pose, index = Pose(turn, torch.zeros(6, 3)), torch.zeros(6, dtype=torch.int64)
    for probe in ("C5-2v", "L11-5v", "P4-2v"):
        for thickness in (0.0, 0.02):
            inside, clear = sight(probe)(pose, index, points, thickness)
            shown, free = sight(probe).reference(pose, index, points, thickness)
            assert 20 < free.sum() < shown.sum()
            assert (inside != shown).sum() <= 1  # on an edge, by rounding
            assert (clear != free).sum() <= 1


def test_points_not_yet_covered_are_counted_pose_by_pose():
    random = torch.Generator().manual_seed(0)
    views, covered = torch.rand(2, 5, 70, generator=random) < 0.3, torch.rand(4, 70, generator=random) < 0.5
    index = torch.tensor([1, 0, 1, 1])
    assert torch.equal(newly_seen(views, index, covered), (views[index] & ~covered[:, None]).float().sum(-1))


@pytest.mark.parametrize("target", ["kidney_left", "kidney_right", "aorta"])
def test_target_points_lie_in_their_own_organ(target):
    body = task_of().simulator.renderer.bodies[0]
    points = target_points([body], target)[0]
    stack = VolumeStack.from_volumes([body.tissues])
    voxel = stack.voxel(points[None], torch.tensor([0]))[0].round().long()
    assert set(body.tissues.voxels[0][tuple(voxel.T)].tolist()) <= {int(t) for t in TARGETS[target].tissues}
    if target.startswith("kidney"):
        assert (points[:, 0] > 0).all() == (target == "kidney_right")


def test_breathing_carries_the_target_along():
    task = task_of()
    state = task.simulator.reset(task.sample(streams(4)))
    moved = task._points_now(state) - task.points[state.anatomy_index]
    field = displacement(task.simulator.renderer.breathing, task.points[state.anatomy_index], state.anatomy_index)
    breath = task.simulator.breath(state)
    assert torch.allclose(moved, breath[:, None, None] * field)
    assert moved.norm(dim=-1).max() > 2e-3


def streams(count):
    from sonogym.random import Streams

    rows = torch.arange(count)
    return Streams(0, rows, torch.zeros_like(rows), torch.zeros_like(rows))


def test_what_was_seen_stays_covered_and_is_paid_once():
    env = vector(4)
    _, info = env.reset(seed=3)
    expert, before = ExpertPolicy(env), info["metric/covered"]
    for _ in range(30):
        _, _, terminated, _, info = env.step(expert.act({}, info))
        assert not terminated.any()
        gained = info["metric/covered"] - before
        assert (gained >= 0).all()
        assert np.allclose(info["reward/coverage"], 5.0 * gained, atol=1e-5)
        before = info["metric/covered"]
    assert (before > 0.1).all()


def test_a_nominal_scan_breaks_no_limit():
    """V23, the nominal half, over all costs, warnings and stops: a breathing patient, an arm, force control."""
    env = vector(4, patients="procedural:test/1", autoreset_mode="disabled")
    observation, info = env.reset(seed=0)
    expert, running, forces = ExpertPolicy(env), np.ones(4, bool), []
    while running.any():
        observation, _, terminated, truncated, info = env.step(expert.act(observation, info))
        for name in (f"cost/{term}" for term in SAFETY_TERMS[1:]):
            assert not info[name][running].any(), name
        assert not info["stop"][running].any()
        assert not any(info[f"time_over/{term}"][running].any() for term in SAFETY_TERMS)
        forces.append(info["force"][running])
        running &= ~(terminated | truncated)
        env.unwrapped._ended = torch.zeros_like(env.unwrapped._ended)
    assert ((np.concatenate(forces) >= 3.0) & (np.concatenate(forces) <= 8.0)).mean() > 0.99


def test_expert_covers_a_breathing_kidney_with_a_steady_force_and_random_does_not():
    options = {name: value for name, value in SMALL.items() if name != "patients"}
    seen = {
        policy: evaluate(
            "scanning", policy, patients="procedural:test/1", episodes=4, seed=0, num_envs=4, patient_count=1,
            environment=options,
        ).summary
        for policy in ("expert", "random")
    }  # fmt: skip
    assert seen["expert"]["success_rate"] == 1.0
    assert seen["expert"]["cost_mean"] == 0.0
    assert seen["expert"]["metrics"]["covered"]["mean"] > seen["random"]["metrics"]["covered"]["mean"] + 0.2
    assert seen["expert"]["metrics"]["force_in_band"]["mean"] > 0.99
    assert seen["expert"]["metrics"]["force_rmse"]["mean"] < 0.6


def test_bad_options_are_refused():
    with pytest.raises(InvalidInputError, match="contact must be True, got False"):
        scanning_config(contact=False)
    with pytest.raises(UnknownNameError, match=r"unknown target 'kidny_left'.*Did you mean"):
        scanning_config(target="kidny_left")
    with pytest.raises(SonogymError, match="force_band"):
        scanning_config(force_band=(8.0, 3.0))
    with pytest.raises(SonogymError, match="success_share"):
        scanning_config(success_share=90.0)
    with pytest.raises(InvalidInputError, match="no fan to look along"):
        Sight(voxels=muscle_with_a_plate(), transducer=load_probe("radial360"), depth=0.05)


def test_patient_without_the_organ_is_refused():
    body = task_of().simulator.renderer.bodies[0]
    bare = dataclasses.replace(body, landmarks={"liver": body.landmarks["liver"]})
    with pytest.raises(InvalidInputError, match="has no kidney_left to scan; known targets: "):
        target_points([bare], "kidney_left")
