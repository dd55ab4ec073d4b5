import dataclasses
import functools
import math

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from skin_phantom import PaintingRenderer, torso

from sonogym.envs.navigation import Navigation, navigation_config
from sonogym.envs.rewards import tolerance
from sonogym.envs.vector_env import SonogymVectorEnv
from sonogym.errors import InvalidInputError, UnknownNameError

BODIES = (torso(), torso(0.36, 0.24, tilt=0.1))
SPEEDS = np.array([0.03, 0.03, math.radians(30.0)])


@functools.cache
def task_of(bodies=BODIES, **options):
    """Tasks hold no state, so tests share them."""
    options = {"lines": 16, "samples": 16, **options}
    renderer = PaintingRenderer(bodies, options["lines"], options["samples"], options.get("probe", "C5-2v"))
    return Navigation(navigation_config(**options), renderer)


def make(num_envs, bodies=BODIES, array="numpy", autoreset_mode=AutoresetMode.SAME_STEP, **options):
    return SonogymVectorEnv(task_of(bodies, **options), num_envs, array=array, autoreset_mode=autoreset_mode)


def towards_goal(info, rate=10.0):
    """The privileged expert: proportional to what is left of the way, at most the speed limit."""
    return (info["privileged"][:, :3] * rate / SPEEDS).astype(np.float32)


def actions(steps, count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, count, 3)).astype(np.float32)


@pytest.mark.parametrize("plane", ["transverse_L4", "sagittal_L2", "transverse_T11", "kidney_left_long"])
def test_expert_reaches_the_goal_from_every_start(plane):
    env = make(128, plane=plane, observation=("probe_pose",))
    _, info = env.reset(seed=5)
    reached = np.zeros(128, dtype=bool)
    for _ in range(env.task.horizon - 1):
        _, _, terminated, _, info = env.step(towards_goal(info))
        reached |= terminated
        if reached.all():
            break
    assert reached.mean() >= 0.98


def test_goal_is_a_pose_the_motion_can_hold():
    task = task_of()
    goal = task.goals.pose
    after, held_back = task.simulator.motion.step(goal, torch.arange(2), torch.zeros(2, 3), 0.1)
    assert not held_back.any()
    assert (after.translation - goal.translation).norm(dim=-1).max() < 1e-5


def test_starts_fill_the_region_whatever_the_goal():
    env, other = (make(512, plane=plane, observation=("probe_pose",)) for plane in ("transverse_L4", "transverse_L1"))
    for each in (env, other):
        each.reset(seed=0)
    start, same = (each.state.sim.params.start.translation for each in (env, other))
    assert torch.allclose(start, same), "a start that moved with the goal would give it away"
    assert start[:, 2].min() < -0.055
    assert start[:, 2].max() > 0.12
    assert start[:, 0].abs().max() > 0.044
    share = ((start[:, 2] > 0.0) & (start[:, 2] < 0.066)).float().mean()
    assert abs(share - 1 / 3) < 0.07, "uniform along the spine"


def test_starts_are_at_most_60_degrees_from_the_goals_image_axis():
    env = make(256, observation=("probe_pose",))
    _, info = env.reset(seed=0)
    yaw = np.degrees(info["privileged"][:, 2])
    assert np.abs(yaw).max() < 66
    assert yaw.max() > 50
    assert yaw.min() < -50


def test_rewarded_approach_telescopes_to_the_drop_of_the_distance():
    env = make(8, observation=("probe_pose",))
    _, info = env.reset(seed=2)
    weights = env.task.config.reward

    def distance(info):
        return weights.position * info["position_error"] + weights.angle * info["angle_error"]

    first, total = distance(info), np.zeros(8)
    for action in actions(40, 8):
        _, _, _, _, info = env.step(action)
        total += info["reward/approach"]
    assert np.allclose(total, first - distance(info), atol=1e-4)


def test_reward_is_the_sum_of_bounded_terms():
    env = make(32, horizon=60)
    _, info = env.reset(seed=2)
    for _ in range(60):
        _, reward, terminated, _, info = env.step(towards_goal(info))
        terms = {name: value for name, value in info.items() if name.startswith("reward/")}
        assert set(terms) == {"reward/approach", "reward/precision", "reward/success", "reward/time"}
        assert np.allclose(sum(terms.values()), reward, atol=1e-6)
        assert all(np.abs(value).max() <= 1.0 for value in terms.values())
        assert (terms["reward/success"] == terminated).all()
        assert (info["cost"] == 0).all()


def test_success_needs_three_steps_within_tolerance():
    env = make(32, autoreset_mode="disabled", observation=("probe_pose",))
    _, info = env.reset(seed=1)
    within = np.zeros(32, dtype=int)
    for _ in range(40):
        _, _, terminated, _, info = env.step(towards_goal(info))
        near = (info["position_error"] <= 5e-3) & (info["angle_error"] <= math.radians(5))
        within = np.where(near, within + 1, 0)
        assert (terminated == (within >= 3)).all()
        assert (info["success"] == terminated).all()
        if terminated.any():
            _, info = env.reset(options={"reset_mask": terminated})
            within[terminated] = 0
    assert env._episode.sum() > 16, "the test must have seen successes"


def test_environment_has_the_same_episodes_whatever_the_number_of_environments():
    alone, several = make(1, horizon=7), make(5, horizon=7)
    seen, _ = alone.reset(seed=9)
    seen_too, _ = several.reset(seed=9)
    for action in actions(25, 5):
        for name in seen:
            assert np.allclose(seen[name][0].astype(float), seen_too[name][0], atol=2e-4 if name != "image" else 1)
        seen, reward, _, _, info = alone.step(action[:1])
        seen_too, reward_too, _, _, info_too = several.step(action)
        assert np.allclose(reward, reward_too[:1], atol=1e-4)
        assert np.allclose(info["privileged"], info_too["privileged"][:1], atol=2e-4)


def test_partial_reset_starts_the_masked_episodes_and_leaves_the_others():
    env = make(4, autoreset_mode="disabled", image_stack=3)
    before, _ = env.reset(seed=3)
    for action in actions(3, 4):
        before, *_ = env.step(action)
    poses = env.state.sim.patient_from_probe.translation
    mask = np.array([False, True, False, True])
    after, info = env.reset(options={"reset_mask": mask})
    for name in before:
        assert (before[name][~mask] == after[name][~mask]).all()
    assert (info["steps"] == np.where(mask, 0, 3)).all()
    assert not torch.allclose(env.state.sim.patient_from_probe.translation[mask], poses[mask])
    whole, _ = make(4, image_stack=3).reset(seed=3)
    assert not np.allclose(after["probe_pose"][1], before["probe_pose"][1])
    assert np.allclose(after["probe_pose"][1], whole["probe_pose"][1], atol=1e-6)


def test_episodes_do_not_depend_on_partial_resets_of_others():
    calm, disturbed = (make(3, autoreset_mode="disabled") for _ in range(2))
    for env in (calm, disturbed):
        env.reset(seed=4)
    disturbed.reset(options={"reset_mask": np.array([False, True, True])})
    for action in actions(5, 3):
        seen, seen_too = calm.step(action)[0], disturbed.step(action)[0]
        assert np.allclose(seen["probe_pose"][0], seen_too["probe_pose"][0], atol=1e-6)
    seen = [env.reset(options={"reset_mask": np.array([True, False, False])})[1] for env in (calm, disturbed)]
    assert np.allclose(seen[0]["privileged"][0], seen[1]["privileged"][0], atol=1e-5)


def test_same_step_autoreset_hands_out_the_last_observation_and_info():
    env, manual = make(2, horizon=4), make(2, horizon=4, autoreset_mode="disabled")
    env.reset(seed=0)
    manual.reset(seed=0)
    for action in actions(4, 2):
        seen, _, _, truncated, info = env.step(action)
        last, _, _, _, last_info = manual.step(action)
    assert truncated.all()
    assert info["_final_obs"].all()
    assert info["_final_info"].all()
    for name in last:
        assert (info["final_obs"][1][name] == last[name][1]).all()
    assert np.allclose(info["final_info"]["privileged"], last_info["privileged"])
    fresh, fresh_info = manual.reset()
    assert (seen["image"] == fresh["image"]).all()
    assert np.allclose(info["privileged"], fresh_info["privileged"])
    assert (info["steps"] == 0).all()
    assert (info["final_info"]["steps"] == 4).all()


def test_next_step_autoreset_resets_one_step_later_without_reward():
    env = make(2, horizon=3, autoreset_mode="next_step")
    env.reset(seed=0)
    flow = [env.step(action) for action in actions(5, 2)]
    assert [step[3].tolist() for step in flow] == [[False] * 2, [False] * 2, [True] * 2, [False] * 2, [False] * 2]
    assert (flow[3][1] == 0).all()
    assert [step[4]["steps"].tolist() for step in flow[2:]] == [[3, 3], [0, 0], [1, 1]]
    assert "final_obs" not in flow[2][4]
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


def test_without_autoreset_an_ended_episode_must_be_reset():
    env = make(2, horizon=1, autoreset_mode="disabled")
    env.reset(seed=0)
    env.step(actions(1, 2)[0])
    with pytest.raises(InvalidInputError, match=r"episodes \[0, 1\] have ended"):
        env.step(actions(1, 2)[0])


def test_image_stack_holds_the_last_images_oldest_first():
    single, stacked = make(3), make(3, image_stack=3)
    first, _ = single.reset(seed=1)
    seen, _ = stacked.reset(seed=1)
    assert (seen["image"] == first["image"]).all()
    frames = [first["image"]] * 3
    for action in actions(5, 3):
        frames.append(single.step(action)[0]["image"])
        seen = stacked.step(action)[0]
        assert (seen["image"] == np.concatenate(frames[-3:], axis=1)).all()


def test_no_action_changes_nothing_but_the_noise():
    env = make(4)
    before, info = env.reset(seed=0)
    after, reward, _, _, later = env.step(np.zeros((4, 3), np.float32))
    assert np.allclose(before["probe_pose"], after["probe_pose"], atol=2e-3)
    assert np.allclose(reward, -env.task.config.reward.time, atol=2e-3)
    assert (before["image"] != after["image"]).any()
    assert np.allclose(info["privileged"], later["privileged"], atol=2e-3)


def test_dead_reckoned_pose_starts_at_zero_and_reads_tenths_of_metres():
    env = make(4)
    seen, _ = env.reset(seed=0)
    assert np.abs(seen["probe_pose"]).max() < 1e-5
    for _ in range(10):
        seen, *_ = env.step(np.tile(np.float32([1, 0, 0]), (4, 1)))
    assert np.allclose(seen["probe_pose"][:, 0], 0.3, atol=0.03)


def test_torch_arrays_equal_the_numpy_ones():
    env, other = make(3, array="torch"), make(3)
    for action in (None, *actions(3, 3)):
        got = env.reset(seed=1) if action is None else env.step(torch.from_numpy(action))
        want = other.reset(seed=1) if action is None else other.step(action)
        assert isinstance(got[0]["image"], torch.Tensor)
        assert (got[0]["image"].numpy() == want[0]["image"]).all()
        assert np.allclose(got[-1]["position_error"].numpy(), want[-1]["position_error"])


def test_privileged_terms_are_seen_only_when_asked_for():
    assert set(make(1).reset(seed=0)[0]) == {"image", "probe_pose"}
    seen, info = make(2, observation=("goal", "privileged")).reset(seed=0)
    assert np.allclose(seen["privileged"], info["privileged"])
    assert np.allclose(seen["goal"][:, :2], 10 * info["privileged"][:, :2], atol=1e-5)


def test_without_images_nothing_is_rendered(monkeypatch):
    env = make(2, observation=("probe_pose",))
    monkeypatch.setattr(env.task.simulator.renderer, "render", None)
    env.reset(seed=0)
    env.step(actions(1, 2)[0])


def test_level_hit_names_the_vertebra_under_the_probe():
    env = make(64, observation=("probe_pose",))
    _, info = env.reset(seed=0)
    height = info["privileged"][:, 5]
    clear = np.abs(np.abs(height) - 0.0165) > 2e-3
    assert (info["level_hit"] == (np.abs(height) < 0.0165))[clear].all()


def test_running_into_the_border_costs():
    env = make(2, observation=("probe_pose",), max_linear_speed=0.15)
    env.reset(seed=0)
    for _ in range(40):
        *_, info = env.step(np.tile(np.float32([0, 1, 0]), (2, 1)))
    assert (info["cost"] == 1).all()
    assert (info["cost/workspace"] == 1).all()


def test_drawn_parameters_stay_within_their_ranges_and_differ():
    env = make(256, observation=("probe_pose",))
    env.reset(seed=0)
    params, ranges = env.state.sim.params, env.task.config.randomization
    for name in ("gain", "tgc", "dynamic_range"):
        low, high = getattr(ranges, name)
        value = getattr(params.image, name)
        assert value.min() >= low
        assert value.max() <= high
        assert value.std() > 0.2 * (high - low)
    assert set(params.anatomy_index.tolist()) == {0, 1}
    assert len(set(params.image.speckle_seed.tolist())) == len(set(params.image.noise_seed.tolist())) == 256


def test_published_recipe_is_the_published_task():
    config = navigation_config("published")
    assert (config.samples, config.lines, config.depth) == (200, 150, 0.10)
    assert (config.control_rate, config.horizon, config.patient_count) == (60.0, 600, 1)
    env = make(2, BODIES[:1], **{f.name: getattr(config, f.name) for f in dataclasses.fields(config)})
    seen, _ = env.reset(seed=0)
    assert seen["image"].shape == (2, 1, 200, 150)
    assert env.single_action_space.shape == (3,)


@pytest.mark.parametrize("plane", ["transverse_L4", "kidney_left_long", "kidney_left_short", "spleen"])
def test_every_plane_of_a_patient_has_a_goal_in_its_start_region(plane):
    task = task_of(plane=plane)
    points, goal = task.region.points, task.goals.pose.translation[:, None, None]
    assert (points - goal).norm(dim=-1).amin(dim=(1, 2)).max() < 0.02


def test_a_plane_that_a_patient_lacks_is_refused_with_those_it_has():
    with pytest.raises(UnknownNameError, match=r"plane of patient 'torso-0.3' 'liver'.*Known: .*transverse_L4"):
        task_of(plane="liver")


def test_a_goal_outside_the_imaged_skin_is_refused_by_the_patients_name():
    with pytest.raises(InvalidInputError, match=r"plane 'transverse_L4' of patient 'torso-0.3' is out of reach"):
        task_of(bodies=(torso(shift=-0.22),))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plane": "transverse_L9"}, "transverse_L4"),
        ({"recipe": "publised"}, "Did you mean 'published'"),
        ({"action_mode": "drive"}, "Known: surface, surface_tilt, twist"),
        ({"observation": ("image", "force")}, "term 'force' needs contact=True"),
        ({"robot": "cobot"}, "Known: bullet, kinematic"),
        ({"observation": ("image", "sound")}, "unknown observation term 'sound'"),
        ({"observation": ()}, "observation must list terms"),
        ({"horizon": 0}, "horizon must be in"),
        ({"success_distance": 5.0}, "millimetres"),
        ({"max_linear_speed": 30.0}, "mm/s"),
        ({"patient_count": 0}, "patient_count must be in"),
        ({"plan": "liver"}, "Did you mean 'plane'"),
        ({"randomization.gain": (5.0, -5.0)}, "gain"),
        ({"reward.time": -1.0}, "reward.time must be in"),
        ({"hold_steps": 0}, "hold_steps must be in"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises((InvalidInputError, UnknownNameError), match=message):
        task_of(**options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda env: env.step(np.zeros((2, 3))), "before step"),
        (lambda env: env.reset(seed=0) and env.step(np.zeros((3, 3))), r"shape \(2, 3\)"),
        (lambda env: env.reset(seed=0) and env.step(np.full((2, 3), np.nan)), "NaN"),
        (lambda env: env.reset(seed=-1), "seed must be"),
        (lambda env: env.reset(seed=[1, 2]), "seed must be"),
        (lambda env: env.reset() and env.reset(options={"reset_mask": np.zeros(2, bool)}), "at least one true"),
        (lambda env: env.reset() and env.reset(options={"reset_mask": np.ones(3, bool)}), "2 booleans"),
        (lambda env: env.reset() and env.reset(seed=1, options={"reset_mask": np.array([True, False])}), "leave out"),
    ],
)
def test_bad_calls_are_refused(call, message):
    with pytest.raises(InvalidInputError, match=message):
        call(make(2))


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (0, {}, "num_envs must be a whole number >= 1"),
        (2, {"array": "jax"}, "Known: numpy, torch"),
        (2, {"autoreset_mode": "never"}, "unknown autoreset mode"),
    ],
)
def test_bad_vector_options_are_refused(count, options, message):
    with pytest.raises((InvalidInputError, UnknownNameError), match=message):
        make(count, **options)


def test_tolerance_is_one_within_its_bound_and_a_tenth_a_margin_beyond():
    value = tolerance(torch.tensor([0.0, -1.0, 1.0, 3.0, -3.0, 100.0]), 1.0, 2.0)
    assert torch.allclose(value, torch.tensor([1.0, 1.0, 1.0, 0.1, 0.1, 0.0]), atol=1e-6)
