"""One checker over every registered task, through Gymnasium's front door and the real renderer."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.env_checker import check_env as check_env_of_sb3

import sonogym
from sonogym.errors import InvalidInputError, SonogymError, UnknownNameError
from sonogym.registry import TASKS

_TINY = {"patients": "procedural:test/0-1", "pitch": 3e-3, "lines": 40, "samples": 40, "horizon": 12}
SMALL = {"navigation": _TINY, "scanning": _TINY}


@pytest.fixture(params=sorted(TASKS))
def name(request):
    return request.param


def make(name, **options):
    return gymnasium.make(TASKS[name], **{**SMALL[name], **options})


def make_vector(name, num_envs, **options):
    options = {**SMALL[name], **options}
    return gymnasium.make_vec(TASKS[name], num_envs=num_envs, vectorization_mode="vector_entry_point", **options)


def test_every_task_is_listed_with_small_options_for_this_file():
    assert set(SMALL) == set(TASKS)
    assert sonogym.__version__


def test_single_environment_passes_gymnasiums_checker(name):
    env = make(name, render_mode="rgb_array")
    check_env(env.unwrapped)
    env.close()


def test_single_environment_passes_the_checker_of_stable_baselines(name):
    check_env_of_sb3(make(name).unwrapped)


def test_vector_environment_declares_its_autoreset_mode_and_spaces(name):
    env = make_vector(name, 3)
    assert isinstance(env.unwrapped, VectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert env.single_action_space.shape == env.action_space.shape[1:]
    assert info["privileged"].shape[0] == 3


def test_observations_stay_in_their_space_and_infos_are_whole(name):
    env = make_vector(name, 3)
    env.reset(seed=0)
    env.action_space.seed(0)
    for step in range(14):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        assert reward.shape == terminated.shape == truncated.shape == (3,)
        assert np.isfinite(reward).all()
        terms = [value for key, value in info.items() if key.startswith("reward/")]
        assert np.allclose(sum(terms), reward, atol=1e-5)
        assert (info["cost"] >= 0).all()
        assert ("final_obs" in info) == (terminated | truncated).any()
        assert step == 11 or not truncated.any()
    assert info["steps"].tolist() == [2, 2, 2]


def test_single_environment_is_the_first_of_the_vector_environment(name):
    single, vector = make(name), make_vector(name, 2)
    alone, _ = single.reset(seed=6)
    batch, _ = vector.reset(seed=6)
    for _ in range(5):
        for key, value in alone.items():
            differs = np.abs(value.astype(float) - batch[key][0]) > (1 if value.dtype == np.uint8 else 1e-4)
            assert differs.mean() < 2e-3
        alone, reward, *_ = single.step(np.full(single.action_space.shape, 0.5, np.float32))
        batch, rewards, *_ = vector.step(np.full(vector.action_space.shape, 0.5, np.float32))
        assert np.isclose(reward, rewards[0], atol=1e-4)


def test_same_seed_gives_the_same_episode_and_another_seed_another(name):
    env = make(name)
    first, again, other = (env.reset(seed=seed)[0] for seed in (1, 1, 2))
    assert all((first[key] == again[key]).all() for key in first)
    assert any((first[key] != other[key]).any() for key in first)


def test_episodes_of_one_stream_differ(name):
    env = make(name)
    first, _ = env.reset(seed=1)
    second, _ = env.reset()
    assert any((first[key] != second[key]).any() for key in first)


def test_rendered_frame_is_the_image_a_policy_sees(name):
    env = make(name, render_mode="rgb_array")
    observation, _ = env.reset(seed=1)
    frame = env.render()
    assert frame.shape == (40, 40, 3)
    assert (frame[:, :, 0] == observation["image"][0]).all()
    assert frame.std() > 5, "an image of a patient is not blank"


def test_images_show_different_patients_and_places(name):
    env = make_vector(name, 8)
    observation, info = env.reset(seed=0)
    images = observation["image"].reshape(8, -1).astype(float)
    assert len(np.unique(images, axis=0)) == 8
    assert len(set(info["patient"].tolist())) == 2


def test_environments_of_a_process_share_their_patients_in_memory(name):
    first, second = make(name), make_vector(name, 2)
    stacks = [env.unwrapped.task.simulator.renderer.voxels.flat for env in (first, second)]
    assert stacks[0].data_ptr() == stacks[1].data_ptr()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probe": "C5-2"}, "Did you mean 'C5-2v'"),
        ({"patients": "procedural:tst"}, "unknown patient split 'tst'"),
        ({"patients": "nowhere"}, "no patient 'nowhere'"),
        ({"pitch": 3.0}, "pitch must be in"),
        ({"depth": 150.0}, "depth must be in"),
        ({"lines": 1}, "lines must be in"),
        ({"colour": "red"}, "unknown option of NavigationConfig 'colour'"),
        ({"render_mode": "human"}, "unknown render mode 'human'"),
    ],
)
def test_bad_options_of_navigation_are_refused(options, message):
    with pytest.raises(SonogymError, match=message):
        make("navigation", **options)


def test_no_environments_are_refused(name):
    with pytest.raises(InvalidInputError, match="num_envs must be a whole number >= 1, got 0"):
        make_vector(name, 0)


def test_published_recipe_builds_and_steps():
    env = make_vector("navigation", 2, recipe="published", lines=150, samples=200, horizon=600)
    observation, _ = env.reset(seed=0)
    assert observation["image"].shape == (2, 1, 200, 150)
    assert env.unwrapped.task.simulator.control_period == pytest.approx(1 / 60)
    assert len(env.unwrapped.task.simulator.renderer.bodies) == 1


def test_unknown_recipe_is_refused():
    with pytest.raises(UnknownNameError, match="unknown recipe 'fast'"):
        make("navigation", recipe="fast")
